//! The section `heartbeat` of a configuration for the lab's directors.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::daemon::node_name;

/// Where directors hear heartbeats; the port that Heartbeat used.
const PORT: u16 = 694;

/// How the directors of a lab hear of each other; what is not set here can be added as lines of YAML.
#[derive(Clone, Debug)]
pub struct Cluster {
    directors: u8,
    key_file: PathBuf,
    interval: String,
    dead_after: String,
    links: Vec<String>,
    lines: Vec<String>,
}

impl Cluster {
    /// Directors `lb1`, `lb2`, …, of which an earlier one has a higher priority, with UDP links on the server LAN and on the
    /// heartbeat network. `Lab::cluster` makes the key, too.
    pub fn new(directors: u8, key_file: &Path) -> Cluster {
        Cluster {
            directors,
            key_file: key_file.into(),
            interval: "100ms".into(),
            dead_after: "350ms".into(),
            links: vec![format!("udp: \"192.0.2.{{}}:{PORT}\""), format!("udp: \"10.255.0.{{}}:{PORT}\"")],
            lines: Vec::new(),
        }
    }

    /// From one message to the next (`100ms`).
    pub fn interval(mut self, duration: &str) -> Self {
        self.interval = duration.into();
        self
    }

    /// After which silence a director counts as dead (`350ms`).
    pub fn dead_after(mut self, duration: &str) -> Self {
        self.dead_after = duration.into();
        self
    }

    /// Other links, each as YAML without braces, in which `{}` is the last number of a director's addresses: `udp:
    /// "10.255.0.{}:694"`.
    pub fn links(mut self, links: &[&str]) -> Self {
        self.links = links.iter().map(|link| (*link).into()).collect();
        self
    }

    /// With further lines in the section, such as `failback: false`; a line of several lines is indented as a whole.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.extend(line.lines().map(str::to_owned));
        self
    }

    /// The section.
    pub(super) fn yaml(&self) -> String {
        let mut yaml = String::from("heartbeat:\n");
        let mut push = |line: &str| writeln!(yaml, "  {line}").expect("a String takes whatever is written");
        push(&format!("key_file: {}", self.key_file.display()));
        push(&format!("interval: {}", self.interval));
        push(&format!("dead_after: {}", self.dead_after));
        self.lines.iter().for_each(|line| push(line));
        push("directors:");
        for number in 1..=self.directors {
            push(&format!("  - name: {}", node_name(number)));
            push(&format!("    priority: {}", 250 - 50 * u32::from(number)));
            push("    links:");
            for link in &self.links {
                push(&format!("      - {{ {} }}", link.replace("{}", &(10 + number).to_string())));
            }
        }
        yaml
    }
}

/// Writes a key file that only its owner may read: key 1, of 32 random bytes in hexadecimal.
pub(super) fn write_key(file: &Path) -> Result<()> {
    let mut key = [0; 32];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    let text: String = key.iter().map(|byte: &u8| format!("{byte:02x}")).collect();
    // A key that is there already is replaced as a whole, mode and all.
    let _ = fs::remove_file(file);
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot make {}", file.display()))?;
    writeln!(opened, "1 {text}").with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_reads_as_one_would_write_it() {
        let cluster = Cluster::new(2, Path::new("/run/heartbeat.key")).interval("20ms").dead_after("70ms");
        let expected = "heartbeat:\n  key_file: /run/heartbeat.key\n  interval: 20ms\n  dead_after: 70ms\n  \
                        failback: false\n  directors:\n    - name: lb1\n      priority: 200\n      links:\n        \
                        - { udp: \"192.0.2.11:694\" }\n        - { udp: \"10.255.0.11:694\" }\n    \
                        - name: lb2\n      priority: 150\n      links:\n        - { udp: \"192.0.2.12:694\" }\n        \
                        - { udp: \"10.255.0.12:694\" }\n";
        assert_eq!(cluster.line("failback: false").yaml(), expected);
    }
}
