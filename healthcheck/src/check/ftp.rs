//! An FTP login, and a file's content (RFC 959).

use crate::attempt::{self, Attempt};
use crate::check::lines::{Lines, in_login, no_answer, shown_without};
use crate::outcome::{Failure, Success};
use crate::spec::{Ftp, Login};
use crate::text::Secret;

/// Greeting, login, and the file in passive mode, QUIT. A file of more than [`attempt::MOST`] bytes fails.
pub async fn probe(ftp: &Ftp, attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut lines = Lines::new(Box::new(attempt.tcp().await?));
    attempt.awaits("greeting");
    let greeting = lines.reply().await?;
    attempt.step(format!("greeting {}", greeting.code));
    greeting.must_be(&[220])?;
    match &ftp.login {
        Some(login) => log_in(&mut lines, login, attempt).await?,
        None => log_in(&mut lines, &anonymous(), attempt).await?,
    }
    if let Some(path) = &ftp.path {
        let content = fetch(&mut lines, path, attempt).await?;
        attempt::expect("content", ftp.receive.as_ref(), &content)?;
    }
    lines.part("QUIT", attempt).await;
    Ok(Success::default())
}

/// Anybody (RFC 1635). As a password one says who asks: the director.
fn anonymous() -> Login {
    Login { user: "anonymous".into(), password: Secret::new("director@") }
}

async fn log_in(lines: &mut Lines, login: &Login, attempt: &mut Attempt) -> Result<(), Failure> {
    attempt.awaits("answer to the login");
    let mut reply = ask_privately(lines, &format!("USER {}", login.user), login).await?;
    if reply.0 == 331 {
        reply = ask_privately(lines, &format!("PASS {}", login.password.reveal()), login).await?;
    }
    match reply {
        // 202: the password is superfluous.
        (202 | 230, _) => {}
        (300..=399 | 500..=599, why) => return Err(Failure::Login(why)),
        (code, _) => return Err(Failure::Status(code)),
    }
    attempt.step("logged in");
    Ok(())
}

/// Part of a login: the code of the reply, and what of its text can be shown.
async fn ask_privately(lines: &mut Lines, command: &str, login: &Login) -> Result<(u16, String), Failure> {
    let reply = lines.ask(command).await.map_err(in_login)?;
    Ok((reply.code, shown_without(&reply.text(), &login.password)))
}

/// A file's content, by a data connection that we open.
async fn fetch(lines: &mut Lines, path: &str, attempt: &mut Attempt) -> Result<Vec<u8>, Failure> {
    attempt.awaits("answer to TYPE");
    lines.ask("TYPE I").await?.must_be(&[200])?;
    // PASV knows no IPv6; EPSV is not known by all servers (RFC 2428).
    let (command, code) = if attempt.real().is_ipv4() { ("PASV", 227) } else { ("EPSV", 229) };
    attempt.awaits("passive mode");
    let reply = lines.ask(command).await?;
    attempt.step(format!("{command} {}", reply.code));
    reply.must_be(&[code])?;
    let text = reply.text();
    let port = if code == 227 { pasv(&text) } else { epsv(&text) }.ok_or_else(|| no_answer(&text))?;
    // Always to the real server's own address, whatever PASV names: behind a VIP that is often the VIP, and a server must not
    // make us knock elsewhere.
    let mut data = attempt.tcp_at(port).await?;
    attempt.awaits("answer to RETR");
    let reply = lines.ask(&format!("RETR {path}")).await?;
    attempt.step(format!("RETR {}", reply.code));
    reply.must_be(&[125, 150])?;
    attempt.awaits("content");
    let content = attempt::read_until(&mut data, |_| false).await?;
    drop(data);
    attempt.step(format!("{} bytes", content.len()));
    attempt.awaits("end of the transfer");
    let reply = lines.reply().await?;
    attempt.step(format!("transfer {}", reply.code));
    // Without these the content may be part of the file only.
    reply.must_be(&[226, 250])?;
    Ok(content)
}

/// The port in an answer to PASV. Its form is free except for the six numbers (RFC 1123, 4.1.2.6).
fn pasv(text: &str) -> Option<u16> {
    let mut words = text.split(|character: char| !character.is_ascii_digit() && character != ',');
    let numbers = words.find_map(|word| {
        let numbers: Option<Vec<u8>> =
            word.trim_matches(',').split(',').map(|number| number.parse().ok()).collect();
        numbers.filter(|numbers| numbers.len() == 6)
    })?;
    Some(u16::from_be_bytes([numbers[4], numbers[5]])).filter(|&port| port != 0)
}

/// The port in an answer to EPSV: "(|||6446|)", with whatever stands for the bars (RFC 2428, 3).
fn epsv(text: &str) -> Option<u16> {
    let inner = text.split_once('(')?.1.split_once(')')?.0;
    let bar = inner.chars().next()?;
    let mut fields = inner.split(bar).skip(3);
    fields.next()?.parse().ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasv_names_a_port_in_many_ways() {
        assert_eq!(pasv("Entering Passive Mode (127,0,0,1,195,80)."), Some(50_000));
        assert_eq!(pasv("=10,0,0,1,0,21"), Some(21));
        assert_eq!(pasv("passive 227 now, 10,0,0,1,1,2"), Some(258));
        for text in [
            "",
            "Entering Passive Mode",
            "(1,2,3,4,5)",
            "(1,2,3,4,5,6,7)",
            "(1,2,3,4,256,6)",
            "(1,2,3,4,0,0)",
        ] {
            assert_eq!(pasv(text), None, "{text}");
        }
    }

    #[test]
    fn epsv_names_a_port() {
        assert_eq!(epsv("Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(epsv("(!!!21!)"), Some(21));
        for text in ["", "()", "(|||)", "(|||x|)", "(|||0|)", "(|||65536|)", "|||6446|", "(||6446|"] {
            assert_eq!(epsv(text), None, "{text}");
        }
    }
}
