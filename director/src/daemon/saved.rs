//! What must outlive the process: a file beside the socket, replaced as a whole, so that no crash leaves half of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::model::Vip;
use crate::pool::Overrides;

/// What is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Saved {
    /// What the operator said of real servers.
    pub(crate) overrides: Overrides,
    /// VIPs that the director added to its interfaces (and somebody else did not): it removes them when they are its own no more.
    added: Vec<SavedVip>,
    /// An operator has this director of a cluster stay standby.
    pub(crate) held: bool,
    /// The number of the last run in a cluster.
    pub(crate) incarnation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedVip {
    address: IpAddr,
    prefix: u8,
    interface: String,
}

/// The state file that belongs to a socket.
pub(crate) fn state_file(socket: &Path) -> PathBuf {
    socket.with_extension("state.json")
}

impl Saved {
    /// Reads the file; without one, nothing is saved yet.
    pub(crate) fn load(path: &Path) -> Result<Saved> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged\n  help: remove it; weights set by command are forgotten then",
                    path.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Saved::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file.
    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        let fresh = path.with_extension("json.new");
        let write = || -> Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            Ok(fs::rename(&fresh, path)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// VIPs that the director added itself.
    pub(crate) fn added(&self) -> Vec<Vip> {
        let vip = |SavedVip { address, prefix, interface }: &SavedVip| Vip {
            address: *address,
            prefix: *prefix,
            interface: interface.clone(),
        };
        self.added.iter().map(vip).collect()
    }

    /// Replaces the list; whether it is another one now.
    pub(crate) fn set_added(&mut self, vips: &[Vip]) -> bool {
        let vip = |Vip { address, prefix, interface }: &Vip| SavedVip {
            address: *address,
            prefix: *prefix,
            interface: interface.clone(),
        };
        let added: Vec<SavedVip> = vips.iter().map(vip).collect();
        let different = added != self.added;
        self.added = added;
        different
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::RealKey;

    #[test]
    fn what_is_stored_is_loaded() {
        let directory = std::env::temp_dir().join(format!("director-saved-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = state_file(&directory.join("director.sock"));
        assert_eq!(Saved::load(&path).unwrap(), Saved::default());
        let mut saved = Saved::default();
        let real = RealKey { service: "web".into(), address: "192.0.2.1".parse().unwrap(), port: Some(80) };
        saved.overrides.set(real, 0);
        let vip = Vip { address: "2001:db8::1".parse().unwrap(), prefix: 64, interface: "eth0".into() };
        assert!(saved.set_added(std::slice::from_ref(&vip)));
        assert!(!saved.set_added(std::slice::from_ref(&vip)));
        saved.store(&path).unwrap();
        let loaded = Saved::load(&path).unwrap();
        assert_eq!((loaded.added(), &loaded), (vec![vip], &saved));
        fs::write(&path, "{").unwrap();
        assert!(Saved::load(&path).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
