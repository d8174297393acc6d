//! Bytes that nobody can guess: ids and authenticators, so that a forged answer does not fit.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::outcome::Failure;

/// As many as are asked for, from the kernel.
///
/// # Errors
/// The kernel has none (it cannot happen after it has booted).
pub fn bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|error| Failure::Local(format!("no random bytes: {error}")))?;
    }
    Ok(bytes)
}
