//! Messages as bytes. Pure.
//!
//! Everything is big endian. A message is one datagram, or one frame of a serial line:
//!
//! | Offset | Bytes | What |
//! |---|---|---|
//! | 0 | 4 | `DRHB` |
//! | 4 | 1 | Version: 1 |
//! | 5 | 1 | Kind: 1 beat, 2 neighbours |
//! | 6 | 1 | Id of the key that the message is signed with |
//! | 7 | 1 | Flags of a beat: 1 leaving, 2 held. All others are 0 |
//! | 8 | 2 | Length of all of it, with these bytes and the HMAC |
//! | 10 | 1 | Length of the sender's name: 1 to 63 |
//! | 11 | n | The sender's name: letters and digits of ASCII, `.`, `_` and `-` |
//! | 11+n | 8 | Incarnation |
//! | 19+n | 8 | Sequence; not 0 |
//! | 27+n | | Body, by kind |
//! | end-32 | 32 | HMAC-SHA256 (RFC 2104) of all bytes before it |
//!
//! A beat's body:
//!
//! | Bytes | What |
//! |---|---|
//! | 8 | Hash of the configuration |
//! | 4 | Microseconds of silence after which the sender counts as dead |
//! | 8 | The sender's wall clock: microseconds since 1970 |
//! | 1 | Number of acknowledgements, at most 16; then each: 4 director, 8 incarnation, 8 sequence |
//! | 1 | Number of echoes, at most 16; then each: 4 director, 8 sequence, 4 microseconds that it waited |
//! | 1 | Number of groups, at most 64; then each as follows |
//!
//! A group:
//!
//! | Bytes | What |
//! |---|---|
//! | 4 | Group |
//! | 1 | Role: 0 standby, 1 candidate, 2 active, 3 yielding |
//! | 1 | Flags: 1 eligible, 2 reluctant, 4 a vote follows, 8 an heir follows. All others are 0 |
//! | 8 | Term |
//! | 1, 2, 2 | Witnesses, services, score (two's complement) |
//! | 2 | Preference |
//! | 4, 8 | With a vote: director and term |
//! | 4 | With an heir: director |
//!
//! The body of neighbours:
//!
//! | Bytes | What |
//! |---|---|
//! | 1 | Number of neighbours, at most 32; then each as follows |
//! | 1 | Family: 4 or 6 |
//! | 4 or 16 | Address |
//! | 6 | MAC |
//!
//! Directors and groups are 32 bits of FNV-1a of their names ([`Key::of`]). There is one way to write a message; a receiver
//! refuses all others, also any byte more. It looks at the HMAC before it looks at anything from the flags on, except the length.

use std::net::IpAddr;
use std::time::Duration;

use hmac::Mac as _;

use super::keys::Keys;
use super::message::{
    Ack, Beat, Body, Echo, GroupBeat, Key, MOST_DIRECTORS, MOST_GROUPS, MOST_NEIGHBOURS, Message, Neighbour,
    Role, Standing,
};

/// The longest message, in bytes: a beat with everything in it, from a director with the longest name. It always fits into a
/// datagram, but not always into one packet: an Ethernet of 1500 bytes has room for some 23 groups with votes of sixteen
/// directors with the longest names, and for some 40 of two directors with short ones. The kernel fragments longer ones.
pub const LONGEST: usize = HEADER
    + LONGEST_NAME
    + NUMBERS
    + 20
    + 3
    + MOST_DIRECTORS * (ACK + ECHO)
    + MOST_GROUPS * (GROUP + VOTE + HEIR)
    + MAC;
/// The most bytes of a director's name.
pub const LONGEST_NAME: usize = 63;

const MAGIC: [u8; 4] = *b"DRHB";
const VERSION: u8 = 1;
const KIND_BEAT: u8 = 1;
const KIND_NEIGHBOURS: u8 = 2;

const LEAVING: u8 = 1;
const HELD: u8 = 2;

const ELIGIBLE: u8 = 1;
const RELUCTANT: u8 = 2;
const WITH_VOTE: u8 = 4;
const WITH_HEIR: u8 = 8;

/// Bytes up to and with the name's length.
const HEADER: usize = 11;
/// Where the whole length stands.
const LENGTH: std::ops::Range<usize> = 8..10;
/// Bytes of incarnation and sequence.
const NUMBERS: usize = 16;
/// Bytes of the HMAC.
const MAC: usize = 32;

/// Bytes of an acknowledgement.
const ACK: usize = 20;
/// Bytes of an echo.
const ECHO: usize = 16;
/// Bytes of a group without vote and heir.
const GROUP: usize = 21;
/// Bytes of a vote.
const VOTE: usize = 12;
/// Bytes of an heir.
const HEIR: usize = 4;
/// Bytes of an IPv4 neighbour, the shortest.
const NEIGHBOUR: usize = 11;

/// Whether a director's name can be sent: 1 to 63 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`.
pub fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(known)
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It does not begin as a message does.
    #[error("this is no message of a director; something else sends to this port or line")]
    NotOurs,
    /// It is of another version.
    #[error(
        "a director of another release sent this (format {0}, here {VERSION}); run the same release everywhere"
    )]
    Version(u8),
    /// It is signed with a key that is not in the key file.
    #[error(
        "this is signed with key {0}, which is not in the key file; have the same key file on all directors"
    )]
    UnknownKey(u8),
    /// The HMAC is not what that key makes: another secret, or bytes were changed on the way.
    #[error(
        "the secret of key {0} is not the one this is signed with; have the same key file on all directors"
    )]
    WrongKey(u8),
    /// It is not written as a message is.
    #[error("this is not written as a message is: {0}")]
    Malformed(&'static str),
}

impl Bad {
    /// A word for it that stays the same: `garbage`, `version`, `key` or `malformed`.
    pub fn reason(&self) -> &'static str {
        match self {
            Bad::NotOurs => "garbage",
            Bad::Version(_) => "version",
            Bad::UnknownKey(_) | Bad::WrongKey(_) => "key",
            Bad::Malformed(_) => "malformed",
        }
    }
}

/// The bytes of a message, at most [`LONGEST`], signed with the first key.
///
/// The configuration sees to it that names can be sent ([`is_name`]) and that nothing is more than a message can have. If there
/// is more all the same, the first ones are sent. A time that an echo waited is cut to whole microseconds.
pub fn encode(message: &Message, keys: &Keys) -> Vec<u8> {
    let (id, mut mac) = keys.signing();
    let mut out = write_message(message, id);
    mac.update(&out);
    out.extend(mac.finalize().into_bytes());
    out
}

/// The message that these bytes are. Whoever wrote it has one of the keys; whether it is fresh is `session`'s business.
///
/// # Errors
///
/// What is wrong with them.
pub fn decode(bytes: &[u8], keys: &Keys) -> Result<Message, Bad> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Bad::NotOurs);
    }
    if let Some(&version) = bytes.get(4)
        && version != VERSION
    {
        return Err(Bad::Version(version));
    }
    if bytes.len() < HEADER + NUMBERS + MAC {
        return Err(Bad::Malformed("it is too short"));
    }
    if usize::from(u16::from_be_bytes([bytes[LENGTH.start], bytes[LENGTH.start + 1]])) != bytes.len() {
        return Err(Bad::Malformed("it is not as long as it says"));
    }
    let (signed, code) = bytes.split_at(bytes.len() - MAC);
    let id = signed[6];
    let mut mac = keys.verifying(id).ok_or(Bad::UnknownKey(id))?;
    mac.update(signed);
    mac.verify_slice(code).map_err(|_| Bad::WrongKey(id))?;
    read_message(signed)
}

/// The bytes of a message that is to be signed with this key, without the HMAC.
fn write_message(message: &Message, key: u8) -> Vec<u8> {
    let (kind, flags) = match &message.body {
        Body::Beat(beat) => (KIND_BEAT, bits(&[(LEAVING, beat.leaving), (HELD, beat.held)])),
        Body::Neighbours(_) => (KIND_NEIGHBOURS, 0),
    };
    let mut out = Vec::with_capacity(512);
    out.extend(MAGIC);
    out.extend([VERSION, kind, key, flags, 0, 0]);
    list(&mut out, message.from.as_bytes(), LONGEST_NAME, |out, byte| out.push(*byte));
    out.extend(message.incarnation.to_be_bytes());
    out.extend(message.sequence.to_be_bytes());
    match &message.body {
        Body::Beat(beat) => write_beat(&mut out, beat),
        Body::Neighbours(neighbours) => list(&mut out, neighbours, MOST_NEIGHBOURS, write_neighbour),
    }
    let length = (out.len() + MAC) as u16;
    out[LENGTH].copy_from_slice(&length.to_be_bytes());
    out
}

/// The message in bytes that are authentic, without the HMAC.
fn read_message(signed: &[u8]) -> Result<Message, Bad> {
    let (kind, flags) = (signed[5], signed[7]);
    let mut input = Input(&signed[HEADER - 1..]);
    let length = usize::from(input.u8()?);
    let from = std::str::from_utf8(input.take(length)?).ok().filter(|name| is_name(name));
    let from = from.ok_or(Bad::Malformed("the sender's name cannot be one"))?.to_owned();
    let incarnation = input.u64()?;
    let sequence = input.u64()?;
    if sequence == 0 {
        return Err(Bad::Malformed("it has the number 0"));
    }
    let body = match kind {
        KIND_BEAT => Body::Beat(read_beat(&mut input, flags)?),
        KIND_NEIGHBOURS => {
            known_bits(flags, 0)?;
            Body::Neighbours(input.list(MOST_NEIGHBOURS, NEIGHBOUR, read_neighbour)?)
        }
        _ => return Err(Bad::Malformed("it is of an unknown kind")),
    };
    if !input.0.is_empty() {
        return Err(Bad::Malformed("there is something after its end"));
    }
    Ok(Message { from, incarnation, sequence, body })
}

fn write_beat(out: &mut Vec<u8>, beat: &Beat) {
    out.extend(beat.config.to_be_bytes());
    out.extend(u32::try_from(beat.dead_after.as_micros()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(u64::try_from(beat.clock.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
    list(out, &beat.acks, MOST_DIRECTORS, |out, ack| {
        out.extend(ack.node.0.to_be_bytes());
        out.extend(ack.incarnation.to_be_bytes());
        out.extend(ack.sequence.to_be_bytes());
    });
    list(out, &beat.echoes, MOST_DIRECTORS, |out, echo| {
        out.extend(echo.node.0.to_be_bytes());
        out.extend(echo.sequence.to_be_bytes());
        out.extend(u32::try_from(echo.waited.as_micros()).unwrap_or(u32::MAX).to_be_bytes());
    });
    list(out, &beat.groups, MOST_GROUPS, write_group);
}

fn read_beat(input: &mut Input, flags: u8) -> Result<Beat, Bad> {
    known_bits(flags, LEAVING | HELD)?;
    Ok(Beat {
        config: input.u64()?,
        dead_after: Duration::from_micros(input.u32()?.into()),
        clock: Duration::from_micros(input.u64()?),
        leaving: flags & LEAVING != 0,
        held: flags & HELD != 0,
        acks: input.list(MOST_DIRECTORS, ACK, |input| {
            Ok(Ack { node: input.key()?, incarnation: input.u64()?, sequence: input.u64()? })
        })?,
        echoes: input.list(MOST_DIRECTORS, ECHO, |input| {
            let (node, sequence) = (input.key()?, input.u64()?);
            Ok(Echo { node, sequence, waited: Duration::from_micros(input.u32()?.into()) })
        })?,
        groups: input.list(MOST_GROUPS, GROUP, read_group)?,
    })
}

fn write_group(out: &mut Vec<u8>, group: &GroupBeat) {
    let role = match group.role {
        Role::Standby => 0,
        Role::Candidate => 1,
        Role::Active => 2,
        Role::Yielding => 3,
    };
    let flags = bits(&[
        (ELIGIBLE, group.eligible),
        (RELUCTANT, group.reluctant),
        (WITH_VOTE, group.vote.is_some()),
        (WITH_HEIR, group.heir.is_some()),
    ]);
    out.extend(group.group.0.to_be_bytes());
    out.extend([role, flags]);
    out.extend(group.term.to_be_bytes());
    out.push(group.standing.witnesses);
    out.extend(group.standing.services.to_be_bytes());
    out.extend(group.standing.score.to_be_bytes());
    out.extend(group.preference.to_be_bytes());
    if let Some((node, term)) = group.vote {
        out.extend(node.0.to_be_bytes());
        out.extend(term.to_be_bytes());
    }
    if let Some(node) = group.heir {
        out.extend(node.0.to_be_bytes());
    }
}

fn read_group(input: &mut Input) -> Result<GroupBeat, Bad> {
    let group = input.key()?;
    let role = match input.u8()? {
        0 => Role::Standby,
        1 => Role::Candidate,
        2 => Role::Active,
        3 => Role::Yielding,
        _ => return Err(Bad::Malformed("a group has an unknown role")),
    };
    let flags = input.u8()?;
    known_bits(flags, ELIGIBLE | RELUCTANT | WITH_VOTE | WITH_HEIR)?;
    let term = input.u64()?;
    let standing =
        Standing { witnesses: input.u8()?, services: input.u16()?, score: input.u16()?.cast_signed() };
    let preference = input.u16()?;
    let vote = if flags & WITH_VOTE != 0 { Some((input.key()?, input.u64()?)) } else { None };
    let heir = if flags & WITH_HEIR != 0 { Some(input.key()?) } else { None };
    let (eligible, reluctant) = (flags & ELIGIBLE != 0, flags & RELUCTANT != 0);
    Ok(GroupBeat { group, role, term, eligible, reluctant, standing, preference, vote, heir })
}

fn write_neighbour(out: &mut Vec<u8>, neighbour: &Neighbour) {
    match neighbour.address {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend(address.octets());
        }
    }
    out.extend(neighbour.mac);
}

fn read_neighbour(input: &mut Input) -> Result<Neighbour, Bad> {
    let address = match input.u8()? {
        4 => IpAddr::from(input.array::<4>()?),
        6 => IpAddr::from(input.array::<16>()?),
        _ => return Err(Bad::Malformed("a neighbour's address is of an unknown family")),
    };
    Ok(Neighbour { address, mac: input.array()? })
}

/// Writes how many items there are, and the items; at most `most` of both.
fn list<T>(out: &mut Vec<u8>, items: &[T], most: usize, write: impl Fn(&mut Vec<u8>, &T)) {
    let items = &items[..items.len().min(most)];
    out.push(items.len() as u8);
    for item in items {
        write(out, item);
    }
}

/// Those bits whose condition holds.
fn bits(bits: &[(u8, bool)]) -> u8 {
    bits.iter().filter(|(_, set)| *set).fold(0, |all, (bit, _)| all | bit)
}

/// Refuses flags with other bits than these.
fn known_bits(flags: u8, known: u8) -> Result<(), Bad> {
    if flags & !known == 0 { Ok(()) } else { Err(Bad::Malformed("it has unknown flags")) }
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Bad::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Bad::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Bad> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Bad> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Bad> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Bad> {
        self.array().map(u64::from_be_bytes)
    }

    fn key(&mut self) -> Result<Key, Bad> {
        self.u32().map(Key)
    }

    /// A number of items, at most `most`, of which each has at least `least` bytes; then these items.
    fn list<T>(
        &mut self,
        most: usize,
        least: usize,
        read: impl Fn(&mut Self) -> Result<T, Bad>,
    ) -> Result<Vec<T>, Bad> {
        let count = usize::from(self.u8()?);
        if count > most {
            return Err(Bad::Malformed("there are too many items in a list"));
        }
        // Nothing is set aside for items that cannot be there.
        if self.0.len() < count * least {
            return Err(Bad::Malformed("it ends too early"));
        }
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests;
