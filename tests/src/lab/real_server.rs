//! The script that administrators run on real servers, which sets up the lab's real servers, too.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, Result};

use super::Lab;

/// As text, so that a lab can be made where the project's files are not.
const SCRIPT: &str = include_str!("../../../deploy/real-server/director-real-server");

impl Lab {
    /// Runs `director-real-server` with these words on a host.
    pub fn real_server(&self, host: &str, words: &[&str]) -> Result<Output> {
        let state = self.real_server_state(host);
        // Without it, the script would need `mkdir`, which not every guest of the tests has.
        fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        let mut command = self.host(host).command("sh");
        command.args(["-s", "--", "--state"]).arg(&state).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run `sh`")?;
        // Should the script end before it has been read, its output says why.
        _ = child.stdin.take().context("no pipe to `sh`")?.write_all(SCRIPT.as_bytes());
        Ok(child.wait_with_output()?)
    }

    /// Where it notes what it changed there.
    pub fn real_server_state(&self, host: &str) -> PathBuf {
        self.directory().join(format!("{host}.real-server"))
    }
}
