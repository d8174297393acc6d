//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

/// Longest part of a source line that [`render`] shows, in characters.
const SHOWN: usize = 160;

/// A finding at a place of the configuration: an error, or a note, as the list it is in says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1; a tab is one.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `12:7: message (hint)`: one line, without the path and the source, which [`render`] adds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// How bad a list of problems is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken; something in it does less than it seems to.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// The problems as a person reads them: each with its place, the line it is in, a caret and the hint. `text` is the
/// configuration that they were found in; `path` is only shown.
pub fn render(path: &Path, text: &str, problems: &[Problem], severity: Severity) -> String {
    let lines = source_lines(text);
    let mut out = String::new();
    for problem in problems {
        // Writing to a String cannot fail.
        let _ = render_one(&mut out, path, &lines, problem, severity);
    }
    out
}

fn render_one(
    out: &mut String,
    path: &Path,
    lines: &[&str],
    problem: &Problem,
    severity: Severity,
) -> fmt::Result {
    let Problem { line, column, message, hint } = problem;
    writeln!(out, "{}:{line}:{column}: {severity}: {message}", path.display())?;
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    if let Some(source) = lines.get((*line as usize).saturating_sub(1)) {
        let (source, caret) = window(source, (*column as usize).saturating_sub(1));
        writeln!(out, "{margin} |\n{number} | {source}\n{margin} | {caret}^")?;
    }
    if let Some(hint) = hint {
        writeln!(out, "{margin} = help: {hint}")?;
    }
    Ok(())
}

/// The part of a line around a column, and the white space that brings a caret under it: tabs stay tabs, so that both
/// lines are as wide in any terminal. Other control characters are shown as `?`.
fn window(line: &str, column: usize) -> (String, String) {
    let start = if line.chars().count() <= SHOWN { 0 } else { column.saturating_sub(SHOWN / 2) };
    let clean = |c: char| if c.is_control() && c != '\t' { '?' } else { c };
    let source: String = line.chars().skip(start).take(SHOWN).map(clean).collect();
    let mut caret: String =
        source.chars().take(column - start).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let missing = (column - start).saturating_sub(caret.chars().count()).min(1);
    caret.extend(std::iter::repeat_n(' ', missing));
    (source, caret)
}

/// The lines as YAML counts them: `\n`, `\r\n` and a lone `\r` end one.
fn source_lines(text: &str) -> Vec<&str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32, column: u32, hint: Option<&str>) -> Problem {
        Problem { line, column, message: "it is odd".into(), hint: hint.map(Into::into) }
    }

    #[test]
    fn a_problem_shows_its_line_a_caret_and_its_hint() {
        let text = "a: 1\r\n\tb: 2\n";
        let shown = render(Path::new("x.yaml"), text, &[problem(2, 2, Some("mend it"))], Severity::Error);
        assert_eq!(shown, "x.yaml:2:2: error: it is odd\n  |\n2 | \tb: 2\n  | \t^\n  = help: mend it\n");
    }

    #[test]
    fn places_outside_the_text_and_long_lines_are_shown_as_far_as_they_go() {
        let path = Path::new("x.yaml");
        assert_eq!(
            render(path, "", &[problem(9, 9, None)], Severity::Warning),
            "x.yaml:9:9: warning: it is odd\n"
        );
        assert!(render(path, "a", &[problem(1, 900, None)], Severity::Error).contains("\n  |   ^\n"));
        let long = "x".repeat(100_000);
        let shown = render(path, &long, &[problem(1, 50_000, None)], Severity::Error);
        assert!(shown.len() < 1_000, "{}", shown.len());
        assert!(shown.contains('^'));
    }

    #[test]
    fn one_line_without_the_source() {
        assert_eq!(problem(3, 4, Some("mend it")).to_string(), "3:4: it is odd (mend it)");
        assert_eq!(problem(3, 4, None).to_string(), "3:4: it is odd");
    }

    #[test]
    fn machines_read_the_same() {
        let json = serde_json::to_string(&problem(3, 4, None)).unwrap();
        assert_eq!(json, r#"{"line":3,"column":4,"message":"it is odd","hint":null}"#);
    }
}
