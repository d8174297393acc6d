//! A datagram, and its answer, or at least no refusal.

use std::time::Duration;

use crate::attempt::{self, Attempt};
use crate::outcome::{Failure, Success};
use crate::spec::Udp;

/// How long a refusal is waited for, where no answer is needed: silence is good, but it must not take the whole timeout to know.
/// An ICMP error within a data centre takes milliseconds.
const SILENCE: Duration = Duration::from_secs(1);

/// Sends a datagram. With `reply`, an answer must come. Without, it is enough that no ICMP port unreachable comes within a second,
/// or three quarters of the timeout if that is shorter. An answer that comes must match `receive` in both cases.
///
/// Hosts send few ICMP errors a second to one address (RFC 1812, 4.3.2.8), so without `reply` a closed port may go unnoticed now
/// and then.
///
/// # Errors
/// The port is closed; the answer does not match.
pub async fn probe(udp: &Udp, attempt: &mut Attempt) -> Result<Success, Failure> {
    let socket = attempt.udp().await?;
    socket.send(&udp.send).await?;
    attempt.step("datagram sent");
    // The largest datagram there is.
    let mut answer = vec![0; usize::from(u16::MAX)];
    let count = if udp.reply {
        socket.recv(&mut answer).await?
    } else {
        let patience = SILENCE.min(attempt.left() * 3 / 4);
        match tokio::time::timeout(patience, socket.recv(&mut answer)).await {
            Ok(count) => count?,
            Err(_) => {
                attempt.step("no refusal");
                return Ok(Success::default());
            }
        }
    };
    attempt.step(format!("answer of {count} bytes"));
    attempt::expect("answer", udp.receive.as_ref(), &answer[..count])?;
    Ok(Success::default())
}
