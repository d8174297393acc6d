//! Any bytes as a message of another director: as they came, and with the length and the HMAC that fit, so that what is behind the
//! HMAC is reached. What is taken must be written in the same way again.
#![no_main]

use std::sync::LazyLock;

use heartbeat::keys::Keys;
use heartbeat::wire::{LONGEST, decode, encode};
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

// The modules by themselves: the whole director would have to be built with its BPF program.
#[allow(dead_code)]
#[path = "../../director/src/heartbeat"]
mod heartbeat {
    pub mod keys;
    pub mod message;
    pub mod wire;
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

static KEYS: LazyLock<Keys> =
    LazyLock::new(|| Keys::parse(&format!("1 {SECRET}")).unwrap_or_else(|error| panic!("{error}")));

fuzz_target!(|bytes: &[u8]| {
    assert!(decode(bytes, &KEYS).is_err(), "made without the key");
    let mut bytes = bytes.to_vec();
    // Magic, version, kind, key, flags, length.
    if bytes.len() < 10 || bytes.len() + 32 > usize::from(u16::MAX) {
        return;
    }
    let length = (bytes.len() + 32) as u16;
    bytes[..5].copy_from_slice(b"DRHB\x01");
    bytes[6] = 1;
    bytes[8..10].copy_from_slice(&length.to_be_bytes());
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap_or_else(|_| unreachable!());
    mac.update(&bytes);
    bytes.extend(mac.finalize().into_bytes());
    if let Ok(message) = decode(&bytes, &KEYS) {
        assert!(bytes.len() <= LONGEST);
        assert!(encode(&message, &KEYS) == bytes, "written in another way");
    }
});
