//! See [`crate::spec::Check`].

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::spec::Sql;

/// Runs it.
pub async fn probe(_sql: &Sql, _attempt: &mut Attempt) -> Result<Success, Failure> {
    Err(Failure::Local("not built yet".into()))
}
