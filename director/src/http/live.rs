//! The stream that the dashboard lives by: server-sent events. One producer makes each frame once, however many listen, and
//! makes none while nobody does. Who reads slowly loses frames; nobody waits for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::Body;

/// The most that listen at a time; the next one is refused.
pub(super) const MOST_LISTENERS: usize = 16;
/// From one frame to the next, at least.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// A frame that takes long to make is made more rarely: pauses are so many times as long as the work.
const REST: u32 = 20;
/// So often something is said, if only that there is nothing to say: proxies end connections that are silent.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// What a listener gets first: how long to wait before it connects again, in milliseconds.
const GREETING: &str = "retry: 2000\n\n";
/// Says nothing.
const COMMENT: &str = ":\n\n";

/// The newest frame, and who listens.
#[derive(Debug)]
pub(super) struct Live {
    every: Duration,
    /// Empty while there is none that is fresh.
    newest: watch::Sender<Bytes>,
    /// Somebody has begun to listen.
    listened: Notify,
    room: Arc<Semaphore>,
}

/// One who listens.
struct Listener {
    frames: watch::Receiver<Bytes>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// Nobody listens yet.
    pub(super) fn new(every: Duration) -> Live {
        let room = Arc::new(Semaphore::new(MOST_LISTENERS));
        Live { every, newest: watch::Sender::default(), listened: Notify::new(), room }
    }

    /// Makes frames while somebody listens, for ever.
    pub(super) async fn produce<F: Future<Output = Bytes>>(&self, mut make: impl FnMut() -> F) {
        let mut due = Instant::now();
        loop {
            if self.newest.receiver_count() == 0 {
                // Whoever comes next is not to be shown what was.
                self.newest.send_replace(Bytes::new());
                self.listened.notified().await;
            } else if Instant::now() < due {
                tokio::time::sleep_until(due).await;
            } else {
                let begun = Instant::now();
                let frame = make().await;
                due = begun + self.every.max(begun.elapsed() * REST);
                self.newest.send_replace(frame);
            }
        }
    }

    /// A body that lasts as long as its reader listens; none where there is no room for one more.
    pub(super) fn listen(&self) -> Option<Body> {
        let place = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let mut frames = self.newest.subscribe();
        frames.mark_changed();
        self.listened.notify_one();
        let listener = Listener { frames, greeted: false, _place: place };
        let pieces = stream::unfold(listener, |mut listener| async {
            let piece = listener.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(piece)), listener))
        });
        Some(BodyExt::boxed(StreamBody::new(pieces)))
    }
}

impl Listener {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(Bytes::from_static(GREETING.as_bytes()));
        }
        let fresh = async {
            loop {
                self.frames.changed().await.ok()?;
                let frame = self.frames.borrow_and_update().clone();
                if !frame.is_empty() {
                    return Some(frame);
                }
            }
        };
        match tokio::time::timeout(KEEPALIVE, fresh).await {
            Ok(frame) => frame,
            Err(_) => Some(Bytes::from_static(COMMENT.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const QUICK: Duration = Duration::from_millis(20);

    /// The pieces of a stream, one by one.
    async fn next(body: &mut Body) -> String {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    async fn number(body: &mut Body) -> u64 {
        next(body).await.parse().unwrap()
    }

    /// A stream of numbers, and how many were made.
    fn counting() -> (Arc<Live>, Arc<AtomicU64>) {
        let (live, made) = (Arc::new(Live::new(QUICK)), Arc::new(AtomicU64::new(0)));
        let (producer, count) = (Arc::clone(&live), Arc::clone(&made));
        let make = move || {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            async move { Bytes::from(number.to_string()) }
        };
        tokio::spawn(async move { producer.produce(make).await });
        (live, made)
    }

    #[tokio::test]
    async fn frames_are_made_once_for_all_and_only_for_somebody() {
        let (live, made) = counting();
        tokio::time::sleep(3 * QUICK).await;
        assert_eq!(made.load(Ordering::Relaxed), 0, "nobody listens");

        let mut one = live.listen().unwrap();
        assert_eq!(next(&mut one).await, GREETING);
        assert_eq!(number(&mut one).await, 1);
        let mut other = live.listen().unwrap();
        next(&mut other).await;
        assert_eq!(number(&mut other).await, 1, "the newest frame at once, and no other one for it");
        assert_eq!((number(&mut one).await, number(&mut other).await), (2, 2));

        drop((one, other));
        tokio::time::sleep(3 * QUICK).await;
        let before = made.load(Ordering::Relaxed);
        tokio::time::sleep(3 * QUICK).await;
        assert_eq!(made.load(Ordering::Relaxed), before, "nobody listens any more");
        let mut late = live.listen().unwrap();
        next(&mut late).await;
        assert_eq!(number(&mut late).await, before + 1, "nothing stale");
    }

    #[tokio::test]
    async fn who_reads_slowly_loses_frames_and_holds_up_nobody() {
        let (live, _) = counting();
        let (mut slow, mut quick) = (live.listen().unwrap(), live.listen().unwrap());
        next(&mut slow).await;
        next(&mut quick).await;
        for expected in 1..=5 {
            assert_eq!(number(&mut quick).await, expected);
        }
        assert_eq!(number(&mut slow).await, 5);
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_again_when_one_goes() {
        let live = Live::new(QUICK);
        let mut all: Vec<Body> = (0..MOST_LISTENERS).map(|_| live.listen().unwrap()).collect();
        assert!(live.listen().is_none());
        all.pop();
        assert!(live.listen().is_some());
    }
}
