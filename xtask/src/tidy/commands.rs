//! The rule for commands in the documentation: each is of a program that is known to be checked somehow, and `director …` and `cargo …`
//! are understood as they stand there. `tests::docs` has the table of programs, and of the languages of blocks.

use ::tests::docs;
use clap::Parser;

use super::{Finding, Source};
use crate::setup;

/// Words in capitals that stand for a value which is not just any word: what follows them is looked at, too.
const STAND_INS: [(&str, &str); 4] =
    [("N", "1"), ("REAL", "192.0.2.21"), ("STATE", "established"), ("FORMAT", "json")];
/// Where the table is that lacks something.
const TABLE: &str = "tests/src/docs/mod.rs says how each is checked";

pub fn check(source: &Source, all: &[Source], exists: &impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut examine = |number: usize, words: &[String], is_sure: bool| {
        if let Err(reason) = examine(words, is_sure, all, exists)
            && !is_stand_in(&reason)
        {
            findings.push(source.finding(number, format!("`{}`: {reason}", words.join(" "))));
        }
    };
    for (number, text) in docs::spans(&source.text) {
        docs::commands(&text).iter().for_each(|words| examine(number, words, false));
    }
    for block in docs::blocks(&source.text).iter().filter(|block| block.is_commands()) {
        for (number, line) in block.lines() {
            docs::commands(line).iter().for_each(|words| examine(number, words, true));
        }
    }
    for block in docs::blocks(&source.text) {
        let Some(language) = &block.language else { continue };
        if docs::language(language).is_none() {
            let message =
                format!("a block of {language:?}, which is not known: {TABLE}; commands are only indented");
            findings.push(source.finding(block.line - 1, message));
        }
    }
    findings
}

/// What is wrong with a command. One in the middle of a line may be something else: only what begins as ours do is looked at.
fn examine(
    words: &[String],
    is_sure: bool,
    all: &[Source],
    exists: &impl Fn(&str) -> bool,
) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(|word| stand_in(word)).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        // "COMMAND" is any of them.
        ["director", "COMMAND", ..] => Ok(()),
        ["director", rest @ ..] => director::cli::understands(rest),
        ["cargo", "xtask", rest @ ..] => {
            let whole = std::iter::once("cargo xtask").chain(rest.iter().copied());
            director::cli::understood(crate::Arguments::try_parse_from(whole).map(drop))?;
            match rest {
                ["lab", "exec", _, program, ..] => known(program),
                _ => Ok(()),
            }
        }
        ["cargo", rest @ ..] => cargo(rest, all, exists),
        [program, ..] if is_sure => known(program),
        _ => Ok(()),
    }
}

fn known(program: &str) -> Result<(), String> {
    docs::program(program).map(drop).ok_or_else(|| format!("{program} is no known program: {TABLE}"))
}

/// What is wrong with a command of cargo's own, as far as the project decides that.
fn cargo(words: &[&str], all: &[Source], exists: &impl Fn(&str) -> bool) -> Result<(), String> {
    match words {
        ["build" | "test", rest @ ..] => named(rest, all, exists),
        ["install", "bpf-linker", ..] if words != setup::LINKER => {
            Err(format!("the project wants cargo {}", setup::LINKER.join(" ")))
        }
        ["+nightly", "fuzz", "run", target, ..] => {
            let file = format!("fuzz/fuzz_targets/{target}.rs");
            if exists(&file) { Ok(()) } else { Err(format!("there is no {file}")) }
        }
        [] | ["install" | "fmt" | "clippy" | "deny", ..] => Ok(()),
        _ => Err("no command of cargo's that the project uses".into()),
    }
}

/// Whether there are the packages and tests that options and filters of `cargo build` and `cargo test` name.
fn named(words: &[&str], all: &[Source], exists: &impl Fn(&str) -> bool) -> Result<(), String> {
    let mut package = None;
    let mut words = words.iter().take_while(|word| **word != "--");
    while let Some(word) = words.next() {
        match *word {
            "-p" | "--package" => {
                let name = words.next().ok_or("which package?")?;
                if !exists(&format!("{name}/Cargo.toml")) {
                    return Err(format!("there is no package {name}"));
                }
                package = Some(name);
            }
            "--test" => {
                let name = words.next().ok_or("which test?")?;
                let package = package.ok_or("a test of which package?")?;
                let files = [format!("{package}/tests/{name}.rs"), format!("{package}/tests/{name}/main.rs")];
                if !files.iter().any(|file| exists(file)) {
                    return Err(format!("there is no {}", files.join(" or ")));
                }
            }
            option if option.starts_with('-') => {}
            filter => {
                let name = filter.rsplit("::").next().unwrap_or(filter);
                let names = [format!("fn {name}"), format!("mod {name}")];
                if !all.iter().any(|source| {
                    source.path.ends_with(".rs") && names.iter().any(|name| source.text.contains(name))
                }) {
                    return Err(format!("no test and no module is named {name}"));
                }
            }
        }
    }
    Ok(())
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

    const TEST: &str = "fn kills_and_restarts() {}\nmod reconcile;\n";
    const FILES: [&str; 4] = [
        "tests/Cargo.toml",
        "director/Cargo.toml",
        "tests/tests/e2e/main.rs",
        "fuzz/fuzz_targets/heartbeat.rs",
    ];

    fn messages(text: &str) -> Vec<String> {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let all = [source("a.md", text), source("tests/tests/e2e/main.rs", TEST)];
        check(&all[0], &all, &|path| FILES.contains(&path)).iter().map(ToString::to_string).collect()
    }

    /// The lines that findings are in.
    fn lines(text: &str) -> Vec<usize> {
        let number = |message: &String| message.split(':').nth(1)?.parse().ok();
        let mut lines: Vec<usize> = messages(text).iter().filter_map(number).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn commands_that_exist_are_fine_however_they_stand_there() {
        let fine = "Run `director flows --service NAME`, `director flows --limit COUNT`, `director drain`, or `director COMMAND --help`.\n\
                    director of the pair, which goes on in words, and `director\nstatus`\n\
                    | `director status --json` | `cargo xtask test unit` |\n\
                    \n\
                    \x20   director probe SERVICE [REAL] [--json]\n\
                    \x20   director weight SERVICE REAL N     # 0 to 65535\n\
                    \x20   RUST_LOG=debug sudo director run --log debug > log && director status --json | jq .\n\
                    \x20   director drain web [2001:db8::1]:80\n\
                    \x20   cargo xtask lab exec client curl -s http://192.0.2.10/\n";
        assert_eq!(messages(fine), Vec::<String>::new());
    }

    #[test]
    fn options_and_commands_that_do_not_exist_are_found() {
        let bad = "`director flows --nonsense`\n\n    cargo xtask test nonsense\n\n    director status && director stop --nonsense\n\
                   \n`director nonsense` and `director\nnonsense`\n\n    director weight a b 70000\n";
        assert_eq!(lines(bad), [1, 3, 5, 7, 7, 10]);
        assert!(messages(bad)[0].contains("unexpected argument '--nonsense'"), "{:#?}", messages(bad));
    }

    #[test]
    fn a_misspelt_command_in_a_block_is_no_prose() {
        assert_eq!(lines("\n    director stauts\n    directr status\n    nonsense now\n"), [2, 3, 4]);
        assert_eq!(lines("- so:\n\n      director stauts\n"), [3]);
        assert_eq!(lines("\n    cargo xtask lab exec client nonsense\n"), [2]);
    }

    #[test]
    fn what_cargo_is_to_build_and_test_exists() {
        let fine = "\n    cargo test -p tests --test e2e kills_and_restarts -- --nocapture\n    cargo test -p director --lib a::reconcile\n    \
                    cargo +nightly fuzz run heartbeat -- -max_len=3000\n    cargo install bpf-linker --version 0.10.3 --locked\n";
        assert_eq!(messages(fine), Vec::<String>::new());
        let bad = "\n    cargo test -p test\n    cargo test -p tests --test nonsense\n    cargo test -p tests --test e2e nonsense\n    \
                   cargo +nightly fuzz run nonsense\n    cargo install bpf-linker\n    cargo nonsense\n";
        assert_eq!(lines(bad), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn every_block_with_a_fence_says_what_it_is() {
        assert_eq!(lines("```text\na\n```\n\n```\ndirector status\n```\n\n```pascal\nb\n```\n"), [5, 9]);
    }
}
