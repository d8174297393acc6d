//! The thread that owns the data plane. Its calls block, so nobody else makes them.

use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{mpsc, oneshot};

use crate::dataplane::{Dataplane, Error, Options};

/// Jobs that may wait.
const MOST_WAITING: usize = 16;

/// Says whether more follow.
type Job = Box<dyn FnOnce(&mut Dataplane) -> ControlFlow<()> + Send>;

/// The way to the data plane's thread; it ends with the last of these, or at [`Worker::end`].
#[derive(Clone)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Opens the data plane in a thread of its own.
    pub(super) async fn start(options: Options) -> Result<Worker> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(MOST_WAITING);
        let (opened, open) = oneshot::channel::<Result<(), Error>>();
        let body = move || match Dataplane::open(&options) {
            Ok(mut dataplane) => {
                let _ = opened.send(Ok(()));
                while let Some(job) = waiting.blocking_recv() {
                    if job(&mut dataplane).is_break() {
                        break;
                    }
                }
                // In this order: when the channel is closed, everything else is.
                drop(dataplane);
                drop(waiting);
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        std::thread::Builder::new()
            .name("dataplane".to_owned())
            .spawn(body)
            .context("cannot start a thread")?;
        open.await.map_err(|_| anyhow!("the data plane's thread died"))??;
        Ok(Worker { jobs })
    }

    /// Returns when the thread has died.
    pub(super) async fn died(&self) {
        self.jobs.closed().await;
    }

    /// Closes the data plane, after what it has been asked for before; returns when everything of it is closed.
    pub(super) async fn end(&self) {
        // If it has died, it is closed as well.
        let _ = self.jobs.send(Box::new(|_| ControlFlow::Break(()))).await;
        self.died().await;
    }

    /// Has the data plane do something, after what it has been asked for before.
    pub(super) async fn ask<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Dataplane) -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        // Who asked may have gone away meanwhile.
        let job: Job = Box::new(move |dataplane| {
            let _ = done.send(job(dataplane));
            ControlFlow::Continue(())
        });
        self.jobs.send(job).await.map_err(|_| anyhow!("the data plane's thread died"))?;
        result.await.map_err(|_| anyhow!("the data plane's thread died"))
    }
}
