//! A news server's greeting (RFC 3977, 5.1).

use crate::attempt::Attempt;
use crate::check::lines::Lines;
use crate::outcome::{Failure, Success};

/// Greeting 200 (posting allowed) or 201 (not allowed), QUIT.
pub async fn probe(attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut lines = Lines::new(Box::new(attempt.tcp().await?));
    attempt.awaits("greeting");
    let greeting = lines.reply().await?;
    attempt.step(format!("greeting {}", greeting.code));
    greeting.must_be(&[200, 201])?;
    lines.part("QUIT", attempt).await;
    Ok(Success::default())
}
