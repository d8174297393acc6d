//! An Access-Request (RFC 2865). The crates for RADIUS there are were not kept up for years and do not sign requests, so the few
//! bytes of it are put together here; MD5 and HMAC are RustCrypto's, which the database libraries bring along anyway.
//!
//! Requests are signed with a Message-Authenticator as their first attribute (RFC 3579, 3.2; against CVE-2024-3596,
//! "BlastRADIUS"). It is checked in an answer that has one. One that has none is taken as well, on the strength of its Response
//! Authenticator: older servers sign only what has EAP in it.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::random;
use crate::spec::Radius;

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCESS_CHALLENGE: u8 = 11;

const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const REPLY_MESSAGE: u8 = 18;
const NAS_IDENTIFIER: u8 = 32;
const MESSAGE_AUTHENTICATOR: u8 = 80;

/// Code, identifier, length and authenticator.
const HEADER: usize = 20;
/// The longest packet (RFC 2865, 3).
const LONGEST: usize = 4096;
/// The longest password (RFC 2865, 5.2).
const LONGEST_PASSWORD: usize = 128;

type Authenticator = [u8; 16];

/// Asks for access, and passes when it is given.
pub async fn probe(radius: &Radius, attempt: &mut Attempt) -> Result<Success, Failure> {
    let [identifier] = random::bytes()?;
    let authenticator = random::bytes()?;
    let request = request(radius, identifier, &authenticator)?;
    let socket = attempt.udp().await?;
    socket.send(&request).await?;
    attempt.step("Access-Request sent");
    let mut buffer = [0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Not an answer to this: the real one may be still to come.
        if buffer[..length].get(1) == Some(&identifier) {
            let secret = radius.secret.reveal().as_bytes();
            return judge(verified(&buffer[..length], &authenticator, secret)?, attempt);
        }
    }
}

fn request(radius: &Radius, identifier: u8, authenticator: &Authenticator) -> Result<Vec<u8>, Failure> {
    let secret = radius.secret.reveal().as_bytes();
    let mut packet = vec![ACCESS_REQUEST, identifier, 0, 0];
    packet.extend_from_slice(authenticator);
    put(&mut packet, MESSAGE_AUTHENTICATOR, &[0; 16])?;
    put(&mut packet, USER_NAME, radius.login.user.as_bytes())?;
    let password = hidden(radius.login.password.reveal().as_bytes(), secret, authenticator)?;
    put(&mut packet, USER_PASSWORD, &password)?;
    // One of these is mandatory (RFC 2865, 4.1); which address of ours the server sees is not known here.
    put(&mut packet, NAS_IDENTIFIER, b"healthcheck")?;
    let length = u16::try_from(packet.len()).map_err(|_| Failure::Local("the request is too long".into()))?;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let signature = keyed(secret, &packet).finalize().into_bytes();
    packet[HEADER + 2..HEADER + 18].copy_from_slice(&signature);
    Ok(packet)
}

fn put(packet: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), Failure> {
    let length = u8::try_from(value.len() + 2)
        .map_err(|_| Failure::Local("the user's name is too long for RADIUS".into()))?;
    packet.extend_from_slice(&[kind, length]);
    packet.extend_from_slice(value);
    Ok(())
}

/// A password, hidden in the way of RFC 2865, 5.2: each block of 16 bytes under the MD5 of the secret and the block before.
fn hidden(password: &[u8], secret: &[u8], authenticator: &Authenticator) -> Result<Vec<u8>, Failure> {
    if password.len() > LONGEST_PASSWORD {
        return Err(Failure::Local("the password is too long for RADIUS".into()));
    }
    let mut padded = password.to_vec();
    padded.resize(password.len().max(1).next_multiple_of(16), 0);
    let mut before = *authenticator;
    for block in padded.chunks_exact_mut(16) {
        let pad = Md5::new().chain_update(secret).chain_update(before).finalize();
        block.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
        before.copy_from_slice(block);
    }
    Ok(padded)
}

fn keyed(secret: &[u8], packet: &[u8]) -> Hmac<Md5> {
    // HMAC takes keys of any length.
    let key = <Hmac<Md5> as KeyInit>::new_from_slice(secret).unwrap_or_else(|_| unreachable!());
    key.chain_update(packet)
}

/// An answer that comes from one who knows the secret.
struct Answer<'a> {
    code: u8,
    attributes: &'a [u8],
}

/// Checks the Response Authenticator (RFC 2865, 3), and the Message-Authenticator where there is one.
fn verified<'a>(packet: &'a [u8], request: &Authenticator, secret: &[u8]) -> Result<Answer<'a>, Failure> {
    let broken = || Failure::Protocol("the answer is no RADIUS packet".into());
    let header = packet.get(..HEADER).ok_or_else(broken)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // What is beyond the length is padding (RFC 2865, 3).
    let packet = packet.get(..length).ok_or_else(broken)?;
    let attributes = packet.get(HEADER..).ok_or_else(broken)?;
    let digest = Md5::new()
        .chain_update(&packet[..4])
        .chain_update(request)
        .chain_update(attributes)
        .chain_update(secret)
        .finalize();
    let unsigned = || Failure::Protocol("the answer is not signed with the shared secret".into());
    if digest.as_slice() != &header[4..] {
        return Err(unsigned());
    }
    let mut offset = HEADER;
    for (kind, value) in read(attributes) {
        let value = value.ok_or_else(broken)?;
        if kind == MESSAGE_AUTHENTICATOR {
            let mut signed = packet.to_vec();
            signed[4..HEADER].copy_from_slice(request);
            signed[offset + 2..offset + 2 + value.len()].fill(0);
            keyed(secret, &signed).verify_slice(value).map_err(|_| unsigned())?;
        }
        offset += 2 + value.len();
    }
    Ok(Answer { code: header[0], attributes })
}

/// Types and values of attributes. None, and then no more: a length that cannot be.
fn read(mut attributes: &[u8]) -> impl Iterator<Item = (u8, Option<&[u8]>)> {
    std::iter::from_fn(move || {
        let (&kind, rest) = attributes.split_first()?;
        let length = rest.first().copied().map_or(0, usize::from);
        let value = attributes.get(2..length);
        attributes = if value.is_some() { &attributes[length..] } else { &[] };
        Some((kind, value))
    })
}

fn judge(answer: Answer<'_>, attempt: &mut Attempt) -> Result<Success, Failure> {
    match answer.code {
        ACCESS_ACCEPT => {
            attempt.step("Access-Accept");
            Ok(Success::default())
        }
        ACCESS_REJECT => {
            let message = read(answer.attributes).find(|(kind, _)| *kind == REPLY_MESSAGE);
            let message = message.and_then(|(_, value)| value).unwrap_or(b"Access-Reject");
            Err(Failure::Login(String::from_utf8_lossy(message).into_owned()))
        }
        ACCESS_CHALLENGE => Err(Failure::Login("the server wants more than a password".into())),
        other => Err(Failure::Protocol(format!("the answer has code {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Login;
    use crate::text::Secret;

    const REQUEST: Authenticator = [7; 16];

    /// RFC 2865, 7.1: the example's password and answer.
    #[test]
    fn the_example_of_the_rfc_is_met() {
        let authenticator = 0x0f403f9473978057bd83d5cb98f4227au128.to_be_bytes();
        let hidden = hidden(b"arctangent", b"xyzzy5461", &authenticator).unwrap();
        assert_eq!(hidden, 0x0dbe708d93d413ce3196e43f782a0aeeu128.to_be_bytes());
        let mut answer = vec![2, 0, 0, 0x26];
        answer.extend(0x86fe220e7624ba2a1005f6bf9b55e0b2u128.to_be_bytes());
        answer.extend([6, 6, 0, 0, 0, 1, 15, 6, 0, 0, 0, 0, 14, 6, 192, 168, 1, 3]);
        assert_eq!(verified(&answer, &authenticator, b"xyzzy5461").unwrap().code, ACCESS_ACCEPT);
        assert!(verified(&answer, &authenticator, b"another").is_err());
        answer[25] = 2;
        assert!(verified(&answer, &authenticator, b"xyzzy5461").is_err());
    }

    #[test]
    fn a_wrong_message_authenticator_is_noticed() {
        let radius = Radius {
            login: Login { user: "u".into(), password: Secret::new("p") },
            secret: Secret::new("s"),
        };
        // A request has the form of an answer, once its authenticator is the right one.
        let mut packet = request(&radius, 1, &REQUEST).unwrap();
        let sign = |packet: &mut Vec<u8>| {
            packet[4..HEADER].copy_from_slice(&REQUEST);
            let digest = Md5::new().chain_update(&packet).chain_update(b"s").finalize();
            packet[4..HEADER].copy_from_slice(&digest);
        };
        sign(&mut packet);
        assert!(verified(&packet, &REQUEST, b"s").is_ok());
        packet[HEADER + 2] ^= 1;
        sign(&mut packet);
        assert!(verified(&packet, &REQUEST, b"s").is_err());
    }

    #[test]
    fn what_is_no_packet_is_no_answer() {
        for packet in [
            &b""[..],
            &[2, 1, 0, 20],
            &[2; 20],
            &[2, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(verified(packet, &REQUEST, b"s").is_err());
        }
        let broken: Vec<_> = read(&[18, 1, 18, 3, b'a']).collect();
        assert_eq!(broken, [(18, None)]);
    }
}
