//! The configuration: YAML text → a tree that knows where each value stands → drafts, each value checked by itself → the
//! checked [`Config`].
//!
//! Everything that is wrong is reported at once, with its line and column and how to mend it. What is mere advice is a note:
//! a section that this version takes without acting upon it, VIPs without a service, services without real servers.
//!
//! A service takes what it leaves out from `defaults`; `persistence` and `timeouts` are taken key by key, and
//! `persistence: false` undoes what `defaults` gives. What neither gives is: `protocol: tcp`, `scheduler: wrr`, no
//! persistence (with it a timeout of 5m, and every client by itself), the timeouts of [`crate::model::Timeouts`],
//! `unserved: drop`, `sloppy: false`, a real server's `weight: 1`.

mod check;
mod check_values;
mod draft;
mod health;
mod heartbeat;
mod http;
mod net;
mod problem;
mod reader;
pub mod reference;
mod resolve;
mod scalar;
mod sections;
mod taker;
mod tree;
mod values;
mod watching;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::model::Config;

pub use heartbeat::node_name;
pub use problem::{Problem, Severity, render};

use reader::Reader;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What the operator should know of it, in the order of the text.
    pub notes: Vec<Problem>,
    /// The first 8 bytes of its text's SHA-256, the highest first: directors of a cluster compare it.
    pub hash: u64,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in the system's words or ours.
        reason: String,
    },
    /// The file is wrong.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is in it, for showing the lines.
        text: String,
        /// Everything that is wrong with it, in the order of the text; never empty.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for Failure {
    /// Everything, over several lines, as [`render`] shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreadable { path, reason } => write!(f, "cannot read {}: {reason}", path.display()),
            Failure::Invalid { path, text, problems } => {
                f.write_str(&render(path, text, problems, Severity::Error))?;
                let s = if problems.len() == 1 { "" } else { "s" };
                write!(f, "{}: {} error{s}", path.display(), problems.len())
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Reads a file and checks it.
///
/// # Errors
/// The file cannot be read or is not UTF-8, or the configuration in it is wrong.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let unreadable = |reason: String| Failure::Unreadable { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to() + 1))
    })?;
    parse(&text).map_err(|problems| Failure::Invalid { path: path.to_owned(), text, problems })
}

/// Checks a text.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text; never empty.
pub fn parse(text: &str) -> Result<Loaded, Vec<Problem>> {
    let mut reader = Reader::default();
    let config = yaml::parse(text, &mut reader).and_then(|tree| sections::config(&mut reader, &tree));
    let Reader { mut errors, mut notes } = reader;
    for list in [&mut errors, &mut notes] {
        list.sort();
        list.dedup();
    }
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, notes, hash: hash(text) }),
        _ => Err(errors),
    }
}

fn hash(text: &str) -> u64 {
    Sha256::digest(text).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod doc_examples;
#[cfg(test)]
mod tests;
