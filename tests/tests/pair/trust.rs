//! Whom directors believe: keys, and what is not from a director at all.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::pair::{DEFAULT, Pair};
use tests::wait;

/// How many messages a director refused for a reason.
fn refused(pair: &Pair, number: u8, reason: &str) -> Result<u64> {
    let status = pair.status(number).context("no status")?;
    let refused = status["pair"]["cluster"]["refused"].as_array().context("no counters")?.clone();
    let found = refused.iter().find(|one| one[0] == reason);
    Ok(found.and_then(|one| one[1].as_u64()).unwrap_or(0))
}

fn key_file(pair: &Pair) -> PathBuf {
    pair.lab().directory().join("heartbeat.key")
}

fn write_key(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

#[test]
fn garbage_and_strangers_are_counted_and_move_nothing() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    // From the other director's own address, for datagrams of others are not even looked at.
    let host = pair.lab().host("director1");
    host.within(|| {
        let socket = UdpSocket::bind("192.0.2.11:0")?;
        for _ in 0..1_000 {
            socket.send_to(b"GET / HTTP/1.0\r\n\r\n", "192.0.2.12:694")?;
        }
        socket.send_to(&[b"DRHB\x01".as_slice(), &[0; 100]].concat(), "192.0.2.12:694")?;
        Ok(())
    })?;
    wait::until("garbage to be counted", Duration::from_secs(5), || {
        Ok((refused(&pair, 2, "garbage")? > 0).then_some(()))
    })?;
    pair.await_steady()?;
    pair.await_owner(1, DEFAULT)?;
    let text = pair.cli(2, &["status"])?;
    ensure!(text.contains("of something else than a director"), "{text}");
    Ok(())
}

#[test]
fn a_wrong_key_is_named_and_never_acted_upon() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let other = pair.lab().directory().join("other.key");
    write_key(&other, "1 this-is-quite-another-secret-0123456789\n")?;
    ensure!(pair.director(2).terminate()?.success(), "{}", pair.story());
    let config = pair.config().replace("heartbeat.key", "other.key");
    pair.director(2).write_config(config)?;
    pair.director(2).run()?;
    // Each believes to be alone, says why, and holds the VIPs: that is what a partition is.
    wait::until("wrong keys to be counted", Duration::from_secs(10), || {
        Ok((refused(&pair, 1, "key")? > 0 && refused(&pair, 2, "key")? > 0).then_some(()))
    })?;
    let text = pair.cli(1, &["status"])?;
    ensure!(text.contains("unknown or wrong key") && text.contains("DEAD"), "{text}");
    Ok(())
}

#[test]
fn keys_rotate_without_anybody_noticing() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let path = key_file(&pair);
    let old = fs::read_to_string(&path)?;
    let new = "2 a-new-secret-that-is-long-enough-0123456789\n";
    // Both share the file here; each reads it at its own reload, so in between they differ.
    for text in [format!("{old}{new}"), format!("{new}{old}"), new.to_owned()] {
        write_key(&path, &text)?;
        for number in [1, 2] {
            pair.director(number).cli_ok(&["reload"])?;
            std::thread::sleep(Duration::from_millis(500));
            pair.await_steady()?;
        }
    }
    pair.await_owner(1, DEFAULT)?;
    for number in [1, 2] {
        ensure!(refused(&pair, number, "key")? == 0, "messages were refused meanwhile");
        let log = pair.director(number).log();
        ensure!(!log.contains("it is not heard any more"), "{log}");
    }
    Ok(())
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_cure() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, |config| config)?;
    fs::set_permissions(key_file(&pair), fs::Permissions::from_mode(0o644))?;
    let output = pair.director(1).cli(&["reload"])?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && stderr.contains("chmod 600"), "{stderr}");
    pair.await_owner(1, DEFAULT)
}
