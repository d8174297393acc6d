//! The keys that messages are authenticated with, and the file that has them.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit};
use rustix::fs::OFlags;
use sha2::Sha256;

/// The fewest bytes of a secret. RFC 2104, 3: shorter ones than the hash would weaken it, 128 bits cannot be guessed.
pub const SHORTEST_SECRET: usize = 16;
/// The most keys: two are needed to change them.
pub const MOST_KEYS: usize = 16;
/// The most bytes that a key file has.
const LONGEST_FILE: u64 = 64 * 1024;

/// HMAC-SHA256 (RFC 2104, FIPS 180-4).
pub(super) type Mac = Hmac<Sha256>;

/// The keys of a cluster. The first one signs, all verify. So keys change without an outage: add the new key as the second
/// one everywhere, then put it first everywhere, then take the old one away.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

/// A key.
#[derive(Clone)]
struct Key {
    /// Its number in messages, 1 to 255.
    id: u8,
    /// An HMAC that has taken in the secret and nothing else.
    mac: Mac,
}

impl Keys {
    /// Those of a file: one a line, `ID SECRET`, with an id from 1 to 255 and a secret of at least [`SHORTEST_SECRET`] bytes
    /// that goes on to the end of the line. Empty lines and those that begin with `#` say nothing. The file must be a regular
    /// one that belongs to root or to the user that this runs as, and that nobody else can read or change.
    ///
    /// # Errors
    ///
    /// What is wrong, in which line, and how to mend it. Never what stands there.
    pub fn load(path: &Path) -> Result<Keys, KeysError> {
        let at = |line, wrong| KeysError { file: Some(path.to_owned()), line, wrong };
        let bytes = read(path).map_err(|wrong| at(None, wrong))?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
                return Err(at(Some(line), Wrong::NoText));
            }
        };
        Keys::parse(text).map_err(|error| KeysError { file: Some(path.to_owned()), ..error })
    }

    /// Those of a key file's text, see [`Keys::load`].
    ///
    /// # Errors
    ///
    /// What is wrong, in which line, and how to mend it.
    pub fn parse(text: &str) -> Result<Keys, KeysError> {
        let mut keys: Vec<Key> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |wrong| KeysError { file: None, line: Some(line), wrong };
            let key = Key::parse(text).map_err(wrong)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(wrong(Wrong::Twice(key.id)));
            }
            if keys.len() == MOST_KEYS {
                return Err(wrong(Wrong::TooMany));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeysError { file: None, line: None, wrong: Wrong::None });
        }
        Ok(Keys(keys))
    }

    /// The keys' ids, that of the signing one first: for status.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        self.0.iter().map(|key| key.id)
    }

    /// The signing key: its id, and an HMAC that begins with its secret.
    pub(super) fn signing(&self) -> (u8, Mac) {
        let Key { id, mac } = &self.0[0];
        (*id, mac.clone())
    }

    /// An HMAC that begins with the secret of this key.
    pub(super) fn verifying(&self, id: u8) -> Option<Mac> {
        self.0.iter().find(|key| key.id == id).map(|key| key.mac.clone())
    }
}

/// Only the ids.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys")?;
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Key {
    /// That of a line.
    fn parse(line: &str) -> Result<Key, Wrong> {
        let (id, secret) = match line.split_once(char::is_whitespace) {
            Some((id, secret)) => (id, secret.trim()),
            None => (line, ""),
        };
        let id = match id.parse::<u8>() {
            Ok(id) if id > 0 => id,
            _ => return Err(Wrong::NoId),
        };
        if secret.len() < SHORTEST_SECRET {
            return Err(Wrong::Short(secret.len()));
        }
        let mac =
            Mac::new_from_slice(secret.as_bytes()).unwrap_or_else(|_| unreachable!("any length will do"));
        Ok(Key { id, mac })
    }
}

/// Why a key file cannot be used. Says nothing of what a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysError {
    /// The file, if it was read from one.
    file: Option<PathBuf>,
    /// The line, from 1 on.
    line: Option<usize>,
    /// What is wrong.
    wrong: Wrong,
}

/// What can be wrong with a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is no regular file; name a file with a line like {EXAMPLE} in it")]
    Irregular,
    #[error("it belongs to user {0}; run `chown root` on it, on every director")]
    Owner(u32),
    #[error(
        "others than its owner may use it (its mode is {0:04o}); run `chmod 600` on it, and replace keys that were seen"
    )]
    Open(u32),
    #[error("it has more than {LONGEST_FILE} bytes; leave only lines like {EXAMPLE} in it")]
    TooLong,
    #[error("this is no text; write a line like {EXAMPLE}")]
    NoText,
    #[error("this does not begin with an id from 1 to 255; write a line like {EXAMPLE}")]
    NoId,
    #[error("the secret has {0} bytes, and needs at least {SHORTEST_SECRET}; write a line like {EXAMPLE}")]
    Short(usize),
    #[error("there is a key {0} already; give this one another id, the same on every director")]
    Twice(u8),
    #[error("this is one key too many, {MOST_KEYS} are enough; remove old ones")]
    TooMany,
    #[error("there is no key in it; write a line like {EXAMPLE}, the same on every director")]
    None,
}

/// What to write.
const EXAMPLE: &str = "`1 SECRET`, with the output of `openssl rand -hex 32` as the secret";

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "key file {}", file.display())?,
            None => write!(f, "key file")?,
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.wrong)
    }
}

impl std::error::Error for KeysError {}

/// The bytes of a file that only its owner can have read or written.
fn read(path: &Path) -> Result<Vec<u8>, Wrong> {
    let unreadable = |error: std::io::Error| Wrong::Unreadable(error.to_string());
    let file = open(path).map_err(unreadable)?;
    // What was opened is looked at, not what has the name by now.
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Wrong::Irregular);
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Wrong::Owner(meta.uid()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Wrong::Open(meta.mode() & 0o7777));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Wrong::TooLong);
    }
    Ok(bytes)
}

/// Opens a file for reading. A pipe without a writer does not keep it waiting.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
impl Keys {
    /// Keys for tests: ids and secrets.
    pub fn of(keys: &[(u8, &str)]) -> Keys {
        let text: String = keys.iter().map(|(id, secret)| format!("{id} {secret}\n")).collect();
        Keys::parse(&text).unwrap_or_else(|error| panic!("{error}"))
    }
}

#[cfg(test)]
mod tests;
