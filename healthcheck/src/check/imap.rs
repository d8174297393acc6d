//! See [`crate::spec::Check`].

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::spec::Mail;

/// Runs it.
pub async fn probe(_mail: &Mail, _attempt: &mut Attempt) -> Result<Success, Failure> {
    Err(Failure::Local("not built yet".into()))
}
