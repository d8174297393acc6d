//! See [`crate::spec::Check`].

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::spec::Ldap;

/// Runs it.
pub async fn probe(_ldap: &Ldap, _attempt: &mut Attempt) -> Result<Success, Failure> {
    Err(Failure::Local("not built yet".into()))
}
