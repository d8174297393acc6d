//! The unit file, as far as the tests follow it.

use anyhow::{Context, Result};
use rustix::thread::CapabilitySet;

/// Keys and values, in their order.
pub struct Unit(Vec<(String, String)>);

impl Unit {
    pub fn read(text: &str) -> Unit {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Unit(
            lines
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    /// All words that a key has.
    pub fn words(&self, key: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(name, _)| name == key);
        values.flat_map(|(_, value)| value.split_whitespace()).collect()
    }

    /// What is started, without what comes from a file of the administrator's.
    pub fn command(&self) -> Vec<&str> {
        self.words("ExecStart").into_iter().filter(|word| !word.starts_with('$')).collect()
    }

    pub fn capabilities(&self) -> Result<CapabilitySet> {
        self.words("CapabilityBoundingSet").into_iter().try_fold(CapabilitySet::empty(), |set, word| {
            let one = word.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
            Ok(set | one.with_context(|| format!("no capability: {word}"))?)
        })
    }

    /// The same as setpriv(1) wants it.
    pub fn bounding_set(&self) -> Result<String> {
        let names = self.capabilities()?.iter_names().map(|(name, _)| format!(",+{}", name.to_lowercase()));
        Ok(format!("-all{}", names.collect::<String>()))
    }

    /// What the service may not write: systemd.exec(5) says what each key means.
    pub fn read_only(&self) -> Vec<&str> {
        let paths = self.words("ReadOnlyPaths").into_iter();
        // What may be missing begins with a hyphen.
        let mut paths: Vec<&str> = paths.map(|path| path.trim_start_matches('-')).collect();
        if self.words("ProtectSystem") == ["full"] {
            paths.extend(["/usr", "/boot", "/etc"]);
        }
        paths
    }

    pub fn writable(&self) -> Vec<&str> {
        self.words("ReadWritePaths")
    }
}
