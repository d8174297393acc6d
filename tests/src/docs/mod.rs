//! The documentation as it is to who follows it: commands to type and files to write, and how each of them is checked.
//!
//! `cargo xtask tidy` finds whatever has no place in the two tables here; `tests/tests/operate/guide/` runs what can be run.

mod markdown;
mod shell;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use markdown::{Block, blocks, spans};
pub use shell::commands;

/// How something that the documentation has is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `cargo xtask tidy` reads it as the program itself does.
    Read,
    /// `tests/tests/operate/guide/` does in a lab what it says, wherever it stands.
    Run,
    /// By other tests, which these are.
    By(&'static str),
    /// Not at all, and why not.
    Not(&'static str),
}

use How::{By, Not, Read, Run};

/// The programs whose commands stand in the documentation.
pub const PROGRAMS: [(&str, How); 32] = [
    ("director", Read),
    // `cargo xtask` by its own command line; packages, tests and versions by what there is.
    ("cargo", Read),
    ("director-real-server", Run),
    ("install", Run),
    ("ip", Run),
    ("sysctl", Run),
    ("ethtool", Run),
    ("bpftool", Run),
    ("curl", Run),
    // Together they make the heartbeat's key.
    ("umask", Run),
    ("echo", Run),
    ("openssl", Run),
    (
        "apt",
        By(
            "the quick start's test; packages are installed, upgraded and removed in operate/package.rs, by dpkg",
        ),
    ),
    ("dpkg", By("operate/package.rs")),
    ("systemctl", Not("no systemd runs in a lab; the tests start and stop the service as its unit says")),
    ("journalctl", Not("no journald runs in a lab; unit tests of the log hold what it is sent")),
    ("networkctl", Not("no systemd runs in a lab")),
    ("netplan", Not("it wants systemd; its file is read as YAML")),
    ("ifup", Not("it would configure this machine; the test has it read the file with --no-act")),
    ("systemd-analyze", Not("its verdict is of one release of systemd")),
    ("editor", Not("it is for people")),
    ("ssh", Not("it is another machine's; the test asks for the address that it leads to")),
    ("rustup", Not("toolchains are not the tests' to change")),
    ("jq", Not("a filter of the reader's choice")),
    ("ls", Not("it finds what a release build made")),
    ("head", Not("it shortens what another command prints")),
    ("less", Not("it is for people")),
    ("kill", Not("with a process of the reader's; the tests send the same signals")),
    ("llvm-objdump", Not("it is in no package that anything else here needs")),
    ("wrk", By("the lab's own tests, which install it and run it in the same way")),
    ("tcpdump", Not("it runs until somebody ends it; `cargo xtask setup` installs it")),
    ("tar", By("the package's tests, which install the same files")),
];

/// What blocks with a fence are of. A block that is only indented has commands.
pub const LANGUAGES: [(&str, How); 7] = [
    // The director's configuration, in the guide and in README.md; netplan's, beside the script for real servers.
    ("yaml", By("director/src/config/doc_examples.rs, and operate/guide/ where it is not the director's")),
    // Each begins with the path where it is to be written.
    ("ini", Run),
    ("interfaces", Run),
    ("nginx", Run),
    ("named", Run),
    ("json", Run),
    ("text", Not("drawings, what programs print, and what other products' files looked like")),
];

/// How the commands of a program are checked, if it is known.
pub fn program(name: &str) -> Option<How> {
    PROGRAMS.iter().find(|(known, _)| *known == name).map(|(_, how)| *how)
}

/// How a fenced block is checked, if its language is known.
pub fn language(name: &str) -> Option<How> {
    LANGUAGES.iter().find(|(known, _)| *known == name).map(|(_, how)| *how)
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its place in the project.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Page {
    /// Reads one, by its place in the project.
    pub fn read(path: &str) -> Result<Page> {
        let file = project().join(path);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Page { path: path.into(), text })
    }

    /// All pages that tell people what to do.
    pub fn all() -> Result<Vec<Page>> {
        let mut pages = vec![Page::read("README.md")?, Page::read("CONTRIBUTING.md")?];
        pages.push(Page::read("deploy/real-server/README.md")?);
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(project().join("docs/guide"))? {
            names.push(entry?.path());
        }
        names.sort();
        for name in names.iter().filter(|name| name.extension().is_some_and(|end| end == "md")) {
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            pages.push(Page::read(&format!("docs/guide/{name}"))?);
        }
        Ok(pages)
    }

    /// Its blocks, in their order.
    pub fn blocks(&self) -> Vec<Block> {
        blocks(&self.text)
    }

    /// The blocks below a title that begins so.
    pub fn below(&self, title: &str) -> Result<Vec<Block>> {
        let found: Vec<Block> =
            self.blocks().into_iter().filter(|block| block.title.starts_with(title)).collect();
        anyhow::ensure!(!found.is_empty(), "{} has no block below \"{title}\"", self.path);
        Ok(found)
    }
}

/// Where the project's files are.
pub fn project() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_nothing_twice_and_nothing_that_is_not_there() {
        for (index, (name, _)) in PROGRAMS.iter().enumerate() {
            assert!(PROGRAMS[..index].iter().all(|(other, _)| other != name), "{name}");
        }
        let pages = Page::all().unwrap();
        let lines = pages.iter().flat_map(Page::blocks).filter(Block::is_commands).map(|block| block.text);
        let lines: Vec<String> =
            lines.chain(pages.iter().flat_map(|page| spans(&page.text)).map(|(_, text)| text)).collect();
        let named: Vec<String> = lines
            .iter()
            .flat_map(|text| text.lines().flat_map(commands))
            .flat_map(|words| [words.first().cloned(), words.get(5).cloned()])
            .flatten()
            .collect();
        for (name, _) in PROGRAMS {
            assert!(named.iter().any(|other| other == name), "no page has a command of {name} any more");
        }
        let blocks: Vec<Block> = pages.iter().flat_map(Page::blocks).collect();
        for (name, _) in LANGUAGES {
            assert!(blocks.iter().any(|block| block.language.as_deref() == Some(name)), "{name}");
        }
    }
}
