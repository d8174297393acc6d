//! What directors with other layouts of maps left: their pins lie beside ours, each in the directory of its version.
//!
//! Their maps are of no use here. Their links are: the program behind a link can be replaced by one of any layout, so an upgrade
//! to another one leaves no packet without a program. What only they know, the flows, is lost.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::attach::pinned_interfaces;
use super::error::Error;

/// The directories of other layouts, beside that of ours.
pub(super) fn others(own: &Path) -> Vec<PathBuf> {
    let Some(Ok(entries)) = own.parent().map(fs::read_dir) else { return Vec::new() };
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('v'));
        name.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let directories =
        entries.flatten().map(|entry| entry.path()).filter(|path| path != own && is_version(path));
    let mut others: Vec<PathBuf> = directories.filter(|path| path.is_dir()).collect();
    others.sort();
    others
}

/// Whether a program of another layout is attached to an interface.
pub(super) fn is_attached(own: &Path) -> bool {
    others(own).iter().any(|directory| !pinned_interfaces(directory).is_empty())
}

/// Removes the other layouts' pins, and says where there were some. What nobody else holds ends with them.
pub(super) fn remove(own: &Path) -> Result<Vec<PathBuf>, Error> {
    let others = others(own);
    for directory in &others {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::File(directory.clone(), error));
            }
            _ => {}
        }
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_what_others_keep_there() {
        let base = std::env::temp_dir().join(format!("director-layouts-{}", std::process::id()));
        for name in ["v1", "v2", "v10", "v", "vx", "other"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::write(base.join("v3"), "").unwrap();
        fs::write(base.join("v1/link-eth0-native"), "").unwrap();
        let own = base.join("v2");
        assert_eq!(others(&own), [base.join("v1"), base.join("v10")]);
        assert!(is_attached(&own) && !is_attached(&base.join("v1")));
        assert_eq!(remove(&own).unwrap().len(), 2);
        assert_eq!(others(&own), [""; 0].map(PathBuf::from));
        assert!(base.join("other").is_dir() && own.is_dir());
        fs::remove_dir_all(base).unwrap();
    }
}
