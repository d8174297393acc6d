//! A DNS question (RFC 1035), over UDP or TCP. Messages are hickory-proto's: it is the codec of the resolver and server that most
//! Rust programs use, released often, and without its default features it compiles in seconds.
//!
//! A truncated answer over UDP counts by the records it has: a probe says which way it asks, so it is not asked again over TCP,
//! which may be answered by something else.

use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attempt::{self, Attempt};
use crate::outcome::{Failure, Success};
use crate::random;
use crate::spec::Dns;

/// Asks, and wants a record of the type asked for, one that matches.
pub async fn probe(dns: &Dns, attempt: &mut Attempt) -> Result<Success, Failure> {
    let question = Query::query(name(dns)?, record_type(&dns.record)?);
    let mut message = Message::new(u16::from_ne_bytes(random::bytes()?), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(question.clone());
    let request = message.to_vec().map_err(|error| Failure::Local(error.to_string()))?;
    let answer = if dns.tcp { over_tcp(&request, attempt).await } else { over_udp(&request, attempt).await }?;
    let records = records(&question, &answer, attempt)?;
    judge(dns, &records)
}

/// What is asked for. An address stands for its name in `in-addr.arpa` or `ip6.arpa` where that is where one looks (RFC 1035, 3.5;
/// RFC 3596, 2.5).
fn name(dns: &Dns) -> Result<Name, Failure> {
    if dns.record.eq_ignore_ascii_case("PTR")
        && let Ok(address) = dns.name.parse::<IpAddr>()
    {
        return Ok(Name::from(address));
    }
    let mut name = Name::from_str_relaxed(&dns.name)
        .map_err(|error| Failure::Local(format!("{} is no domain name: {error}", dns.name)))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Whether a text names a type of records, as `AAAA` or `TYPE28`.
pub fn is_record_type(text: &str) -> bool {
    record_type(text).is_ok()
}

/// By its name, or as `TYPE` and its number (RFC 3597, 5).
fn record_type(text: &str) -> Result<RecordType, Failure> {
    let text = text.to_ascii_uppercase();
    let number = text.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok());
    number
        .map(RecordType::from)
        .or_else(|| RecordType::from_str(&text).ok())
        .ok_or_else(|| Failure::Local(format!("{text} is no type of DNS records")))
}

async fn over_udp(request: &[u8], attempt: &mut Attempt) -> Result<Vec<u8>, Failure> {
    let socket = attempt.udp().await?;
    socket.send(request).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut strange = false;
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anybody can send a datagram: one with another id is not the answer (RFC 5452, 4.2), which may be still to come.
        if buffer[..length].get(..2) == request.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
        if !strange {
            attempt.step("an answer with another id was ignored");
            strange = true;
        }
    }
}

/// Messages have their length before them (RFC 1035, 4.2.2).
async fn over_tcp(request: &[u8], attempt: &mut Attempt) -> Result<Vec<u8>, Failure> {
    let mut stream = attempt.tcp().await?;
    let length =
        u16::try_from(request.len()).map_err(|_| Failure::Local("the question is too long".into()))?;
    stream.write_all(&[&length.to_be_bytes(), request].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answer.get(..2) != request.get(..2) {
        return Err(Failure::Protocol("the answer has another id".into()));
    }
    Ok(answer)
}

/// The records of an answer that are of the type asked for.
fn records(question: &Query, answer: &[u8], attempt: &mut Attempt) -> Result<Vec<Record>, Failure> {
    let message =
        Message::from_vec(answer).map_err(|_| Failure::Protocol("the answer is no DNS message".into()))?;
    if message.metadata.message_type != MessageType::Response {
        return Err(Failure::Protocol("the answer is a question".into()));
    }
    // Before the question: a server that cannot read it cannot repeat it.
    let code = message.metadata.response_code;
    attempt.step(short(code));
    if code != ResponseCode::NoError {
        return Err(Failure::Protocol(format!("{}: {}", short(code), words(code))));
    }
    if message.queries != [question.clone()] {
        return Err(Failure::Protocol("the answer is to another question".into()));
    }
    if message.metadata.truncation {
        attempt.step("the answer is truncated");
    }
    // A chain of CNAMEs leads to what was asked for; it is not that itself.
    let kind = question.query_type();
    let wanted = |record: &Record| kind == RecordType::ANY || record.record_type() == kind;
    Ok(message.answers.into_iter().filter(wanted).collect())
}

fn judge(dns: &Dns, records: &[Record]) -> Result<Success, Failure> {
    if records.is_empty() {
        return Err(Failure::Protocol(format!("the answer has no {} record", dns.record)));
    }
    let texts = records.iter().map(|record| written(&record.data));
    let matches = |text: String| dns.receive.as_ref().is_none_or(|pattern| pattern.matches(text.as_bytes()));
    if texts.into_iter().any(matches) {
        return Ok(Success::default());
    }
    attempt::expect("any record", dns.receive.as_ref(), written(&records[0].data).as_bytes())
        .map(|()| Success::default())
}

/// A record's data as a zone file has it (RFC 1035, 5.1).
fn written(data: &RData) -> String {
    let mut text = String::new();
    match data {
        // The library writes texts without quotes, one after the other.
        RData::TXT(texts) => {
            for (index, part) in texts.txt_data.iter().enumerate() {
                text.push_str(if index == 0 { "\"" } else { " \"" });
                part.iter().for_each(|byte| quote(*byte, &mut text));
                text.push('"');
            }
        }
        // RFC 3597, 5.
        RData::Unknown { rdata, .. } => {
            let bytes = &rdata.anything;
            text = format!("\\# {}", bytes.len());
            for (index, byte) in bytes.iter().enumerate() {
                let space = if index == 0 { " " } else { "" };
                let _ = write!(text, "{space}{byte:02X}");
            }
        }
        data => {
            // It fails for what no zone file has (OPT).
            let _ = write!(text, "{data}");
        }
    }
    text
}

fn quote(byte: u8, text: &mut String) {
    match byte {
        b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
        b' '..=b'~' => text.push(char::from(byte)),
        _ => {
            let _ = write!(text, "\\{byte:03}");
        }
    }
}

/// As dig writes it.
fn short(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => format!("RCODE {}", u16::from(other)),
    }
}

fn words(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::FormErr => "the server cannot read the question",
        ResponseCode::ServFail => "the server failed",
        ResponseCode::NXDomain => "there is no such name",
        ResponseCode::NotImp => "the server does not know this kind of question",
        ResponseCode::Refused => "the server does not answer us",
        other => other.to_str(),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{NULL, TXT};

    use super::*;

    #[test]
    fn data_is_written_as_in_a_zone_file() {
        let texts = TXT::from_bytes(vec![b"v=spf1 -all", b"a\"b\\c\xff"]);
        assert_eq!(written(&RData::TXT(texts)), r#""v=spf1 -all" "a\"b\\c\255""#);
        let data = RData::Unknown { code: RecordType::Unknown(65400), rdata: NULL::with(vec![10, 0, 255]) };
        assert_eq!(written(&data), r"\# 3 0A00FF");
        assert_eq!(written(&RData::A("192.0.2.1".parse().unwrap())), "192.0.2.1");
    }

    #[test]
    fn names_and_types_are_read() {
        let ask = |name: &str, record: &str| {
            name_of(&Dns { name: name.into(), record: record.into(), receive: None, tcp: false })
        };
        assert_eq!(ask("www.example.com", "A"), "www.example.com.");
        assert_eq!(ask("_sip._tcp.example.com.", "SRV"), "_sip._tcp.example.com.");
        assert_eq!(ask("192.0.2.7", "ptr"), "7.2.0.192.in-addr.arpa.");
        assert!(ask("2001:db8::1", "PTR").starts_with("1.0.0.0."));
        assert_eq!(record_type("aaaa").unwrap(), RecordType::AAAA);
        assert_eq!(record_type("TYPE15").unwrap(), RecordType::MX);
        assert!(record_type("NONSENSE").is_err());
    }

    fn name_of(dns: &Dns) -> String {
        name(dns).unwrap().to_string()
    }
}
