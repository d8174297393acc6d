//! The files of a package as they will lie on a machine, in a directory that goes in the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// See the module.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one, in a directory that no other process uses.
    pub fn within(directory: &Path) -> Result<Tree> {
        let root = directory.join(format!("tree-{}", std::process::id()));
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        Ok(Tree { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file; `path` begins without a slash.
    pub fn write(&self, path: &str, mode: u32, contents: impl AsRef<[u8]>) -> Result<()> {
        let file = self.root.join(path);
        self.make_directory(file.parent().unwrap_or(&self.root))?;
        fs::write(&file, contents).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(mode))?)
    }

    /// Copies a file.
    pub fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(path, mode, contents)
    }

    /// Copies a directory with all below it; what may be executed still may.
    pub fn copy_all(&self, from: &Path, path: &str) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            let below = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.copy_all(&entry.path(), &below)?;
            } else {
                let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
                self.copy(&entry.path(), &below, if executable { 0o755 } else { 0o644 })?;
            }
        }
        Ok(())
    }

    /// Whatever umask there is, others may read.
    fn make_directory(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for one in directory.ancestors().take_while(|one| *one != self.root) {
            fs::set_permissions(one, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
