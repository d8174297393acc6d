//! Key files, good and bad.

use std::os::unix::fs::PermissionsExt;

use super::*;

const SECRET: &str = "0123456789abcdef";

#[test]
fn the_first_key_signs_and_all_verify() {
    let text = format!(
        "# the cluster's keys\n\n  7\t{SECRET}{SECRET}\r\n9 with some blanks in it  \n#1 {SECRET}\n255 {SECRET}"
    );
    let keys = Keys::parse(&text).unwrap();
    assert_eq!(keys.ids().collect::<Vec<_>>(), [7, 9, 255]);
    assert_eq!(keys.signing().0, 7);
    assert!(keys.verifying(9).is_some() && keys.verifying(1).is_none());
}

#[test]
fn blanks_around_a_secret_are_no_part_of_it() {
    use hmac::Mac as _;
    let code = |text: &str| Keys::parse(text).unwrap().signing().1.finalize().into_bytes();
    assert_eq!(code("1 with some blanks in it"), code("1 \t with some blanks in it \r"));
    assert_ne!(code("1 with some blanks in it"), code("1 with some  blanks in it"));
}

#[test]
fn bad_lines_are_named_with_what_to_do() {
    let line = "write a line like `1 SECRET`, with the output of `openssl rand -hex 32` as the secret";
    let many: String = (1..=17).map(|id| format!("{id} {SECRET}\n")).collect();
    let cases = [
        (String::new(), format!("key file: there is no key in it; {line}, the same on every director")),
        ("# none\n\n".to_owned(), format!("key file: there is no key in it; {line}, the same on every director")),
        (format!("0 {SECRET}"), format!("key file, line 1: this does not begin with an id from 1 to 255; {line}")),
        (format!("\n256 {SECRET}"), format!("key file, line 2: this does not begin with an id from 1 to 255; {line}")),
        (SECRET.to_owned(), format!("key file, line 1: this does not begin with an id from 1 to 255; {line}")),
        ("1".to_owned(), format!("key file, line 1: the secret has 0 bytes, and needs at least 16; {line}")),
        (
            format!("1 {}", &SECRET[1..]),
            format!("key file, line 1: the secret has 15 bytes, and needs at least 16; {line}"),
        ),
        (
            format!("1 {SECRET}\n2 {SECRET}\n1 {SECRET}{SECRET}"),
            "key file, line 3: there is a key 1 already; give this one another id, the same on every director".to_owned(),
        ),
        (many, "key file, line 17: this is one key too many, 16 are enough; remove old ones".to_owned()),
    ];
    for (text, problem) in cases {
        let error = Keys::parse(&text).expect_err(&text);
        assert_eq!(error.to_string(), problem);
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let secret = "xyzzy xyzzy xyzzy";
    let keys = Keys::parse(&format!("1 {secret}\n2 {secret}2")).unwrap();
    assert_eq!(format!("{keys:?}"), "Keys[1, 2]");
    for text in [secret.to_owned(), format!("x {secret}"), format!("1 {secret}\n1 {secret}")] {
        let error = Keys::parse(&text).expect_err("taken");
        assert!(!format!("{error} {error:?}").contains("xyzzy"), "{error:?}");
    }
}

/// A directory for a test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("director-keys-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn file(&self, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join("keys");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_that_others_may_use_is_refused() {
    let place = Place::new("modes");
    let text = format!("1 {SECRET}\n");
    for mode in [0o600, 0o400, 0o700] {
        assert!(Keys::load(&place.file(text.as_bytes(), mode)).is_ok(), "{mode:o}");
    }
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644] {
        let path = place.file(text.as_bytes(), mode);
        let error = Keys::load(&path).expect_err("taken").to_string();
        let expected = format!(
            "key file {}: others than its owner may use it (its mode is 0{mode:o}); run `chmod 600` on it, and replace keys \
             that were seen",
            path.display()
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn a_file_of_another_user_is_refused() {
    let place = Place::new("owner");
    let path = place.file(format!("1 {SECRET}\n").as_bytes(), 0o600);
    // Only root can give files away; elsewhere there is nothing to see.
    if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
        let error = Keys::load(&path).expect_err("taken").to_string();
        assert!(
            error.ends_with(": it belongs to user 12345; run `chown root` on it, on every director"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_key_file_is_refused() {
    let place = Place::new("kinds");
    let missing = Keys::load(&place.0.join("missing")).expect_err("taken").to_string();
    assert!(
        missing.ends_with("missing: it cannot be read: No such file or directory (os error 2)"),
        "{missing}"
    );
    assert!(Keys::load(&place.0).expect_err("taken").to_string().contains("it is no regular file"));
    let pipe = place.0.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(Keys::load(&pipe).expect_err("taken").to_string().contains("it is no regular file"));

    let path = place.file(b"1 0123456789abcdef\n2 \xff23456789abcdef\n", 0o600);
    let error = Keys::load(&path).expect_err("taken").to_string();
    assert!(error.contains("keys, line 2: this is no text"), "{error}");
    let path = place.file(&[b'#'; LONGEST_FILE as usize + 1], 0o600);
    assert!(Keys::load(&path).expect_err("taken").to_string().contains("more than 65536 bytes"));
    let path = place.file(b"1 short\n", 0o600);
    let error = Keys::load(&path).expect_err("taken").to_string();
    assert!(
        error.starts_with(&format!("key file {}, line 1: the secret has 5 bytes", path.display())),
        "{error}"
    );
}
