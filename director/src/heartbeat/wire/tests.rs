//! Round trips, bytes as they are, and what is refused.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn keys() -> Keys {
    Keys::of(&[(7, SECRET), (9, "another secret of the cluster")])
}

fn beat(beat: Beat) -> Message {
    Message { from: "lb1".to_owned(), incarnation: 5, sequence: 6, body: Body::Beat(beat) }
}

fn neighbours(neighbours: Vec<Neighbour>) -> Message {
    Message { from: "lb1".to_owned(), incarnation: 5, sequence: 6, body: Body::Neighbours(neighbours) }
}

fn group() -> GroupBeat {
    GroupBeat {
        group: Key(0x0102_0304),
        role: Role::Yielding,
        term: 9,
        eligible: true,
        reluctant: true,
        standing: Standing { witnesses: 3, services: 0x0405, score: -2 },
        preference: 0x0e0f,
        vote: Some((Key(0x0607_0809), 10)),
        heir: Some(Key(0x0a0b_0c0d)),
    }
}

/// A beat with two of everything.
fn full() -> Beat {
    let ack = Ack { node: Key(1), incarnation: 2, sequence: 3 };
    let echo = Echo { node: Key(4), sequence: 5, waited: Duration::from_micros(6) };
    let plain = GroupBeat { role: Role::Standby, vote: None, heir: None, ..group() };
    Beat {
        config: 77,
        dead_after: Duration::from_micros(350_000),
        clock: Duration::from_micros(1_700_000_000_000_001),
        leaving: false,
        held: true,
        acks: vec![ack; 2],
        echoes: vec![echo; 2],
        groups: vec![group(), plain],
    }
}

fn both_families() -> Vec<Neighbour> {
    let mac = [1, 2, 3, 4, 5, 6];
    let four = Neighbour { address: Ipv4Addr::new(192, 0, 2, 1).into(), mac };
    let six = Neighbour { address: Ipv6Addr::LOCALHOST.into(), mac };
    vec![four, six]
}

/// Gives bytes that were changed the length and the HMAC that fit, so that a receiver looks at what they say.
fn signed_anew(mut bytes: Vec<u8>, keys: &Keys) -> Vec<u8> {
    let (id, mut mac) = keys.signing();
    bytes.truncate(bytes.len().saturating_sub(MAC));
    if bytes.len() < HEADER {
        return bytes;
    }
    let length = (bytes.len() + MAC) as u16;
    bytes[6] = id;
    bytes[LENGTH].copy_from_slice(&length.to_be_bytes());
    mac.update(&bytes);
    bytes.extend(mac.finalize().into_bytes());
    bytes
}

/// The bytes of a message with these ones changed, signed again, and what becomes of them.
fn changed(message: &Message, change: impl FnOnce(&mut Vec<u8>)) -> Result<Message, Bad> {
    let mut bytes = encode(message, &keys());
    change(&mut bytes);
    decode(&signed_anew(bytes, &keys()), &keys())
}

#[test]
fn the_bytes_are_those_of_the_table() {
    let message = beat(Beat {
        config: 0x1122,
        dead_after: Duration::from_micros(0x0005_5730),
        clock: Duration::from_micros(0x0006_0a24_181e_4001),
        held: true,
        groups: vec![group()],
        ..Beat::default()
    });
    let bytes = encode(&message, &keys());
    let mut expected = b"DRHB\x01\x01\x07\x02\x00".to_vec();
    expected.push(11 + 3 + 16 + 20 + 3 + 37 + 32);
    expected.extend(b"\x03lb1\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06");
    expected.extend(b"\0\0\0\0\0\0\x11\x22\0\x05\x57\x30\0\x06\x0a\x24\x18\x1e\x40\x01\0\0\x01");
    expected.extend(b"\x01\x02\x03\x04\x03\x0f\0\0\0\0\0\0\0\x09\x03\x04\x05\xff\xfe\x0e\x0f");
    expected.extend(b"\x06\x07\x08\x09\0\0\0\0\0\0\0\x0a\x0a\x0b\x0c\x0d");
    assert_eq!(bytes[..bytes.len() - 32], expected);
    // From Python's hmac.
    let code: String = bytes[bytes.len() - 32..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(code, "4f1ed3c135d8221f1ba8a0342fee69ed9d08072ec2159cc004f6b647b3711a18");

    let bytes = encode(&neighbours(both_families()), &keys());
    let body = b"\x02\x04\xc0\0\x02\x01\x01\x02\x03\x04\x05\x06\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02\x03\x04\x05\x06";
    assert_eq!(bytes[4..8], *b"\x01\x02\x07\x00");
    assert_eq!(bytes[30..bytes.len() - 32], *body);
}

#[test]
fn the_longest_message_is_as_long_as_said() {
    let ack = Ack { node: Key(1), incarnation: 2, sequence: 3 };
    let echo = Echo { node: Key(4), sequence: 5, waited: Duration::MAX };
    let beat = Beat {
        acks: vec![ack; MOST_DIRECTORS],
        echoes: vec![echo; MOST_DIRECTORS],
        groups: vec![group(); MOST_GROUPS],
        ..full()
    };
    let message =
        Message { from: "x".repeat(LONGEST_NAME), incarnation: 1, sequence: 1, body: Body::Beat(beat) };
    let bytes = encode(&message, &keys());
    assert_eq!((bytes.len(), LONGEST), (3089, 3089));
    let Ok(Message { body: Body::Beat(beat), .. }) = decode(&bytes, &keys()) else { panic!("not decoded") };
    assert_eq!(beat.groups.len(), MOST_GROUPS);
    assert_eq!(
        beat.echoes[0].waited,
        Duration::from_micros(u32::MAX.into()),
        "waited for more than can be said"
    );
}

#[test]
fn an_ethernet_packet_has_room_for_as_many_groups_as_said() {
    // 1500 bytes without the headers of IPv6 and UDP.
    let room = 1452;
    let length = |name: usize, others: usize, groups: usize| {
        let ack = Ack { node: Key(1), incarnation: 2, sequence: 3 };
        let echo = Echo { node: Key(4), sequence: 5, waited: Duration::ZERO };
        let groups = vec![GroupBeat { heir: None, ..group() }; groups];
        let beat = Beat { acks: vec![ack; others], echoes: vec![echo; others], groups, ..full() };
        let from = "x".repeat(name);
        encode(&Message { from, incarnation: 1, sequence: 1, body: Body::Beat(beat) }, &keys()).len()
    };
    assert!(length(63, 15, 23) <= room && length(63, 15, 24) > room, "{}", length(63, 15, 23));
    assert!(length(3, 1, 40) <= room && length(3, 1, 41) > room, "{}", length(3, 1, 40));
}

#[test]
fn more_than_a_message_can_have_is_left_out() {
    let message = beat(Beat { groups: vec![group(); MOST_GROUPS + 1], ..Beat::default() });
    let Ok(Message { body: Body::Beat(beat), .. }) = decode(&encode(&message, &keys()), &keys()) else {
        panic!("not decoded")
    };
    assert_eq!(beat.groups.len(), MOST_GROUPS);
}

#[test]
fn keys_rotate_without_an_outage() {
    let (old, new) = ((1, "the old secret of it all"), (2, "the new secret of it all"));
    let stages = [vec![old], vec![old, new], vec![new, old], vec![new]];
    let stages = stages.map(|stage| Keys::of(&stage));
    for pair in stages.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            assert_eq!(decode(&encode(&beat(full()), from), to), Ok(beat(full())));
        }
    }
    assert_eq!(decode(&encode(&beat(full()), &stages[0]), &stages[3]), Err(Bad::UnknownKey(1)));
    let other = Keys::of(&[(1, "another one with that id")]);
    assert_eq!(decode(&encode(&beat(full()), &stages[0]), &other), Err(Bad::WrongKey(1)));
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let good = encode(&beat(full()), &keys());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases: Vec<(Vec<u8>, Bad, &str)> = vec![
        (vec![], Bad::NotOurs, "garbage"),
        (b"DRH".to_vec(), Bad::NotOurs, "garbage"),
        (b"GET / HTTP/1.1\r\n".to_vec(), Bad::NotOurs, "garbage"),
        (b"DRHB".to_vec(), Bad::Malformed("it is too short"), "malformed"),
        (b"DRHB\x02".to_vec(), Bad::Version(2), "version"),
        (with(4, 2), Bad::Version(2), "version"),
        (with(6, 8), Bad::UnknownKey(8), "key"),
        (with(6, 0), Bad::UnknownKey(0), "key"),
        (with(6, 9), Bad::WrongKey(9), "key"),
        (with(40, 99), Bad::WrongKey(7), "key"),
        (with(good.len() - 1, good[good.len() - 1] ^ 1), Bad::WrongKey(7), "key"),
        ([good.clone(), vec![0]].concat(), Bad::Malformed("it is not as long as it says"), "malformed"),
        (good[..good.len() - 1].to_vec(), Bad::Malformed("it is not as long as it says"), "malformed"),
    ];
    for (bytes, bad, reason) in cases {
        let found = decode(&bytes, &keys()).expect_err("it was taken");
        assert_eq!((found, found.reason()), (bad, reason), "{bytes:?}");
        assert!(found.to_string().len() > 30);
    }
}

#[test]
fn what_is_authentic_must_still_be_well_formed() {
    let full = beat(full());
    // Of "lb1"'s beat: 30 the configuration, 50 the acknowledgements, 91 the echoes, 124 the groups, 125 the first one.
    type Change = fn(&mut Vec<u8>);
    let cases: Vec<(Change, &str)> = vec![
        (|bytes| bytes[5] = 0, "it is of an unknown kind"),
        (|bytes| bytes[5] = 3, "it is of an unknown kind"),
        (|bytes| bytes[7] |= 4, "it has unknown flags"),
        (|bytes| bytes[7] |= 128, "it has unknown flags"),
        (|bytes| bytes[10] = 0, "the sender's name cannot be one"),
        (|bytes| bytes[10] = 255, "it ends too early"),
        (|bytes| bytes[11] = b' ', "the sender's name cannot be one"),
        (|bytes| bytes[11] = 0xff, "the sender's name cannot be one"),
        (|bytes| bytes[22..30].fill(0), "it has the number 0"),
        (|bytes| bytes[50] = 17, "there are too many items in a list"),
        (|bytes| bytes[91] = 17, "there are too many items in a list"),
        (|bytes| bytes[124] = 65, "there are too many items in a list"),
        (|bytes| bytes[124] = 3, "it ends too early"),
        (|bytes| bytes[124] = 1, "there is something after its end"),
        (|bytes| bytes[124] = 64, "it ends too early"),
        (|bytes| bytes[129] = 4, "a group has an unknown role"),
        (|bytes| bytes[130] |= 16, "it has unknown flags"),
        (|bytes| bytes.push(0), "there is something after its end"),
    ];
    for (case, (change, problem)) in cases.into_iter().enumerate() {
        assert_eq!(changed(&full, change), Err(Bad::Malformed(problem)), "case {case}");
    }
    let both = neighbours(both_families());
    assert_eq!(changed(&both, |bytes| bytes[7] = 1), Err(Bad::Malformed("it has unknown flags")));
    assert_eq!(
        changed(&both, |bytes| bytes[30] = 33),
        Err(Bad::Malformed("there are too many items in a list"))
    );
    assert_eq!(
        changed(&both, |bytes| bytes[31] = 5),
        Err(Bad::Malformed("a neighbour's address is of an unknown family"))
    );
    assert_eq!(changed(&full, |_| ()), Ok(full), "nothing changed");
}

/// A message that is authentic and says something else than before is either refused or written as we write it. HMACs take most
/// of the time, so one of sixteen has one.
#[test]
fn a_million_changed_messages_behind_the_hmac() {
    let keys = keys();
    let samples: Vec<Vec<u8>> =
        [beat(full()), beat(Beat::default()), neighbours(both_families()), neighbours(vec![])]
            .iter()
            .map(|message| encode(message, &keys))
            .collect();
    let mut random = Random(0x5eed);
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..1_000_000 {
        let mut bytes = samples[round % samples.len()].clone();
        for _ in 0..=random.below(3) {
            random.change(&mut bytes);
        }
        let result = if round % 16 == 15 || bytes.len() < HEADER + NUMBERS + MAC {
            let bytes = signed_anew(bytes, &keys);
            let result = decode(&bytes, &keys);
            assert!(result.as_ref().map_or(true, |message| encode(message, &keys) == bytes), "{bytes:?}");
            result
        } else {
            let length = bytes.len() as u16;
            bytes.truncate(bytes.len() - MAC);
            bytes[..5].copy_from_slice(b"DRHB\x01");
            bytes[6] = 7;
            bytes[LENGTH].copy_from_slice(&length.to_be_bytes());
            let result = read_message(&bytes);
            assert!(result.as_ref().map_or(true, |message| write_message(message, 7) == bytes), "{bytes:?}");
            result
        };
        let outcome = match result {
            Ok(_) => "taken",
            Err(Bad::Malformed(problem)) => problem,
            Err(bad) => bad.reason(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    // Every refusal was come by, many times.
    assert_eq!(outcomes.len(), 13, "{outcomes:?}");
    assert!(outcomes["taken"] > 100_000, "{outcomes:?}");
    for (outcome, count) in &outcomes {
        assert!(*count > 50, "{outcome}: {outcomes:?}");
    }
}

/// The generator xorshift64*: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A small change somewhere.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => bytes[at] = self.next() as u8,
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] = 0,
            4 => bytes.insert(at, self.next() as u8),
            5 if bytes.len() > 1 => _ = bytes.remove(at),
            6 if at > 0 => bytes.truncate(at),
            _ => {
                let byte = bytes[self.below(bytes.len())];
                bytes[at] = byte;
            }
        }
    }
}

fn any_key() -> impl Strategy<Value = Key> {
    any::<u32>().prop_map(Key)
}

fn any_group() -> impl Strategy<Value = GroupBeat> {
    let role = prop::sample::select(vec![Role::Standby, Role::Candidate, Role::Active, Role::Yielding]);
    let standing = (any::<u8>(), any::<u16>(), any::<i16>(), any::<u16>());
    let votes = (option::of((any_key(), any::<u64>())), option::of(any_key()));
    (any_key(), role, any::<u64>(), any::<(bool, bool)>(), standing, votes).prop_map(
        |(
            group,
            role,
            term,
            (eligible, reluctant),
            (witnesses, services, score, preference),
            (vote, heir),
        )| GroupBeat {
            group,
            role,
            term,
            eligible,
            reluctant,
            standing: Standing { witnesses, services, score },
            preference,
            vote,
            heir,
        },
    )
}

fn any_beat() -> impl Strategy<Value = Beat> {
    let ack = (any_key(), any::<(u64, u64)>());
    let ack = ack.prop_map(|(node, (incarnation, sequence))| Ack { node, incarnation, sequence });
    let echo = (any_key(), any::<u64>(), any::<u32>());
    let echo = echo.prop_map(|(node, sequence, waited)| Echo {
        node,
        sequence,
        waited: Duration::from_micros(waited.into()),
    });
    let lists =
        (vec(ack, 0..=MOST_DIRECTORS), vec(echo, 0..=MOST_DIRECTORS), vec(any_group(), 0..=MOST_GROUPS));
    (any::<(u64, u32, u64)>(), any::<(bool, bool)>(), lists).prop_map(
        |((config, dead_after, clock), (leaving, held), (acks, echoes, groups))| Beat {
            config,
            dead_after: Duration::from_micros(dead_after.into()),
            clock: Duration::from_micros(clock),
            leaving,
            held,
            acks,
            echoes,
            groups,
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let neighbour = any::<(IpAddr, [u8; 6])>().prop_map(|(address, mac)| Neighbour { address, mac });
    let body = prop_oneof![
        2 => any_beat().prop_map(Body::Beat),
        1 => vec(neighbour, 0..=MOST_NEIGHBOURS).prop_map(Body::Neighbours),
    ];
    let characters = b"ABCXYZabcxyz0189._-".map(char::from).to_vec();
    let name = vec(prop::sample::select(characters), 1..=LONGEST_NAME).prop_map(String::from_iter);
    (name, any::<u64>(), 1..=u64::MAX, body).prop_map(|(from, incarnation, sequence, body)| Message {
        from,
        incarnation,
        sequence,
        body,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in any_message()) {
        let bytes = encode(&message, &keys());
        prop_assert!(bytes.len() <= LONGEST);
        let read = decode(&bytes, &keys());
        prop_assert_eq!(read.as_ref(), Ok(&message));
        prop_assert_eq!(read.map(|read| encode(&read, &keys())), Ok(bytes));
    }

    #[test]
    fn changed_bytes_never_verify(message in any_message(), at: prop::sample::Index, change in 1..=255u8) {
        let mut bytes = encode(&message, &keys());
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(decode(&bytes, &keys()).is_err(), "byte {}", at);
    }

    #[test]
    fn no_beginning_is_a_message(message in any_message()) {
        let bytes = encode(&message, &keys());
        for end in 0..bytes.len() {
            prop_assert!(decode(&bytes[..end], &keys()).is_err(), "{} bytes", end);
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..200), ours: bool) {
        let mut bytes = bytes;
        if ours && bytes.len() >= HEADER {
            let length = bytes.len() as u16;
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4] = VERSION;
            bytes[6] = 7;
            bytes[LENGTH].copy_from_slice(&length.to_be_bytes());
        }
        prop_assert!(decode(&bytes, &keys()).is_err());
    }

    #[test]
    fn any_authentic_bytes_are_refused_or_written_as_we_do(bytes in vec(any::<u8>(), 60..300)) {
        let mut bytes = bytes;
        bytes[..5].copy_from_slice(b"DRHB\x01");
        let bytes = signed_anew(bytes, &keys());
        if let Ok(message) = decode(&bytes, &keys()) {
            prop_assert_eq!(encode(&message, &keys()), bytes);
        }
    }
}
