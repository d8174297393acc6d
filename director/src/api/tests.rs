//! Both ends of the socket with a director made up for it.

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::client::{Client, Error};
use super::server::{Director, Listener, Refusal};
use super::types::{
    self, Event, FlowQuery, HandedOver, HandoverRequest, Held, HoldRequest, ProbeRequest, Probed, Reloaded,
    Status, StopRequest, Stopping, Weighed, WeightRequest,
};

/// Knows one service, and has endless flows.
struct MadeUp;

impl Director for MadeUp {
    async fn status(&self) -> Result<Status, Refusal> {
        Err(Refusal::new(false, "no status today".to_owned()))
    }

    async fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    async fn flows(&self, asked: FlowQuery) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let (pieces, reader) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut left = asked.limit.unwrap_or(u64::MAX);
            // A line in two pieces: the reader must put it together.
            while left > 0 && pieces.send("{\"n\":".into()).await.is_ok() {
                left -= 1;
                if pieces.send(format!("{left}}}\n").into()).await.is_err() {
                    return;
                }
            }
        });
        Ok(reader)
    }

    async fn reload(&self) -> Result<Reloaded, Refusal> {
        Ok(Reloaded {
            operations: 3,
            surroundings: 1,
            milliseconds: 4,
            notes: vec!["n".into()],
            problems: vec![],
        })
    }

    async fn weight(&self, asked: WeightRequest) -> Result<Weighed, Refusal> {
        let WeightRequest { service, real, weight } = asked;
        if service != "web" {
            let mut refusal = Refusal::new(true, format!("there is no service {service:?}"));
            refusal.body.hint = Some("known: web".to_owned());
            return Err(refusal);
        }
        Ok(Weighed { service, real, configured_weight: 1, before: 1, weight: weight.unwrap_or(1) })
    }

    async fn metrics(&self) -> Result<String, Refusal> {
        Ok("director_up 1\n".to_owned())
    }

    async fn events(&self, after: u64) -> Result<Vec<Event>, Refusal> {
        let event = |id| Event {
            id,
            time: "2026-01-01T00:00:00Z".into(),
            service: "web".into(),
            real: None,
            from: "up".into(),
            to: "down".into(),
            reason: "connection refused".into(),
        };
        Ok((after + 1..=3).map(event).collect())
    }

    async fn probe(&self, asked: ProbeRequest) -> Result<Vec<Probed>, Refusal> {
        Err(Refusal::new(true, format!("there is no service {:?}", asked.service)))
    }

    async fn hand_over(&self, _: HandoverRequest) -> Result<HandedOver, Refusal> {
        Err(Refusal::new(true, "this director is alone".to_owned()))
    }

    async fn hold(&self, _: HoldRequest) -> Result<Held, Refusal> {
        Err(Refusal::new(true, "this director is alone".to_owned()))
    }

    async fn stop(&self, asked: StopRequest) -> Result<Stopping, Refusal> {
        Ok(Stopping { pid: asked.detach.into() })
    }
}

/// A place for a socket.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("director-api-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("director.sock")
    }

    fn serve(&self) -> Client {
        let listener = Listener::bind(&self.socket()).unwrap();
        tokio::spawn(listener.serve(Arc::new(MadeUp)));
        Client::new(&self.socket())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn requests_and_answers_cross() {
    let place = Place::new();
    let client = place.serve();
    let reloaded: Reloaded = client.post(types::RELOAD, &()).await.unwrap();
    assert_eq!((reloaded.operations, reloaded.surroundings, reloaded.notes), (3, 1, vec!["n".to_owned()]));
    let request = WeightRequest { service: "web".into(), real: "10.0.0.1".into(), weight: Some(9) };
    let weighed: Weighed = client.post(types::WEIGHT, &request).await.unwrap();
    assert_eq!((weighed.weight, weighed.real.as_str()), (9, "10.0.0.1"));
    let stopping: Stopping = client.post(types::STOP, &StopRequest { detach: true }).await.unwrap();
    assert_eq!(stopping.pid, 1);
}

#[tokio::test]
async fn refusals_say_why_and_whose_fault_it_is() {
    let place = Place::new();
    let client = place.serve();
    let error = client.get::<Status>(types::STATUS).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { misuse: false, body } if body.error == "no status today"));
    let request = WeightRequest { service: "wbe".into(), real: "10.0.0.1".into(), weight: None };
    let error = client.post::<Weighed>(types::WEIGHT, &request).await.unwrap_err();
    assert!(matches!(error, Error::Refused { misuse: true, .. }));
    assert_eq!(error.to_string(), "there is no service \"wbe\"\n  help: known: web");
    let error = client.post::<Weighed>(types::WEIGHT, &"nonsense").await.unwrap_err();
    assert!(matches!(error, Error::Refused { misuse: true, .. }), "{error}");
    for (path, says) in [("/v2/status", "there is no /v2/status"), (types::RELOAD, "POST only")] {
        let error = client.get::<Status>(path).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = client.lines("/v1/flows?colour=red", |_| ControlFlow::Continue(())).await.unwrap_err();
    assert!(error.to_string().contains("no filter"), "{error}");
}

#[tokio::test]
async fn lines_stream_until_either_end_has_enough() {
    let place = Place::new();
    let client = place.serve();
    let mut lines = Vec::new();
    let query = FlowQuery { limit: Some(3), ..FlowQuery::default() };
    let each = |line: &str| {
        lines.push(line.to_owned());
        ControlFlow::Continue(())
    };
    client.lines(&format!("{}{}", types::FLOWS, query.to_url()), each).await.unwrap();
    assert_eq!(lines, ["{\"n\":2}", "{\"n\":1}", "{\"n\":0}"]);
    let mut seen = 0;
    let some = |_: &str| {
        seen += 1;
        if seen < 1000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    client.lines(types::FLOWS, some).await.unwrap();
    assert_eq!(seen, 1000);
}

#[tokio::test]
async fn the_socket_is_private_replaces_a_dead_one_and_goes_with_its_owner() {
    let place = Place::new();
    // What a killed daemon leaves.
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    let client = Client::new(&place.socket());
    let error = client.get::<Status>(types::STATUS).await.unwrap_err();
    assert!(matches!(error, Error::NotRunning(_)), "{error}");
    let listener = Listener::bind(&place.socket()).unwrap();
    let mode = std::fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(listener);
    assert!(!place.socket().exists());
    let error = client.get::<Status>(types::STATUS).await.unwrap_err();
    assert!(error.to_string().contains("does not run"), "{error}");
}
