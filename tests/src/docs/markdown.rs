//! What of Markdown the documentation uses: blocks of code and code in lines. Pure.

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The title above it, without its marks.
    pub title: String,
    /// The line that its text begins in, from 1.
    pub line: usize,
    /// What its fence says; `None` if it is indented instead.
    pub language: Option<String>,
    /// Its text, without indentation.
    pub text: String,
}

impl Block {
    /// Its lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (self.line + index, line))
    }

    /// Whether it has commands.
    pub fn is_commands(&self) -> bool {
        self.language.is_none()
    }
}

/// The blocks of a page, in their order.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    for (index, line) in markdown.lines().enumerate() {
        reader.read(index + 1, line);
    }
    for block in &mut reader.blocks {
        block.text.truncate(block.text.trim_end().len());
    }
    reader.blocks
}

/// Code in lines, `like this`, with the line that it begins in. It may go on in the next line, but not beyond its paragraph.
pub fn spans(markdown: &str) -> Vec<(usize, String)> {
    let mut reader = Reader::default();
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in markdown.lines().enumerate() {
        reader.read(index + 1, line);
        if reader.is_code() || line.trim().is_empty() {
            open = None;
            continue;
        }
        if let Some((_, text)) = &mut open {
            text.push(' ');
        }
        let mut parts = line.trim().split('`');
        let mut next = parts.next();
        while let Some(part) = next {
            if let Some((_, text)) = &mut open {
                text.push_str(part);
            }
            next = parts.next();
            if next.is_some() {
                open = match open.take() {
                    Some(span) => {
                        found.push(span);
                        None
                    }
                    None => Some((index + 1, String::new())),
                };
            }
        }
    }
    found
}

/// Where a reader is, between one line and the next.
#[derive(Default, PartialEq, Eq)]
enum Place {
    /// After a blank line, a title or a block: an indented one may begin.
    #[default]
    Between,
    Paragraph,
    /// In a block, whose lines begin in this column.
    Fenced(usize),
    /// After the line that ends one.
    FenceEnd,
    Indented(usize),
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    title: String,
    place: Place,
    /// The columns in which the texts of the list items begin that are open.
    items: Vec<usize>,
}

impl Reader {
    /// Whether the last line belongs to a block of code.
    fn is_code(&self) -> bool {
        matches!(self.place, Place::Fenced(_) | Place::FenceEnd | Place::Indented(_))
    }

    fn read(&mut self, number: usize, line: &str) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Place::Fenced(column) = self.place {
            if text.starts_with("```") {
                self.place = Place::FenceEnd;
            } else {
                self.push(line, column);
            }
            return;
        }
        if text.is_empty() {
            match self.place {
                Place::Indented(_) => self.push("", 0),
                _ => self.place = Place::Between,
            }
            return;
        }
        self.items.retain(|column| *column <= indent);
        let column = self.items.last().map_or(4, |column| column + 4);
        match self.place {
            Place::Indented(column) if indent >= column => return self.push(line, column),
            Place::Between | Place::FenceEnd if indent >= column => {
                self.begin(number, None);
                self.place = Place::Indented(column);
                return self.push(line, column);
            }
            _ => {}
        }
        if let Some(language) = text.strip_prefix("```") {
            self.begin(number + 1, Some(language.trim().to_owned()));
            self.place = Place::Fenced(indent);
        } else if text.starts_with('#') {
            text.trim_start_matches('#').trim().clone_into(&mut self.title);
            self.place = Place::Between;
        } else {
            self.items.extend(item(text).map(|width| indent + width));
            self.place = Place::Paragraph;
        }
    }

    fn begin(&mut self, line: usize, language: Option<String>) {
        self.blocks.push(Block { title: self.title.clone(), line, language, text: String::new() });
    }

    fn push(&mut self, line: &str, column: usize) {
        let indent = line.len() - line.trim_start().len();
        if let Some(block) = self.blocks.last_mut() {
            block.text.push_str(&line[column.min(indent)..]);
            block.text.push('\n');
        }
    }
}

/// How wide the mark of a list item is, with the blank after it, if the line begins with one.
fn item(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mark = if digits == 0 { 1 } else { digits + 1 };
    let is_mark = match digits {
        0 => text.starts_with(['-', '*', '+']),
        _ => text[digits..].starts_with('.'),
    };
    (is_mark && text[mark..].starts_with(' ')).then_some(mark + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# One\n\n    first 1\n\n      first 2\n\ntext\n    of a paragraph\n\n## Two: `x`\n```yaml\na: 1\n\n  b: 2\n```\n\
        - an item\n  goes on\n\n    and on\n\n      second\n\n  ```ini\n  [A]\n    b=1\n  ```\n\ntext\n\n    third\n";

    #[test]
    fn blocks_are_found_with_what_is_above_them() {
        let found = blocks(PAGE);
        let seen: Vec<(&str, usize, Option<&str>, &str)> = found
            .iter()
            .map(|block| (&block.title[..], block.line, block.language.as_deref(), &block.text[..]))
            .collect();
        assert_eq!(
            seen,
            [
                ("One", 3, None, "first 1\n\n  first 2"),
                ("Two: `x`", 12, Some("yaml"), "a: 1\n\n  b: 2"),
                ("Two: `x`", 21, None, "second"),
                ("Two: `x`", 24, Some("ini"), "[A]\n  b=1"),
                ("Two: `x`", 30, None, "third"),
            ]
        );
        assert_eq!(found[0].lines().last(), Some((5, "  first 2")));
        assert!(found[0].is_commands() && !found[1].is_commands());
    }

    #[test]
    fn code_in_lines_may_go_on_in_the_next_one() {
        let page = "a `b c` and `d\ne` f `g`\n\n    `no`\n\nan odd ` here\n\n| `h` | `i` |\n```\n`no`\n```\n";
        let found: Vec<(usize, String)> = spans(page);
        let seen: Vec<(usize, &str)> = found.iter().map(|(line, text)| (*line, &text[..])).collect();
        assert_eq!(seen, [(1, "b c"), (1, "d e"), (2, "g"), (8, "h"), (8, "i")]);
    }
}
