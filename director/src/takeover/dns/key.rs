//! The file of a TSIG key (RFC 8945): `NAME ALGORITHM SECRET` in one line.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigner};

/// The largest file that is read, in bytes; a key has some hundred.
const MOST_BYTES: u64 = 4096;
/// How far the server's clock may be from ours, in seconds (RFC 8945, 10: recommended).
const FUDGE: u16 = 300;

/// Reads a key. No error repeats anything of the file: what is out of place may be the secret.
///
/// # Errors
/// The file cannot be read, others may read it, or it is not as it should be.
pub(super) fn load(path: &Path) -> Result<TSigner> {
    read(path).with_context(|| format!("the TSIG key file {}", path.display()))
}

fn read(path: &Path) -> Result<TSigner> {
    let file = File::open(path).context("cannot be opened")?;
    let metadata = file.metadata().context("cannot be looked at")?;
    ensure!(metadata.is_file(), "is no regular file");
    let mode = metadata.permissions().mode() & 0o7777;
    ensure!(mode & 0o077 == 0, "can be read or changed by others (mode {mode:04o}); `chmod 600` it");
    let mut text = String::new();
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
    // The library's error says nothing of the contents.
    let length = read.context("cannot be read as text")?;
    ensure!(length as u64 <= MOST_BYTES, "is larger than {MOST_BYTES} bytes");
    parse(&text)
}

fn parse(text: &str) -> Result<TSigner> {
    const FORM: &str = "must be one line, `NAME ALGORITHM SECRET`";
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else { bail!("{FORM}") };
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, algorithm, secret] = words[..] else { bail!("{FORM}; it has {} words", words.len()) };
    let Ok(name) = Name::from_str_relaxed(name) else { bail!("{FORM}; its first word is no domain name") };
    let algorithm = match algorithm.to_ascii_lowercase().as_str() {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        _ => bail!("{FORM}; its second word must be hmac-sha256, hmac-sha384 or hmac-sha512"),
    };
    let Ok(secret) = BASE64.decode(secret.as_bytes()) else { bail!("{FORM}; the secret is not base64") };
    ensure!(!secret.is_empty(), "{FORM}; the secret is empty");
    TSigner::new(secret, algorithm, name, FUDGE).context("is of no use")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The base64 of 32 bytes.
    const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0ISE=";

    fn error(text: &str) -> String {
        match parse(text) {
            Ok(_) => panic!("{text} is taken for a key"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn one_line_is_a_key() {
        for (word, algorithm) in [
            ("hmac-sha256", TsigAlgorithm::HmacSha256),
            ("HMAC-SHA384", TsigAlgorithm::HmacSha384),
            ("hmac-sha512", TsigAlgorithm::HmacSha512),
        ] {
            let key = parse(&format!("\nlb.example.org {word}\t{SECRET}\n\n")).unwrap();
            assert_eq!(*key.algorithm(), algorithm);
            assert_eq!(key.signer_name().to_string(), "lb.example.org.");
            assert_eq!(key.key(), b"secretsecretsecretsecretsecret!!");
        }
    }

    #[test]
    fn anything_else_is_not_and_no_secret_is_told() {
        let bad = [
            ("", "must be one line"),
            ("a hmac-sha256", "it has 2 words"),
            (&format!("a hmac-sha256 {SECRET} b"), "it has 4 words"),
            (&format!("a hmac-sha256 {SECRET}\nb hmac-sha256 {SECRET}"), "must be one line"),
            (&format!("a {SECRET} hmac-sha256"), "its second word must be hmac-sha256"),
            (&format!("a hmac-md5 {SECRET}"), "its second word must be hmac-sha256"),
            (&format!("a..{SECRET} hmac-sha256 {SECRET}"), "its first word is no domain name"),
            (&format!("a hmac-sha256 {SECRET}!"), "the secret is not base64"),
        ];
        for (text, why) in bad {
            let error = error(text);
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains(&SECRET[..8]), "{error}");
        }
    }

    #[test]
    fn nobody_else_may_read_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, format!("a hmac-sha256 {SECRET}\n")).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o602, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load(&path).map(|_| ()).map_err(|error| format!("{error:#}"));
            assert_eq!(loaded.is_ok(), good, "{mode:o}: {loaded:?}");
            if let Err(error) = loaded {
                assert!(error.contains(&format!("mode {mode:04o}); `chmod 600` it")), "{error}");
            }
        }
        let missing = load(&directory.path().join("none")).map(|_| ()).unwrap_err();
        assert!(format!("{missing:#}").contains("none: cannot be opened: No such file"), "{missing:#}");
        assert!(load(directory.path()).is_err());
        fs::write(&path, "x".repeat(5000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let long = load(&path).map(|_| ()).unwrap_err();
        assert!(format!("{long:#}").contains("larger than 4096 bytes"), "{long:#}");
    }
}
