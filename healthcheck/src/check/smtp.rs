//! A mail server's greeting (RFC 5321), with STARTTLS (RFC 3207) or TLS (RFC 8314) where it is asked for.

use std::net::IpAddr;

use crate::attempt::Attempt;
use crate::check::lines::{Lines, Reply};
use crate::outcome::{Failure, Success};
use crate::spec::{Mail, Security};

/// Greeting, EHLO, STARTTLS, QUIT. No mail is begun.
pub async fn probe(mail: &Mail, attempt: &mut Attempt) -> Result<Success, Failure> {
    let connection = attempt.tcp().await?;
    let name = match &mail.name {
        Some(name) => name.clone(),
        None => literal(connection.local_addr()?.ip()),
    };
    let mut lines = Lines::begin(connection, &mail.security, attempt).await?;
    attempt.awaits("greeting");
    let greeting = lines.reply().await?;
    attempt.step(format!("greeting {}", greeting.code));
    greeting.must_be(&[220])?;
    let hello = introduce(&mut lines, &name, attempt).await?;
    if let Security::Upgraded(tls) = &mail.security {
        if !offers(&hello, "STARTTLS") {
            return Err(Failure::Protocol("does not offer STARTTLS".into()));
        }
        attempt.awaits("answer to STARTTLS");
        let go = lines.ask("STARTTLS").await?;
        attempt.step(format!("STARTTLS {}", go.code));
        go.must_be(&[220])?;
        lines = lines.upgrade(tls, attempt).await?;
        // All that was said before counts for nothing (RFC 3207, 4.2).
        introduce(&mut lines, &name, attempt).await?;
    }
    lines.part("QUIT", attempt).await;
    Ok(Success::default())
}

async fn introduce(lines: &mut Lines, name: &str, attempt: &mut Attempt) -> Result<Reply, Failure> {
    attempt.awaits("answer to EHLO");
    let mut reply = lines.ask(&format!("EHLO {name}")).await?;
    attempt.step(format!("EHLO {}", reply.code));
    // Servers that know no extensions (RFC 5321, 3.2).
    if matches!(reply.code, 500 | 502 | 504) {
        attempt.awaits("answer to HELO");
        reply = lines.ask(&format!("HELO {name}")).await?;
        attempt.step(format!("HELO {}", reply.code));
    }
    reply.must_be(&[250])?;
    Ok(reply)
}

/// Whether an answer to EHLO lists an extension. Its first line is a greeting.
fn offers(hello: &Reply, extension: &str) -> bool {
    let mut keywords = hello.lines.iter().skip(1).filter_map(|line| line.split_whitespace().next());
    keywords.any(|keyword| keyword.eq_ignore_ascii_case(extension))
}

/// How a host without a name is called (RFC 5321, 4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_a_whole_word_and_not_in_the_greeting() {
        let hello =
            |lines: &[&str]| Reply { code: 250, lines: lines.iter().map(|&l| l.to_owned()).collect() };
        assert!(offers(&hello(&["mx", "SIZE 100", "StartTLS"]), "STARTTLS"));
        assert!(offers(&hello(&["mx", "SIZE 100"]), "size"));
        assert!(!offers(&hello(&["STARTTLS"]), "STARTTLS"));
        assert!(!offers(&hello(&["mx", "XSTARTTLS", "", "STARTTLSX"]), "STARTTLS"));
    }

    #[test]
    fn a_host_without_a_name_is_its_address() {
        assert_eq!(literal("192.0.2.1".parse().unwrap()), "[192.0.2.1]");
        assert_eq!(literal("2001:db8::1".parse().unwrap()), "[IPv6:2001:db8::1]");
    }
}
