//! A shell's line taken apart, as far as the documentation uses the shell. Pure.

use std::iter::Peekable;
use std::str::Chars;

/// The commands of a line as their words, in the order in which they end: also those of pipes, subshells and substitutions. Left out
/// are comments, where output goes, and what may stand before a command: a prompt, variables, `sudo`, `env`, `exec`.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let mut shell = Shell { letters: line.chars().peekable(), found: Vec::new() };
    shell.list();
    shell.found
}

/// What stands in a word for the output of a command.
const SUBSTITUTED: &str = "$()";

struct Shell<'a> {
    letters: Peekable<Chars<'a>>,
    found: Vec<Vec<String>>,
}

/// The command that is being read.
#[derive(Default)]
struct Command {
    words: Vec<String>,
    word: Option<String>,
    /// The next word says where output goes.
    redirected: bool,
}

impl Shell<'_> {
    /// Reads to the end of the line, or of the parentheses.
    fn list(&mut self) {
        let mut command = Command::default();
        let mut quote = None;
        while let Some(letter) = self.letters.next() {
            match (quote, letter) {
                (Some(mark), _) if mark == letter => quote = None,
                (None | Some('"'), '$') if self.letters.next_if_eq(&'(').is_some() => {
                    self.list();
                    command.word().push_str(SUBSTITUTED);
                }
                (Some(_), _) => command.word().push(letter),
                (None, '"' | '\'') => {
                    quote = Some(letter);
                    command.word();
                }
                (None, ')') => break,
                (None, '(') => self.list(),
                (None, '#') if command.word.is_none() => while self.letters.next().is_some() {},
                (None, ';' | '|' | '&' | '…') => self.found.extend(std::mem::take(&mut command).finish()),
                (None, '>') => {
                    command.end_word();
                    command.redirected = true;
                }
                (None, _) if letter.is_whitespace() => command.end_word(),
                (None, _) => command.word().push(letter),
            }
        }
        self.found.extend(command.finish());
    }
}

impl Command {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if !std::mem::take(&mut self.redirected) {
            self.words.push(word);
        }
    }

    fn finish(mut self) -> Option<Vec<String>> {
        self.end_word();
        let is_before = |word: &String| {
            let name = word.split_once('=').map(|(name, _)| name);
            let variable = name
                .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
            variable || ["$", "sudo", "-E", "env", "exec"].contains(&&word[..])
        };
        let words: Vec<String> = self.words.into_iter().skip_while(is_before).collect();
        (!words.is_empty()).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(line: &str) -> Vec<String> {
        commands(line).iter().map(|words| words.join("|")).collect()
    }

    #[test]
    fn a_line_is_taken_apart_as_a_shell_does() {
        for (line, expected) in [
            ("director status  # or: director top", &["director|status"][..]),
            ("$ A=1 B='2 3' sudo -E env \"PATH=$PATH\" cargo xtask demo", &["cargo|xtask|demo"]),
            (
                "director doctor --json | jq '.a[] | .b == \"c\"'",
                &["director|doctor|--json", "jq|.a[] | .b == \"c\""],
            ),
            ("director schema > /etc/x && ls a; head -1", &["director|schema", "ls|a", "head|-1"]),
            (
                "(umask 077; echo \"1 $(openssl rand -hex 32)\" > /etc/key)   # once",
                &["umask|077", "openssl|rand|-hex|32", "echo|1 $()"],
            ),
            ("object=$(ls -t a/*/b | head -1)", &["ls|-t|a/*/b", "head|-1"]),
            (
                "ip route add 2001:db8::/32 via fe80::1%eth0 table=5",
                &["ip|route|add|2001:db8::/32|via|fe80::1%eth0|table=5"],
            ),
            ("# only words", &[]),
        ] {
            assert_eq!(joined(line), expected, "{line}");
        }
    }
}
