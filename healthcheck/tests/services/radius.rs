//! RADIUS: FreeRADIUS, and servers that do not know the secret.

use std::net::SocketAddr;

use healthcheck::spec::{Login, Radius};
use healthcheck::text::Secret;
use healthcheck::{Check, Failure, Success};
use rustix::process::Signal;
use tokio::net::UdpSocket;

use crate::daemon::{Daemon, Place, port};
use crate::kit::{SHORT, outcome, probe, timed_out};

const CONFIG: &str = r#"
prefix = /usr
libdir = /usr/lib/freeradius
logdir = DIR
run_dir = DIR
raddbdir = DIR
pidfile = DIR/pid
security {
    reject_delay = 0
}
modules {
    pap {
    }
    files {
        usersfile = DIR/users
    }
}
client tests {
    ipaddr = 127.0.0.1
    secret = shared
    require_message_authenticator = yes
}
server default {
    listen {
        type = auth
        ipaddr = 127.0.0.1
        port = PORT
    }
    authorize {
        files
        pap
    }
    authenticate {
        Auth-Type PAP {
            pap
        }
    }
}
"#;

const USERS: &str = "tester Cleartext-Password := \"secret of more than 16 bytes\"

locked Auth-Type := Reject
\tReply-Message := \"Your account is locked\"
";

async fn freeradius() -> (Daemon, SocketAddr) {
    let place = Place::new("freerad");
    let real = port();
    place.write("radiusd.conf", &CONFIG.replace("PORT", &real.port().to_string()));
    place.write("users", USERS);
    place.write("dictionary", "");
    let ready = async || outcome(good(), real, SHORT).await.result.is_ok();
    (place.start("freeradius -d DIR -n radiusd -f -l stdout", Signal::TERM, ready).await, real)
}

fn check(user: &str, password: &str, secret: &str) -> Check {
    let login = Login { user: user.into(), password: Secret::new(password) };
    Check::Radius(Radius { login, secret: Secret::new(secret) })
}

fn good() -> Check {
    check("tester", "secret of more than 16 bytes", "shared")
}

#[tokio::test]
async fn a_real_server_is_asked() {
    let (_freeradius, real) = freeradius().await;
    assert_eq!(probe(good(), real).await, Ok(Success::default()));
    let wrong = check("tester", "wrong", "shared");
    assert_eq!(probe(wrong, real).await, Err(Failure::Login("Access-Reject".into())));
    let locked = check("locked", "secret", "shared");
    assert_eq!(probe(locked, real).await, Err(Failure::Login("Your account is locked".into())));
    // Requests that are signed wrongly are not answered.
    let stranger = outcome(check("tester", "secret", "another"), real, SHORT).await.result;
    assert_eq!(timed_out(&stranger), Some("answer"));
}

async fn answers(make: impl Fn(&mut Vec<u8>) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut packet = buffer[..length].to_vec();
            make(&mut packet);
            let _ = socket.send_to(&packet, from).await;
        }
    });
    address
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_not_believed() {
    let forged = answers(|packet| packet[0] = 2).await;
    let why = "the answer is not signed with the shared secret";
    assert_eq!(probe(good(), forged).await, Err(Failure::Protocol(why.into())));
    let short = answers(|packet| packet.truncate(10)).await;
    assert_eq!(probe(good(), short).await, Err(Failure::Protocol("the answer is no RADIUS packet".into())));
    let another = answers(|packet| packet[1] ^= 1).await;
    let late = outcome(good(), another, SHORT).await.result;
    assert_eq!(timed_out(&late), Some("answer"));
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(probe(good(), nobody).await, Err(Failure::Refused));
    let long = check("tester", &"x".repeat(129), "shared");
    assert!(matches!(probe(long, nobody).await, Err(Failure::Local(_))));
}
