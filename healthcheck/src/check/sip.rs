//! OPTIONS to a SIP server (RFC 3261, 11), over UDP or TCP.
//!
//! Of an answer only its status line and three headers matter. The SIP crates there are have not been kept up.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::attempt::Attempt;
use crate::check::lines::{Lines, no_answer};
use crate::outcome::{Failure, Success};
use crate::spec::Sip;

/// When a datagram without an answer is sent again first; then after twice the time each (RFC 3261, 17.1.2.2).
const T1: Duration = Duration::from_millis(500);
/// The longest time between two.
const T2: Duration = Duration::from_secs(4);
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// One question, and how its answers are known.
struct Question {
    call_id: String,
    text: String,
}

/// What matters of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    call_id: String,
    cseq: String,
    /// Bytes of its body.
    length: usize,
}

/// Asks; only 200 is good.
pub async fn probe(sip: &Sip, attempt: &mut Attempt) -> Result<Success, Failure> {
    if sip.user.is_empty() || !sip.user.bytes().all(is_user) {
        return Err(Failure::Local("the SIP user has characters that must be escaped".into()));
    }
    let status = if sip.tcp { over_tcp(sip, attempt).await? } else { over_udp(sip, attempt).await? };
    attempt.step(format!("status {status}"));
    if status == 200 { Ok(Success::default()) } else { Err(Failure::Status(status)) }
}

async fn over_tcp(sip: &Sip, attempt: &mut Attempt) -> Result<u16, Failure> {
    let connection = attempt.tcp().await?;
    let question = Question::new(sip, attempt.real(), connection.local_addr()?);
    let mut lines = Lines::new(Box::new(connection));
    lines.send_bytes(question.text.as_bytes()).await?;
    attempt.step("OPTIONS sent");
    loop {
        let mut head = Vec::new();
        loop {
            match lines.line().await? {
                // Empty lines ahead of a message are no part of it (RFC 3261, 7.5).
                line if line.is_empty() && head.is_empty() => {}
                line if line.is_empty() => break,
                // Who speaks another protocol may wait for us now.
                line if head.is_empty() && status(&line).is_none() => return Err(no_answer(&line)),
                line => head.push(line),
            }
        }
        let answer = Answer::parse(head.iter().map(String::as_str))?;
        lines.bytes(answer.length).await?;
        if let Some(status) = question.settled_by(&answer) {
            return Ok(status);
        }
    }
}

async fn over_udp(sip: &Sip, attempt: &mut Attempt) -> Result<u16, Failure> {
    let socket = attempt.udp().await?;
    let question = Question::new(sip, attempt.real(), socket.local_addr()?);
    let mut wait = T1;
    loop {
        socket.send(question.text.as_bytes()).await?;
        attempt.step("OPTIONS sent");
        match tokio::time::timeout(wait, settled(&question, &socket)).await {
            Ok(status) => return status,
            Err(_) => wait = (wait * 2).min(T2),
        }
    }
}

async fn settled(question: &Question, socket: &UdpSocket) -> Result<u16, Failure> {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let count = socket.recv(&mut datagram).await?;
        let text = String::from_utf8_lossy(&datagram[..count]);
        let head = text.trim_start_matches(['\r', '\n']).lines().take_while(|line| !line.is_empty());
        if let Some(status) = question.settled_by(&Answer::parse(head)?) {
            return Ok(status);
        }
    }
}

impl Question {
    fn new(sip: &Sip, real: SocketAddr, local: SocketAddr) -> Question {
        // Without an IPv6 scope: it means nothing to others.
        let (real, local) =
            (SocketAddr::new(real.ip(), real.port()), SocketAddr::new(local.ip(), local.port()));
        let (user, transport) = (&sip.user, if sip.tcp { "TCP" } else { "UDP" });
        let parameter = if sip.tcp { ";transport=tcp" } else { "" };
        let [branch, tag, call_id] = [(); 3].map(|()| unique());
        let call_id = format!("{call_id}@director");
        // z9hG4bK: a branch by RFC 3261, 8.1.1.7; rport: RFC 3581.
        let text = format!(
            "OPTIONS sip:{user}@{real}{parameter} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};branch=z9hG4bK{branch};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:director@{local}>;tag={tag}\r\n\
             To: <sip:{user}@{real}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: 1 OPTIONS\r\n\
             Contact: <sip:director@{local}{parameter}>\r\n\
             Accept: application/sdp\r\n\
             Content-Length: 0\r\n\r\n"
        );
        Question { call_id, text }
    }

    /// The status, where this is the last answer to this question: not one to another, and not a provisional one.
    fn settled_by(&self, answer: &Answer) -> Option<u16> {
        let ours = answer.call_id == self.call_id && answer.cseq == "1 OPTIONS";
        (ours && answer.status >= 200).then_some(answer.status)
    }
}

impl Answer {
    /// Reads the lines of an answer's head.
    fn parse<'a>(mut head: impl Iterator<Item = &'a str>) -> Result<Answer, Failure> {
        let first = head.next().unwrap_or_default();
        let status = status(first).ok_or_else(|| no_answer(first))?;
        let mut answer = Answer { status, call_id: String::new(), cseq: String::new(), length: 0 };
        for line in head {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            // The short names: RFC 3261, 20.8 and 20.14.
            match name.trim_end().to_ascii_lowercase().as_str() {
                "call-id" | "i" => answer.call_id = value.into(),
                "cseq" => answer.cseq = value.split_whitespace().collect::<Vec<_>>().join(" "),
                "content-length" | "l" => answer.length = value.parse().map_err(|_| no_answer(line))?,
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The status in a status line (RFC 3261, 7.2).
fn status(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    let (status, _) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let status = status.parse().ok().filter(|status| (100..700).contains(status))?;
    (version.eq_ignore_ascii_case("SIP/2.0") && is_status).then_some(status)
}

/// Whether a SIP user may have this character unescaped (RFC 3261, 25.1).
fn is_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte)
}

/// A word that nobody else has. It need not be hard to guess: sockets are connected.
fn unique() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let sip = Sip { user: "ping".into(), tcp: false };
        Question::new(&sip, "[2001:db8::1]:5060".parse().unwrap(), "[2001:db8::2]:4000".parse().unwrap())
    }

    fn answer(text: &str) -> Result<Answer, Failure> {
        Answer::parse(text.lines())
    }

    #[test]
    fn a_question_is_whole() {
        let text = question().text;
        assert!(text.starts_with("OPTIONS sip:ping@[2001:db8::1]:5060 SIP/2.0\r\n"), "{text}");
        assert!(text.contains("\r\nVia: SIP/2.0/UDP [2001:db8::2]:4000;branch=z9hG4bK"), "{text}");
        assert!(text.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{text}");
        assert_ne!(question().call_id, question().call_id);
    }

    #[test]
    fn an_answer_is_read_in_any_spelling() {
        let expected = Answer { status: 200, call_id: "x@y".into(), cseq: "1 OPTIONS".into(), length: 3 };
        let long = "SIP/2.0 200 OK\nVia: a\nCall-ID: x@y\nCSeq: 1 OPTIONS\nContent-Length: 3";
        let short = "sip/2.0 200\ni:x@y\nCSEQ :  1   OPTIONS\nl: 3";
        assert_eq!(answer(long).unwrap(), expected);
        assert_eq!(answer(short).unwrap(), expected);
    }

    #[test]
    fn what_is_no_answer_fails() {
        for text in [
            "",
            "SIP/2.0",
            "SIP/2.0 20",
            "SIP/2.0 2000 x",
            "SIP/2.0 +20 x",
            "SIP/2.0 099 x",
            "HTTP/1.1 200 OK",
        ] {
            assert_eq!(answer(text), Err(no_answer(text)), "{text}");
        }
        assert!(answer("SIP/2.0 200 OK\nContent-Length: -1").is_err());
    }

    #[test]
    fn only_the_last_answer_to_this_question_settles_it() {
        let question = question();
        let settled = |status, call_id: &str, cseq: &str| {
            question.settled_by(&Answer { status, call_id: call_id.into(), cseq: cseq.into(), length: 0 })
        };
        let ours = question.call_id.clone();
        assert_eq!(settled(200, &ours, "1 OPTIONS"), Some(200));
        assert_eq!(settled(404, &ours, "1 OPTIONS"), Some(404));
        assert_eq!(settled(100, &ours, "1 OPTIONS"), None);
        assert_eq!(settled(200, "other", "1 OPTIONS"), None);
        assert_eq!(settled(200, &ours, "2 OPTIONS"), None);
        assert_eq!(settled(200, &ours, "1 INVITE"), None);
    }
}
