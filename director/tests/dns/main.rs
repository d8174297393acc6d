//! Takeover by DNS with a real BIND, looked at with dig and disturbed with nsupdate.

mod named;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use director::follow::Report;
use director::model::heartbeat::DnsTakeover;
use director::takeover::dns::follow;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::named::{Named, PATIENCE, SECRET};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
/// Not that of any key.
const OTHER_SECRET: &str = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIhISE=";

fn key_file(place: &Path, line: &str) -> std::path::PathBuf {
    let path = place.join("tsig.key");
    fs::write(&path, line).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// How `lb1` takes `www.example.test`.
fn takeover(place: &Path, server: SocketAddr) -> DnsTakeover {
    let addresses = |all: &[&str]| all.iter().map(|address| address.parse().unwrap()).collect();
    DnsTakeover {
        server,
        zone: "example.test.".into(),
        name: "www.example.test.".into(),
        ttl: 30,
        addresses: vec![
            ("lb1".into(), addresses(&["192.0.2.11", "2001:db8::11", "2001:db8::111"])),
            ("lb2".into(), addresses(&["192.0.2.12", "2001:db8::12"])),
            ("lb3".into(), addresses(&["192.0.2.13"])),
        ],
        tsig_file: key_file(place, &format!("lb hmac-sha256 {SECRET}\n")),
        timeout: Duration::from_secs(10),
        retry: NEVER,
    }
}

const OURS: [&str; 4] =
    ["30 A 192.0.2.11", "30 AAAA 2001:db8::11", "30 AAAA 2001:db8::111", "60 TXT \"stays\""];

/// The part under test.
struct Owner {
    wanted: watch::Sender<bool>,
    report: watch::Receiver<Report>,
    task: tokio::task::JoinHandle<()>,
}

impl Owner {
    fn new(
        takeover: DnsTakeover,
        active: bool,
        alive: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Owner {
        let (wanted, level) = watch::channel(active);
        let (sender, report) = watch::channel(Report::new("web", "dns"));
        let task = tokio::spawn(follow("web".into(), takeover, "lb1".into(), alive, level, sender));
        Owner { wanted, report, task }
    }

    async fn reports(&mut self, condition: impl FnMut(&Report) -> bool) -> Report {
        let waited = tokio::time::timeout(PATIENCE, self.report.wait_for(condition)).await;
        let waited = waited.map(|report| report.expect("somebody who reports").clone());
        waited.unwrap_or_else(|_| panic!("{:?}", self.report.borrow()))
    }

    async fn reached(&mut self, active: bool) -> Report {
        self.reports(|report| report.reached == Some(active)).await
    }

    async fn fails(&mut self) -> String {
        self.reports(|report| report.failure.is_some()).await.failure.unwrap_or_default()
    }

    /// Has it look at once.
    async fn again(&mut self) {
        self.wanted.send(false).unwrap();
        self.reached(false).await;
        self.wanted.send(true).unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts one that fails, and gives the reason.
async fn fails(takeover: DnsTakeover) -> String {
    Owner::new(takeover, true, |_| false).fails().await
}

#[tokio::test]
async fn both_types_are_taken_over_with_every_algorithm() {
    let named = Named::new();
    let before = ["300 A 192.0.2.112", "300 A 192.0.2.12", "300 AAAA 2001:db8::12", "60 TXT \"stays\""];
    assert_eq!(named.dig("www.example.test"), before);
    for (name, algorithm) in [("lb", "hmac-sha256"), ("lb384.", "hmac-sha384"), ("LB512", "hmac-sha512")] {
        let mut spec = takeover(named.place.path(), named.address);
        spec.tsig_file = key_file(named.place.path(), &format!("{name} {algorithm} {SECRET}\n"));
        let mut owner = Owner::new(spec.clone(), true, |_| false);
        let report = owner.reached(true).await;
        assert_eq!(report.state, "www.example.test. has this director's addresses");
        assert_eq!(named.dig("www.example.test"), OURS);
        // A name that is not there yet; one type only.
        spec.name = format!("{algorithm}.example.test.");
        spec.addresses = vec![("lb1".into(), vec!["2001:db8::1".parse().unwrap()])];
        Owner::new(spec, true, |_| false).reached(true).await;
        assert_eq!(named.dig(&format!("{algorithm}.example.test")), ["30 AAAA 2001:db8::1"]);
        named.nsupdate("delete www.example.test A\nadd www.example.test 30 A 192.0.2.12");
    }
}

#[tokio::test]
async fn a_standby_writes_nothing_and_asks_nobody() {
    let place = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut owner = Owner::new(takeover(place.path(), listener.local_addr().unwrap()), false, |_| false);
    owner.reached(false).await;
    assert!(listener.accept().is_err());
    owner.wanted.send(true).unwrap();
    let connected = async {
        while listener.accept().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("an owner asks");
    // It waits for an answer, which does not hold up its end.
    owner.wanted.send(false).unwrap();
    owner.reached(false).await;
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let named = Named::new();
    let place = named.place.path();
    let right = takeover(place, named.address);
    let with_key = |line: String| {
        key_file(place, &line);
        fails(right.clone())
    };
    let before = named.dig("www.example.test");
    let failure = with_key(format!("lb hmac-sha256 {OTHER_SECRET}")).await;
    assert_eq!(failure, "BADSIG: the server has another secret for the key lb.");
    let failure = with_key(format!("stranger hmac-sha256 {SECRET}")).await;
    assert!(failure.starts_with("BADKEY: the server does not know the key stranger."), "{failure}");
    let failure = with_key(format!("lb hmac-sha512 {SECRET}")).await;
    assert!(failure.starts_with("BADKEY: the server does not know the key lb."), "{failure}");
    let failure = with_key(format!("weak hmac-sha256 {SECRET}")).await;
    assert!(
        failure.starts_with("REFUSED: the server does not let the key weak. change www.example.test."),
        "{failure}"
    );
    let failure = with_key("lb hmac-sha256".into()).await;
    assert!(failure.contains("must be one line, `NAME ALGORITHM SECRET`; it has 2 words"), "{failure}");
    key_file(place, &format!("lb hmac-sha256 {SECRET}"));

    let elsewhere = DnsTakeover { zone: "no.test.".into(), name: "www.no.test.".into(), ..right.clone() };
    let failure = fails(elsewhere).await;
    assert!(
        failure.starts_with("REFUSED: the server does not answer questions for www.no.test."),
        "{failure}"
    );
    let failure = fails(DnsTakeover { zone: "sub.example.test.".into(), ..right.clone() }).await;
    assert_eq!(failure, "NOTAUTH: the server is not the primary server of the zone sub.example.test.");
    let failure = fails(DnsTakeover { name: "www.other.test.".into(), ..right.clone() }).await;
    assert_eq!(failure, "NOTZONE: www.other.test. is not in the zone example.test.");
    let failure = fails(DnsTakeover { name: "alias.example.test.".into(), ..right.clone() }).await;
    assert_eq!(failure, "alias.example.test. is an alias of www.example.test.: delete the CNAME record");
    let failure = fails(DnsTakeover { addresses: Vec::new(), ..right }).await;
    assert_eq!(failure, "there are no addresses for lb1: see `addresses` of the takeover");
    assert_eq!(named.dig("www.example.test"), before);
}

#[tokio::test]
async fn while_the_old_owner_is_heard_nothing_is_written() {
    let named = Named::new();
    let alive = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let spec =
        DnsTakeover { retry: Duration::from_millis(20), ..takeover(named.place.path(), named.address) };
    let (answer, question) = (Arc::clone(&alive), Arc::clone(&asked));
    let mut owner = Owner::new(spec, true, move |director| {
        question.lock().unwrap().push(director.to_owned());
        answer.load(Ordering::Relaxed)
    });
    let before = named.dig("www.example.test");
    let report = owner.reports(|report| report.tries >= 3).await;
    let why = "lb2 has www.example.test. and is still heard holding the group: nothing is written";
    assert_eq!(report.failure.as_deref(), Some(why));
    assert_eq!(named.dig("www.example.test"), before);
    // Neither this director nor one that is not in the record.
    assert!(asked.lock().unwrap().iter().all(|director| director == "lb2"));
    alive.store(false, Ordering::Relaxed);
    owner.reached(true).await;
    assert_eq!(named.dig("www.example.test"), OURS);
}

#[tokio::test]
async fn who_changes_the_record_in_between_is_not_overwritten_unseen() {
    for change in [
        "delete www.example.test A 192.0.2.112",
        "add www.example.test 300 A 192.0.2.99",
        "delete www.example.test A",
        "delete www.example.test AAAA\nadd www.example.test 300 AAAA 2001:db8::99",
    ] {
        let named = Arc::new(Named::new());
        let (other, once) = (Arc::clone(&named), AtomicBool::new(true));
        // The old owner is asked about after the record was read, and before it is written.
        let mut owner = Owner::new(takeover(named.place.path(), named.address), true, move |_| {
            if once.swap(false, Ordering::Relaxed) {
                other.nsupdate(change);
            }
            false
        });
        let failure = owner.fails().await;
        assert!(failure.starts_with("NXRRSET: somebody changed www.example.test."), "{change}: {failure}");
        let now = named.dig("www.example.test");
        assert!(now.iter().all(|record| !OURS[..3].contains(&record.as_str())), "{change}: {now:?}");
        owner.again().await;
        owner.reached(true).await;
        assert_eq!(named.dig("www.example.test"), OURS, "{change}");
    }
    // Where there was no record of a type, there must still be none.
    let named = Arc::new(Named::new());
    named.nsupdate("delete www.example.test AAAA");
    let other = Arc::clone(&named);
    let mut owner = Owner::new(takeover(named.place.path(), named.address), true, move |_| {
        other.nsupdate("add www.example.test 300 AAAA 2001:db8::99");
        false
    });
    let failure = owner.fails().await;
    assert!(failure.starts_with("YXRRSET: somebody changed"), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_until_it_is_there() {
    let mut named = Named::new();
    named.stop();
    let spec =
        DnsTakeover { retry: Duration::from_millis(20), ..takeover(named.place.path(), named.address) };
    let mut owner = Owner::new(spec, true, |_| false);
    let report = owner.reports(|report| report.tries >= 3).await;
    let failure = report.failure.unwrap();
    assert!(
        failure.starts_with(&format!("cannot reach the name server {}: Connection refused", named.address))
    );
    named.start();
    let report = owner.reached(true).await;
    assert_eq!((report.tries, report.failure), (0, None));
    assert_eq!(named.dig("www.example.test"), OURS);
}

#[tokio::test]
async fn a_record_that_is_changed_later_is_put_right() {
    let named = Named::new();
    let spec = DnsTakeover { ttl: 5, ..takeover(named.place.path(), named.address) };
    let mut owner = Owner::new(spec, true, |_| false);
    owner.reached(true).await;
    let ours = OURS.map(|record| record.replace("30 A", "5 A"));
    assert_eq!(named.dig("www.example.test"), ours);
    for change in [
        "delete www.example.test A\nadd www.example.test 5 A 192.0.2.12",
        "add www.example.test 5 AAAA 2001:db8::99",
        "delete www.example.test A",
        "delete www.example.test AAAA\nadd www.example.test 60 AAAA 2001:db8::11",
    ] {
        named.nsupdate(change);
        assert_ne!(named.dig("www.example.test"), ours, "{change}");
        let begin = Instant::now();
        while named.dig("www.example.test") != ours {
            assert!(begin.elapsed() < PATIENCE, "{change}: {:?}", owner.report.borrow());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What is done to an answer.
type Meddle = fn(&mut Vec<u8>);

/// Passes messages on to a server and its answers back, after it has done something to them.
async fn meddler(server: SocketAddr, meddle: Meddle) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
            while let Ok(length) = near.read_u16().await {
                let mut message = vec![0; usize::from(length)];
                near.read_exact(&mut message).await.unwrap();
                far.write_all(&[&length.to_be_bytes(), &message[..]].concat()).await.unwrap();
                let mut answer = vec![0; usize::from(far.read_u16().await.unwrap())];
                far.read_exact(&mut answer).await.unwrap();
                meddle(&mut answer);
                let length = u16::try_from(answer.len()).unwrap();
                near.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn answers_that_are_not_signed_as_they_should_be_are_none() {
    let named = Named::new();
    let place = named.place.path();
    let before = named.dig("www.example.test");
    let cases: [(Meddle, &str); 6] = [
        // The flag CD.
        (|answer| answer[3] ^= 0x10, "the answer's signature is wrong"),
        // The last byte of the question's class.
        (|answer| answer[33] ^= 1, "the answer's signature is wrong"),
        // A bit of the MAC: after it come the id, the error and the length of nothing, 6 bytes.
        (|answer| *answer.iter_mut().rev().nth(6).unwrap() ^= 1, "the answer's signature is wrong"),
        // No additional record, so no signature.
        (|answer| answer[11] = 0, "the answer is not signed"),
        (|answer| answer[0] ^= 1, "the answer is to another message"),
        (|answer| answer.truncate(20), "the answer is no DNS message"),
    ];
    for (index, (meddle, why)) in cases.into_iter().enumerate() {
        let server = meddler(named.address, meddle).await;
        let failure = fails(takeover(place, server)).await;
        assert!(failure.contains(why), "{index}: {failure}");
    }
    assert_eq!(named.dig("www.example.test"), before);
    let honest = meddler(named.address, |_| ()).await;
    Owner::new(takeover(place, honest), true, |_| false).reached(true).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = TempDir::new().unwrap();
    let spec = takeover(place.path(), listener.local_addr().unwrap());
    let failure = fails(DnsTakeover { timeout: Duration::from_millis(200), ..spec }).await;
    assert!(failure.ends_with("did not answer in 200ms"), "{failure}");
}

/// What is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_secret_is_in_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let named = Named::new();
    let place = named.place.path();
    Owner::new(takeover(place, named.address), true, |_| false).reached(true).await;
    let spec = takeover(place, named.address);
    key_file(place, &format!("lb {SECRET} hmac-sha256"));
    fails(spec).await;
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("www.example.test. had 192.0.2.12, 192.0.2.112, 2001:db8::12, and has"), "{log}");
    let bytes = format!("{:?}", b"secretsecret");
    for form in [&SECRET[..8], "secretsecret", bytes.trim_end_matches(']')] {
        assert!(!log.contains(form), "{form}: {log}");
    }
}
