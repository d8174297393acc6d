//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at.
const NAP: Duration = Duration::from_millis(5);

/// Calls `ready` until it returns something, and gives that; an error of `ready` ends the wait at once, and after
/// `patience` the wait fails, naming `what` was waited for.
pub fn until<T>(what: &str, patience: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = ready().with_context(|| format!("while waiting for {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {patience:?} in vain for {what}");
        }
        thread::sleep(NAP);
    }
}
