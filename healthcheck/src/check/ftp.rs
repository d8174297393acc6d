//! See [`crate::spec::Check`].

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::spec::Ftp;

/// Runs it.
pub async fn probe(_ftp: &Ftp, _attempt: &mut Attempt) -> Result<Success, Failure> {
    Err(Failure::Local("not built yet".into()))
}
