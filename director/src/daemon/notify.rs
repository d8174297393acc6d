//! Tells people of events: by a command, by e-mail. One notice for all that happened since the last one, and none without news.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use healthcheck::process::Running;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::api::types::Event;
use crate::model::{MailNotice, Notify};

/// How long a command or a mail server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events of one cause come close together: so long the first one waits for the others.
const TOGETHER: Duration = Duration::from_millis(500);
/// The most events of a notice; `director events` has the others.
const MOST_EVENTS: usize = 1_000;
/// The most lines of a mail.
const MOST_LINES: usize = 200;

/// Tells them, for ever. `notify`: whom.
pub(super) async fn run(mut events: mpsc::Receiver<Event>, notify: watch::Receiver<Arc<Option<Notify>>>) {
    let mut last: Option<Instant> = None;
    while let Some(first) = events.recv().await {
        let mut batch = vec![first];
        let at_most_every =
            notify.borrow().as_ref().as_ref().map_or(Duration::ZERO, |notify| notify.at_most_every);
        let soonest = Instant::now() + TOGETHER;
        let flush = last.map_or(soonest, |last| soonest.max(last + at_most_every));
        while let Ok(Some(event)) = tokio::time::timeout_at(flush, events.recv()).await {
            if batch.len() < MOST_EVENTS {
                batch.push(event);
            }
        }
        let notify = Arc::clone(&notify.borrow());
        if let Some(notify) = notify.as_ref() {
            tell(notify, &batch).await;
            last = Some(Instant::now());
        }
    }
}

async fn tell(notify: &Notify, events: &[Event]) {
    if let Some(command) = &notify.command {
        let called = tokio::time::timeout(PATIENCE, call(command, events)).await;
        if let Err(error) = called.context("it took too long").and_then(|called| called) {
            tracing::warn!(command = %command.display(), "the notification failed: {error:#}");
        }
    }
    if let Some(mail) = &notify.mail {
        let sent = tokio::time::timeout(PATIENCE, send(mail, events)).await;
        if let Err(error) = sent.context("it took too long").and_then(|sent| sent) {
            tracing::warn!(server = mail.server, "the mail was not sent: {error:#}");
        }
    }
}

/// Runs a command: the events come as lines of JSON on its standard input, the last one also in its environment.
async fn call(command: &std::path::Path, events: &[Event]) -> Result<()> {
    let Some(last) = events.last() else { return Ok(()) };
    let mut command = Command::new(command);
    command
        .env("DIRECTOR_EVENTS", events.len().to_string())
        .env("DIRECTOR_SERVICE", &last.service)
        .env("DIRECTOR_REAL", last.real.as_deref().unwrap_or_default())
        .env("DIRECTOR_FROM", &last.from)
        .env("DIRECTOR_TO", &last.to)
        .env("DIRECTOR_REASON", &last.reason)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // If it takes too long, all of it is killed.
    let mut running = Running::start(&mut command)?;
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    if let Some(mut stdin) = running.stdin() {
        // Who does not read them does not want them.
        let _ = stdin.write_all(&lines).await;
    }
    let status = running.finish_sparing().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

async fn send(mail: &MailNotice, events: &[Event]) -> Result<()> {
    let from: Mailbox = mail.from.parse().context("the sender's address")?;
    let mut message = Message::builder().from(from).subject(subject(events));
    for to in &mail.to {
        message = message.to(to.parse().context("a recipient's address")?);
    }
    let message = message.body(body(events))?;
    let transport =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.server).port(mail.port).build();
    transport.send(message).await?;
    Ok(())
}

fn subject(events: &[Event]) -> String {
    match events {
        [one] => format!("[director] {}", line(one)),
        _ => {
            let first = events.first().map(line).unwrap_or_default();
            format!("[director] {first} (and {} more)", events.len().saturating_sub(1))
        }
    }
}

fn body(events: &[Event]) -> String {
    let mut text: String =
        events.iter().take(MOST_LINES).map(|event| format!("{} {}\r\n", event.time, line(event))).collect();
    if events.len() > MOST_LINES {
        text.push_str(&format!("… and {} more\r\n", events.len() - MOST_LINES));
    }
    text
}

fn line(event: &Event) -> String {
    let real = event.real.as_ref().map_or(String::new(), |real| format!(" {real}"));
    let text = format!("{}{real}: {} → {}: {}", event.service, event.from, event.to, event.reason);
    // A reason may quote a server; a header's line must stay one.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64, reason: &str) -> Event {
        Event {
            id,
            time: "2026-01-01T00:00:00Z".into(),
            service: "web".into(),
            real: Some("192.0.2.21".into()),
            from: "up".into(),
            to: "down".into(),
            reason: reason.into(),
        }
    }

    #[test]
    fn a_subject_is_one_line() {
        assert_eq!(
            subject(&[event(1, "status 503\r\nBcc: x@example.org")]),
            "[director] web 192.0.2.21: up → down: status 503  Bcc: x@example.org"
        );
        let many: Vec<Event> = (0..300).map(|id| event(id, "no answer in 1s")).collect();
        assert!(subject(&many).ends_with("(and 299 more)"));
        assert_eq!(body(&many).lines().count(), MOST_LINES + 1);
    }
}
