//! Answers that take much memory: few at a time, and each counts until its client has it or is cut off.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that are held at a time. With 1,000 services of ten real servers that are checked one may take some 25 MB, which may be locked in memory.
pub(super) const MOST: usize = 4;
/// How long a client may take over one, before others need its place.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// How long a request waits for a place: less than those who scrape wait for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// The places.
#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    patience: Duration,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(super) struct Place(OwnedSemaphorePermit);

/// An answer in its place.
struct Placed {
    answer: Box<[u8]>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl Places {
    /// All free. `patience` is how long a request waits for one.
    pub(super) fn new(patience: Duration) -> Places {
        Places { free: Arc::new(Semaphore::new(MOST)), patience }
    }

    /// A place, if there is one in time.
    pub(super) async fn take(&self) -> Option<Place> {
        let free = Arc::clone(&self.free).acquire_owned();
        tokio::time::timeout(self.patience, free).await.ok()?.ok().map(Place)
    }
}

impl Place {
    /// An answer that has this place as long as anything holds some of it.
    pub(super) fn hold(self, answer: String) -> Bytes {
        // Room that was kept for more text goes back at once.
        Bytes::from_owner(Placed { answer: answer.into_bytes().into_boxed_slice(), _place: self.0 })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::Context;

    use http_body_util::{BodyExt, Full};
    use hyper::{Response, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::connections::{TakenWithin, serve};

    /// Far more than a socket holds.
    const LENGTH: usize = 4 << 20;

    #[tokio::test]
    async fn who_finds_no_place_is_told_to_come_again() {
        let places = Places::new(Duration::from_millis(10));
        let mut taken = Vec::new();
        for _ in 0..MOST {
            taken.push(places.take().await.expect("a place").hold("an answer".to_owned()));
        }
        let answer =
            async || super::super::large(&places, "text/plain", async { Ok("more".to_owned()) }).await;
        let refused = answer().await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        // Part of one is held yet: that is all of it.
        let part = taken[0].slice(3..);
        taken.remove(0);
        assert_eq!(answer().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(part);
        assert_eq!(answer().await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_place_is_free_when_the_client_has_its_answer_or_is_cut_off() {
        let places = Places::new(PATIENCE);
        let (streams, mut accepted) = mpsc::channel::<UnixStream>(1);
        let accept = move |cx: &mut Context| {
            accepted.poll_recv(cx).map(|stream| stream.ok_or(io::ErrorKind::BrokenPipe.into()))
        };
        let all = places.clone();
        let answer = move |_| {
            let places = all.clone();
            async move {
                let body = places.take().await.expect("a place").hold("x".repeat(LENGTH));
                let mut response = Response::new(Full::new(body).boxed());
                response.extensions_mut().insert(TakenWithin(Duration::from_secs(2)));
                response
            }
        };
        tokio::spawn(serve("a test", accept, answer));
        let client = async || {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            streams.send(theirs).await.unwrap();
            ours.read_u8().await.unwrap();
            ours
        };

        let (mut quick, mut slow) = (client().await, client().await);
        assert_eq!(places.free.available_permits(), MOST - 2);
        let free = async |count: usize| {
            let free = Arc::clone(&places.free).acquire_many_owned(count as u32);
            drop(tokio::time::timeout(Duration::from_secs(20), free).await.expect("they are held still"));
        };
        let mut read = Vec::new();
        quick.read_to_end(&mut read).await.unwrap();
        assert!(read.len() > LENGTH, "{} bytes came", read.len());
        free(MOST - 1).await;
        assert_eq!(places.free.available_permits(), MOST - 1, "the other one has its time");
        free(MOST).await;
        read.clear();
        slow.read_to_end(&mut read).await.unwrap();
        assert!(read.len() < LENGTH, "all of it came");
    }
}
