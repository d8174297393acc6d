//! See [`crate::spec::Check`].

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};

/// Runs it.
pub async fn probe(_attempt: &mut Attempt) -> Result<Success, Failure> {
    Err(Failure::Local("not built yet".into()))
}
