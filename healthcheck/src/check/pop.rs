//! A POP3 server's greeting (RFC 1939), with STLS (RFC 2595) or TLS (RFC 8314) where it is asked for, and a login.

use crate::attempt::Attempt;
use crate::check::lines::{Lines, in_login, no_answer, shown, shown_without};
use crate::outcome::{Failure, Success};
use crate::spec::{Login, Mail, Security};

/// Greeting, STLS, USER and PASS, QUIT. No message is touched.
pub async fn probe(mail: &Mail, attempt: &mut Attempt) -> Result<Success, Failure> {
    let connection = attempt.tcp().await?;
    let mut lines = Lines::begin(connection, &mail.security, attempt).await?;
    attempt.awaits("greeting");
    accepted(&lines.line().await?)?.map_err(refused)?;
    attempt.step("greeting +OK");
    if let Security::Upgraded(tls) = &mail.security {
        attempt.awaits("answer to STLS");
        lines.send("STLS").await?;
        accepted(&lines.line().await?)?.map_err(refused)?;
        attempt.step("STLS +OK");
        lines = lines.upgrade(tls, attempt).await?;
    }
    if let Some(login) = &mail.login {
        log_in(&mut lines, login, attempt).await?;
    }
    lines.part("QUIT", attempt).await;
    Ok(Success::default())
}

async fn log_in(lines: &mut Lines, login: &Login, attempt: &mut Attempt) -> Result<(), Failure> {
    attempt.awaits("answer to the login");
    let password = login.password.reveal();
    for command in [format!("USER {}", login.user), format!("PASS {password}")] {
        lines.send(&command).await?;
        let line = lines.line().await?;
        accepted(&line)
            .map_err(in_login)?
            .map_err(|why| Failure::Login(shown_without(why, &login.password)))?;
    }
    attempt.step("logged in");
    Ok(())
}

/// Whether an answer is good (RFC 1939, 3); else what it says.
fn accepted(line: &str) -> Result<Result<(), &str>, Failure> {
    let (status, text) = line.split_once(' ').unwrap_or((line, ""));
    match status {
        "+OK" => Ok(Ok(())),
        "-ERR" => Ok(Err(text)),
        _ => Err(no_answer(line)),
    }
}

fn refused(why: &str) -> Failure {
    Failure::Protocol(format!("refused: {}", shown(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_bad_or_none() {
        assert_eq!(accepted("+OK"), Ok(Ok(())));
        assert_eq!(accepted("+OK Dovecot ready."), Ok(Ok(())));
        assert_eq!(accepted("-ERR [AUTH] no"), Ok(Err("[AUTH] no")));
        assert_eq!(accepted("-ERR"), Ok(Err("")));
        for line in ["", "+OKAY", "OK", "220 mx ESMTP", "* OK IMAP"] {
            assert_eq!(accepted(line), Err(no_answer(line)), "{line}");
        }
    }
}
