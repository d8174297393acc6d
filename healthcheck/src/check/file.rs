//! A maintenance file: while it exists, the real server is down.

use std::path::Path;

use crate::outcome::{Failure, Success};

/// Looks for it.
///
/// # Errors
/// It is there; or it cannot be told.
pub async fn probe(path: &Path) -> Result<Success, Failure> {
    match tokio::fs::try_exists(path).await {
        Ok(false) => Ok(Success::default()),
        Ok(true) => Err(Failure::Maintenance(format!("{} exists", path.display()))),
        Err(error) => Err(Failure::Local(format!("{}: {error}", path.display()))),
    }
}
