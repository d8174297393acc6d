//! `director doctor`: looks at a machine and its farm, and says what is wrong and what to do about it.
//!
//! [`gather`] collects facts, and is the only part that asks anybody. Everything else is pure: facts in, findings out, one
//! file a topic. Nothing is changed, nothing is claimed; questions to the network come from this machine's own addresses, or
//! from none.

pub mod facts;
pub mod gather;

mod cluster;
mod interfaces;
mod reals;
mod routes;
mod system;
#[cfg(test)]
mod tests;
mod vips;

use serde::Serialize;

use facts::Facts;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works now, or in part; it should be mended.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A word that stays the same from version to version, for programs.
    pub topic: &'static str,
    /// Which interface, address, file or director it is about; empty: this machine.
    pub at: String,
    /// What it is.
    pub message: String,
    /// What to do about it; a command where there is one.
    pub help: Option<String>,
}

impl Finding {
    fn new(
        severity: Severity,
        topic: &'static str,
        at: impl ToString,
        message: impl Into<String>,
    ) -> Finding {
        Finding { severity, topic, at: at.to_string(), message: message.into(), help: None }
    }

    fn ok(topic: &'static str, at: impl ToString, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Ok, topic, at, message)
    }

    fn note(topic: &'static str, at: impl ToString, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, topic, at, message)
    }

    fn warning(topic: &'static str, at: impl ToString, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, topic, at, message)
    }

    fn error(topic: &'static str, at: impl ToString, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, topic, at, message)
    }

    fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }
}

/// All findings, topic by topic.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let topics: [fn(&Facts) -> Vec<Finding>; 6] = [
        system::examine,
        interfaces::examine,
        routes::examine,
        vips::examine,
        reals::examine,
        cluster::examine,
    ];
    topics.into_iter().flat_map(|examine| examine(facts)).collect()
}
