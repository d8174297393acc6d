//! FTP: vsftpd.

use std::net::SocketAddr;
use std::time::Duration;

use healthcheck::attempt::Attempt;
use healthcheck::spec::{Ftp, Target};
use healthcheck::{Check, Failure};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use crate::fake::{self, Fake, HANGS_UP};
use crate::real::{Place, Server, is_root, port, v4, v6};
use crate::{IMPATIENCE, fails, fails_saying, fails_without, login, passes, pattern, run, run_within};

/// vsftpd, which says in PASV that its data is at 192.0.2.1.
fn vsftpd(is_v6: bool) -> (Server, SocketAddr) {
    let place = Place::new();
    place.directory("root", 0o755);
    place.directory("root/pub", 0o755);
    place.write("root/pub/status", "all is\nOK\n");
    place.write("root/pub/large", &"0123456789abcdef".repeat(70_000));
    let port = port();
    let config = format!(
        "{listen}=YES\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\n\
         anon_root={root}\nsecure_chroot_dir={empty}\npasv_address=192.0.2.1\nxferlog_enable=NO\n\
         delay_failed_login=0\n{user}",
        listen = if is_v6 { "listen_ipv6" } else { "listen" },
        root = place.text("root"),
        empty = place.directory("empty", 0o555),
        user = if is_root() { "" } else { "run_as_launching_user=YES\n" },
    );
    let config = place.write("vsftpd.conf", &config);
    let real = if is_v6 { v6(port) } else { v4(port) };
    (place.start("vsftpd", &[config.to_str().unwrap()], &[real]), real)
}

fn ftp(path: Option<&str>, receive: Option<&str>) -> Check {
    Check::Ftp(Ftp { login: None, path: path.map(str::to_owned), receive: receive.map(pattern) })
}

#[tokio::test]
async fn vsftpd_passes() {
    for is_v6 in [false, true] {
        let (_vsftpd, real) = vsftpd(is_v6);
        passes(run(ftp(None, None), real).await);
        let outcome = run(ftp(Some("pub/status"), Some("(?m)^OK$")), real).await;
        let steps: Vec<&str> = outcome.steps.iter().map(|step| step.what.as_str()).collect();
        let passive = if is_v6 { "EPSV 229" } else { "PASV 227" };
        let expected = [
            "connected",
            "greeting 220",
            "logged in",
            passive,
            "connected",
            "RETR 150",
            "10 bytes",
            "transfer 226",
        ];
        assert_eq!(steps, expected);
        passes(outcome);
    }
}

#[tokio::test]
async fn vsftpd_fails() {
    let (_vsftpd, real) = vsftpd(false);
    let mismatch = Failure::Mismatch { what: "content", pattern: "/bad/".into() };
    fails(run(ftp(Some("pub/status"), Some("bad")), real).await, &mismatch);
    fails(run(ftp(Some("pub/nothing"), None), real).await, &Failure::Status(550));
    fails(run(ftp(Some("pub/large"), None), real).await, &Failure::TooLong);
    let who = Ftp { login: Some(login("mallory", "hunter2")), ..Ftp::default() };
    fails_saying(run(Check::Ftp(who), real).await, "login", "");
    fails_saying(run(ftp(Some("a\r\nDELE b"), None), real).await, "local", "line break");
}

/// A control connection that announces this data port.
async fn announces(data: u16, end: &str) -> Fake {
    let passive = format!("227 go to (192,0,2,1,{},{}).\r\n", data >> 8, data & 255).leak();
    let retr = format!("150 here it comes\r\n{end}").leak();
    let answers = vec![
        ("USER", "331-who\r\n331 are you?\r\n"),
        ("PASS", "230 in\r\n"),
        ("TYPE", "200 ok\r\n"),
        ("PASV", &*passive),
        ("RETR", &*retr),
        ("QUIT", HANGS_UP),
    ];
    Fake::talks("220-Hello\r\n 220 users are here\r\n220 ready\r\n", answers.leak()).await
}

async fn data(content: &'static [u8]) -> u16 {
    fake::hangs_up_after(false, content).await.port()
}

#[tokio::test]
async fn anybody_is_anonymous() {
    let talks = announces(data(b"fine").await, "226 done\r\n").await;
    passes(run(ftp(Some("status"), Some("^fine$")), talks.real).await);
    let heard = ["USER anonymous", "PASS director@", "TYPE I", "PASV", "RETR status", "QUIT"];
    assert_eq!(talks.heard(), heard);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_fails() {
    let talks = announces(data(b"fine").await, "426 broke off\r\n").await;
    fails(run(ftp(Some("status"), Some("fine")), talks.real).await, &Failure::Status(426));
    let talks = announces(data(b"fine").await, "").await;
    let late = Failure::Timeout { awaiting: "end of the transfer", after: IMPATIENCE };
    fails(run_within(ftp(Some("status"), None), talks.real, IMPATIENCE).await, &late);
}

#[tokio::test]
async fn data_that_does_not_come_or_does_not_end_fails() {
    let talks = announces(fake::nobody().await.port(), "226 done\r\n").await;
    fails(run(ftp(Some("status"), None), talks.real).await, &Failure::Refused);
    let talks = announces(fake::says(b"some").await.port(), "226 done\r\n").await;
    let late = Failure::Timeout { awaiting: "content", after: IMPATIENCE };
    fails(run_within(ftp(Some("status"), None), talks.real, IMPATIENCE).await, &late);
    let talks = announces(fake::repeats(b"endless").await.port(), "226 done\r\n").await;
    fails(run(ftp(Some("status"), None), talks.real).await, &Failure::TooLong);
    let talks = announces(0, "226 done\r\n").await;
    fails_saying(run(ftp(Some("status"), None), talks.real).await, "protocol", "go to");
}

#[tokio::test]
async fn logins_end_in_many_ways() {
    let answers: [(&'static [(&str, &str)], &str); 5] = [
        (&[("USER", "230 come in\r\n")], "passed"),
        (&[("USER", "331 ?\r\n"), ("PASS", "202 needless\r\n")], "passed"),
        (&[("USER", "530 not you\r\n")], "login"),
        (&[("USER", "332 account?\r\n")], "login"),
        (&[("USER", "331 ?\r\n"), ("PASS", "421 busy\r\n")], "status"),
    ];
    for (answers, expected) in answers {
        let talks = Fake::talks("220 hi\r\n", answers).await;
        let result = run(ftp(None, None), talks.real).await.result;
        assert_eq!(result.as_ref().map_or_else(Failure::kind, |_| "passed"), expected, "{answers:?}");
    }
    for answer in ["530 what is PASS hunter2?\r\n", "PASS hunter2\r\n"] {
        let talks = Fake::talks("220 hi\r\n", vec![("USER", "331 ?\r\n"), ("PASS", answer)].leak()).await;
        let who = Ftp { login: Some(login("ann", "hunter2")), ..Ftp::default() };
        let outcome = run(Check::Ftp(who), talks.real).await;
        fails_without(outcome, "hunter2");
    }
}

#[tokio::test]
async fn the_data_connection_has_the_mark_too() {
    let (control, data) = (fake::says(b"").await, fake::says(b"").await);
    let target = Target { real: control, virtual_: control, mark: 77, source: None };
    let mut attempt = Attempt::new(target, Duration::from_secs(10));
    match attempt.tcp_at(data.port()).await {
        Ok(mut stream) => {
            assert_eq!(SockRef::from(&stream).mark().unwrap(), 77);
            assert_eq!(stream.peer_addr().unwrap(), data);
            stream.shutdown().await.unwrap();
        }
        // Marks are root's.
        Err(failure) => assert!(!is_root() && failure.kind() == "local", "{failure}"),
    }
}
