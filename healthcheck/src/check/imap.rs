//! An IMAP server's greeting (RFC 9051), with STARTTLS or TLS where it is asked for, and a login.

use crate::attempt::Attempt;
use crate::check::lines::{Lines, in_login, no_answer, shown, shown_without};
use crate::outcome::{Failure, Success};
use crate::spec::{Login, Mail, Security};

/// A tagged answer that is not OK: what it says.
type Refusal = String;

/// Greeting, STARTTLS, LOGIN, LOGOUT. No mailbox is opened.
pub async fn probe(mail: &Mail, attempt: &mut Attempt) -> Result<Success, Failure> {
    let connection = attempt.tcp().await?;
    let mut lines = Lines::begin(connection, &mail.security, attempt).await?;
    attempt.awaits("greeting");
    let greeting = read(&mut lines).await?;
    let known = is_known(&greeting)?;
    attempt.step(if known { "greeting PREAUTH" } else { "greeting OK" });
    if let Security::Upgraded(tls) = &mail.security {
        if known {
            // STARTTLS is for those that are not yet known (RFC 9051, 6.2.1).
            return Err(Failure::Protocol("takes us as logged in before TLS begins".into()));
        }
        attempt.awaits("answer to STARTTLS");
        lines.send("a STARTTLS").await?;
        let refused = |why: Refusal| Failure::Protocol(format!("STARTTLS refused: {}", shown(&why)));
        answer(&mut lines, "a").await?.map_err(refused)?;
        attempt.step("STARTTLS OK");
        lines = lines.upgrade(tls, attempt).await?;
    }
    if let Some(login) = &mail.login
        && !known
    {
        // Then a password must not go over the wire (RFC 9051, 6.2.3). With STARTTLS the greeting means nothing by now.
        if !matches!(mail.security, Security::Upgraded(_)) && greeting.contains("LOGINDISABLED") {
            return Err(Failure::Login("the server takes none here (LOGINDISABLED)".into()));
        }
        log_in(&mut lines, login, attempt).await?;
    }
    lines.part("z LOGOUT", attempt).await;
    Ok(Success::default())
}

/// User and password go as literals, each after the server has asked for it (RFC 9051, 4.3): these may have any characters in
/// them, and nothing needs to be quoted.
async fn log_in(lines: &mut Lines, login: &Login, attempt: &mut Attempt) -> Result<(), Failure> {
    attempt.awaits("answer to the login");
    let (user, password) = (&login.user, login.password.reveal());
    if user.contains('\0') || password.contains('\0') {
        return Err(Failure::Local("user or password has a NUL in it".into()));
    }
    let parts = [
        format!("b LOGIN {{{}}}\r\n", user.len()),
        format!("{user} {{{}}}\r\n", password.len()),
        format!("{password}\r\n"),
    ];
    for part in parts {
        lines.send_bytes(part.as_bytes()).await?;
        let answer = answer(lines, "b").await.map_err(in_login)?;
        answer.map_err(|why| Failure::Login(shown_without(&why, &login.password)))?;
    }
    attempt.step("logged in");
    Ok(())
}

/// Whether the greeting takes us as logged in already.
fn is_known(greeting: &str) -> Result<bool, Failure> {
    let mut words = greeting.splitn(3, ' ');
    let (star, status, text) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
    match (star, status.to_ascii_uppercase().as_str()) {
        (Some("*"), "OK") => Ok(false),
        (Some("*"), "PREAUTH") => Ok(true),
        (Some("*"), "BYE") => Err(Failure::Protocol(format!("refused: {}", shown(text)))),
        _ => Err(no_answer(greeting)),
    }
}

/// The answer to a command: OK with its tag, or that it goes on ("+"). What comes untagged before is passed over.
async fn answer(lines: &mut Lines, tag: &str) -> Result<Result<(), Refusal>, Failure> {
    loop {
        let line = read(lines).await?;
        let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match (first, status.to_ascii_uppercase().as_str()) {
            ("*", "BYE") => return Err(Failure::Protocol(format!("hangs up: {}", shown(text)))),
            ("*", _) => {}
            ("+", _) => return Ok(Ok(())),
            (first, "OK") if first == tag => return Ok(Ok(())),
            (first, "NO" | "BAD") if first == tag => return Ok(Err(text.to_owned())),
            _ => return Err(no_answer(&line)),
        }
    }
}

/// A line, with what follows the literals in it (RFC 9051, 4.3). The literals themselves are passed over.
async fn read(lines: &mut Lines) -> Result<String, Failure> {
    let mut line = lines.line().await?;
    while let Some(length) = literal(&line) {
        lines.bytes(length).await?;
        line = format!("{} {}", line.split('{').next().unwrap_or_default(), lines.line().await?);
    }
    Ok(line)
}

/// The length of the literal that follows a line.
fn literal(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_lets_us_in_or_not() {
        assert_eq!(is_known("* OK [CAPABILITY IMAP4rev1] ready"), Ok(false));
        assert_eq!(is_known("* ok"), Ok(false));
        assert_eq!(is_known("* PREAUTH welcome"), Ok(true));
        assert_eq!(is_known("* BYE too many"), Err(Failure::Protocol("refused: too many".into())));
        for line in ["", "OK", "* ", "+OK POP3", "a OK", "220 mx"] {
            assert_eq!(is_known(line), Err(no_answer(line)), "{line}");
        }
    }

    #[test]
    fn a_literal_is_announced_at_the_end() {
        assert_eq!(literal("* OK {12}"), Some(12));
        for line in ["* OK {12} ", "* OK {}", "* OK {-1}", "* OK 12}", "}", ""] {
            assert_eq!(literal(line), None, "{line}");
        }
    }
}
