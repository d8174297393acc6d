//! HTTP and HTTPS: a request, and what its answer must be. `exchange` has the connection, this file the judgement.

mod exchange;
mod redirect;
pub(crate) mod tasks;

use hyper::header::HeaderMap;

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::spec::{Http, WeightFrom};
use crate::text::Pattern;

use exchange::{Answer, Body};
use redirect::Place;

/// Asks, follows redirects on the same real server, and judges the last answer: its status, its body, and the weight in it.
///
/// The body is only read where something in it is wanted, and no further than until `receive` matches for certain.
///
/// # Errors
/// Those of the connection and of TLS; a status that is not good; a body that does not match, or has no end; a weight that is
/// missing or is not a number from 0 to 65535; something that is not HTTP.
pub async fn probe(http: &Http, attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut place = Place::first(http, attempt.real());
    for _ in 0..http.redirects {
        let answer = exchange::run(http, &place, true, attempt).await?;
        match redirect::next(&answer, &place)? {
            None => return judge(http, &answer),
            Some(next) => place = next,
        }
        attempt.step(format!("redirected to {}", redirect::shown(&place.path)));
    }
    judge(http, &exchange::run(http, &place, false, attempt).await?)
}

fn judge(http: &Http, answer: &Answer) -> Result<Success, Failure> {
    if !http.statuses.iter().any(|&(from, to)| (from..=to).contains(&answer.status)) {
        return Err(Failure::Status(answer.status));
    }
    if let Some(pattern) = &http.receive {
        found(&answer.body, pattern)?;
    }
    let weight = match &http.weight {
        None => None,
        Some(WeightFrom::Header(name)) => Some(weight_in_header(name, &answer.headers)?),
        Some(WeightFrom::Body(pattern)) => Some(weight(found(&answer.body, pattern)?)?),
    };
    Ok(Success { weight })
}

/// What of a body matches.
fn found<'a>(body: &'a Body, pattern: &Pattern) -> Result<&'a [u8], Failure> {
    pattern.find(&body.bytes).ok_or_else(|| match body.cut {
        true => Failure::TooLong,
        false => Failure::Mismatch { what: "body", pattern: pattern.to_string() },
    })
}

fn weight_in_header(name: &str, headers: &HeaderMap) -> Result<u16, Failure> {
    let value =
        headers.get(name).ok_or_else(|| Failure::Protocol(format!("no header {name} with a weight")))?;
    weight(value.as_bytes())
}

/// A weight, in decimal.
fn weight(text: &[u8]) -> Result<u16, Failure> {
    let text = text.trim_ascii();
    std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        // Enough to see what it is.
        let shown = String::from_utf8_lossy(&text[..text.len().min(20)]);
        Failure::Protocol(format!("the weight {shown:?} is not a number from 0 to 65535"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_decimal_and_of_16_bits() {
        assert_eq!(weight(b" 0 "), Ok(0));
        assert_eq!(weight(b"65535\r"), Ok(65535));
        for bad in ["", "65536", "-1", "3.5", "ten", &"9".repeat(1000)] {
            assert!(
                matches!(weight(bad.as_bytes()), Err(Failure::Protocol(why)) if why.len() < 100),
                "{bad}"
            );
        }
        assert!(weight(b"\xff").is_err());
    }
}
