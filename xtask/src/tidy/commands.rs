//! The rule for command lines in the documentation: `director …` and `cargo xtask …` are understood as they stand there.

use clap::Parser;

use super::{Finding, Source};

/// Words in capitals that stand for a value which is not just any word: what follows them is looked at, too.
const STAND_INS: [(&str, &str); 4] =
    [("N", "1"), ("REAL", "192.0.2.21"), ("STATE", "established"), ("FORMAT", "json")];
/// The programs whose options documentation may name by themselves, `--like-this`, and how commands of them begin.
const PROGRAMS: [&str; 2] = ["director", "cargo xtask"];

pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for command in commands(line) {
            if let Err(reason) = understood(&command)
                && !is_stand_in(&reason)
            {
                findings.push(source.finding(number + 1, format!("`{command}`: {reason}")));
            }
        }
    }
    findings
}

/// What stands in a line as a command: in backticks, or as a whole in a block of code.
fn commands(line: &str) -> Vec<String> {
    let quoted = line.split('`').skip(1).step_by(2).map(str::to_owned);
    let trimmed = line.trim_start();
    let indented = line.len() - trimmed.len() >= 4 || line == trimmed && !line.contains('`');
    // Prose that happens to begin with such a word is no command: it goes on in words.
    let whole = (indented && !trimmed.starts_with('|')).then(|| trimmed.to_owned());
    let parts = quoted.chain(whole.into_iter().filter(|line| !is_prose(line)));
    parts.flat_map(|text| simple_commands(&text)).collect()
}

fn is_prose(line: &str) -> bool {
    let second = line.split_whitespace().nth(1).unwrap_or_default();
    line.starts_with("director ")
        && director::cli::understands(&[second]).is_err()
        && !second.starts_with('-')
}

/// The parts of a shell's line that are commands of ours, without prompt, variables, comments and redirections.
fn simple_commands(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let parts = line.split("&&").flat_map(|part| part.split([';', '|', '>', '…']));
    parts
        .filter_map(|part| {
            let mut rest = part.trim().trim_start_matches("$ ").trim_start_matches("# ");
            while let Some((word, after)) = rest.split_once(' ') {
                let variable = word.contains('=') && !word.starts_with('-');
                if word != "sudo" && word != "exec" && !variable {
                    break;
                }
                rest = after.trim_start();
            }
            let ours =
                PROGRAMS.iter().any(|name| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
            ours.then(|| rest.to_owned())
        })
        .collect()
}

fn understood(command: &str) -> Result<(), String> {
    let words: Vec<&str> = command.split_whitespace().map(stand_in).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        // "COMMAND" is any of them.
        ["director", "COMMAND", ..] => Ok(()),
        ["director", rest @ ..] => director::cli::understands(rest),
        ["cargo", "xtask", rest @ ..] => {
            let whole = std::iter::once("cargo xtask").chain(rest.iter().copied());
            director::cli::understood(crate::Arguments::try_parse_from(whole).map(drop))
        }
        _ => Ok(()),
    }
}

/// Whether what is wrong is just that a value is a word like FILE, which stands for one.
fn is_stand_in(reason: &str) -> bool {
    let value = reason.strip_prefix("invalid value '").and_then(|rest| rest.split('\'').next());
    value.is_some_and(|value| value.bytes().all(|byte| byte.is_ascii_uppercase() || b"_-".contains(&byte)))
}

/// A word as it might be typed: `[--limit N]` is `--limit 1`.
fn stand_in(word: &str) -> &str {
    let optional = word.starts_with("[-") || word.ends_with(']') && !word.contains("[2001");
    let bare = if optional || word.starts_with('[') && !word.contains(':') {
        word.trim_matches(['[', ']'])
    } else {
        word
    };
    let bare = bare.trim_end_matches([',', '.']).trim_matches(['"', '\'']);
    STAND_INS.iter().find(|(name, _)| *name == bare).map_or(bare, |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        check(&Source { path: "a.md".into(), text: text.into() }).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn commands_that_exist_are_fine_however_they_stand_there() {
        let fine = "Run `director flows --service NAME`, `director flows --limit COUNT`, `director drain`, or `director COMMAND --help`.\n\
                    director of the pair, which goes on in words\n\
                    | `director status --json` | `cargo xtask test unit` |\n\
                    \x20   director probe SERVICE [REAL] [--json]\n\
                    \x20   director weight SERVICE REAL N     # 0 to 65535\n\
                    \x20   RUST_LOG=debug sudo director run --log debug > log && director status --json | jq .\n\
                    \x20   director drain web [2001:db8::1]:80\n";
        assert_eq!(messages(fine), Vec::<String>::new());
    }

    #[test]
    fn options_and_commands_that_do_not_exist_are_found() {
        let bad = "`director flows --nonsense`\n    cargo xtask test nonsense\n\n    director status && director stop --nonsense\n\
                   ```\ndirector probe web --nonsense\n```\n`director nonsense`\n    director weight a b 70000\n";
        let found = messages(bad);
        let lines: Vec<&str> = found.iter().filter_map(|text| text.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "2", "4", "6", "8", "9"], "{found:#?}");
        assert!(found[0].contains("unexpected argument '--nonsense'"), "{found:#?}");
    }
}
