//! Operators' words that cannot be followed.

/// Why an operator's word cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such group.
    #[error("there is no group `{0}`; there are: {1}")]
    NoGroup(String, String),
    /// No such director.
    #[error("there is no director `{0}` that is alive")]
    NoDirector(String),
    /// Another one holds it.
    #[error("this director does not hold `{0}`: {1}")]
    NotOwner(String, String),
    /// Nobody could take it.
    #[error("no other director can take `{0}`: {1}")]
    NoHeir(String, String),
}
