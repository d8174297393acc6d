use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MOST: usize = 32;

/// What is found when `bytes` come at once, and how many frames were dropped.
fn decode(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
    decode_with(&mut Decoder::new(MOST), bytes)
}

fn decode_with(decoder: &mut Decoder, bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
    let mut messages = Vec::new();
    let dropped = decoder.feed(bytes, &mut |message| messages.push(message.to_vec()));
    (messages, dropped)
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(message, &mut frame);
    frame
}

/// Bytes among which those with a meaning are frequent.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop_oneof![Just(END), Just(ESC), Just(ESC_END), Just(ESC_ESC)]]
}

#[test]
fn a_frame_is_as_rfc_1055_has_it() {
    assert_eq!(frame(&[1, END, 2, ESC, 3]), [0xc0, 1, 0xdb, 0xdc, 2, 0xdb, 0xdd, 3, 0xc0]);
}

#[test]
fn begins_with_the_first_end() {
    let mut bytes = b"rest of a message that was cut".to_vec();
    bytes.extend(frame(b"whole"));
    assert_eq!(decode(&bytes), (vec![b"whole".to_vec()], 0));
}

#[test]
fn the_longest_message_fits_and_a_longer_one_is_dropped() {
    let mut bytes = frame(&[7; MOST]);
    bytes.extend(frame(&[8; MOST + 1]));
    bytes.extend(frame(&[8; 50 * MOST]));
    bytes.extend(frame(b"next"));
    assert_eq!(decode(&bytes), (vec![vec![7; MOST], b"next".to_vec()], 2));
}

#[test]
fn a_wrong_escape_drops_its_frame_only() {
    let mut bytes = vec![END, 1, ESC, 2, 3, END];
    bytes.extend(frame(b"next"));
    assert_eq!(decode(&bytes), (vec![b"next".to_vec()], 1));
    // Cut off after the ESC.
    let mut bytes = vec![END, 1, ESC];
    bytes.extend(frame(b"next"));
    assert_eq!(decode(&bytes), (vec![b"next".to_vec()], 1));
}

#[test]
fn the_largest_frame_is_as_long_as_said() {
    assert_eq!(frame(&[END; MOST]).len(), longest(MOST));
}

proptest! {
    #[test]
    fn messages_come_as_they_went(messages in vec(vec(byte(), 1..=MOST), 0..8), cut in 1_usize..20) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
        let mut decoder = Decoder::new(MOST);
        let mut found = Vec::new();
        for piece in bytes.chunks(cut) {
            let (messages, dropped) = decode_with(&mut decoder, piece);
            found.extend(messages);
            prop_assert_eq!(dropped, 0);
        }
        prop_assert_eq!(found, messages);
    }

    #[test]
    fn after_any_noise_the_next_message_is_found(noise in vec(byte(), 0..200), message in vec(byte(), 1..=MOST)) {
        let mut bytes = noise;
        bytes.extend(frame(&message));
        let mut decoder = Decoder::new(MOST);
        let (messages, _) = decode_with(&mut decoder, &bytes);
        prop_assert_eq!(messages.last(), Some(&message));
        prop_assert!(messages.iter().all(|message| (1..=MOST).contains(&message.len())));
        prop_assert!(decoder.message.capacity() <= MOST);
    }
}
