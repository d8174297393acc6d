//! hyper's HTTP/2 puts tasks of its own on the runtime. Here they end with the probe.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// The tasks of one probe.
#[derive(Debug)]
pub struct Tasks(Spawner);

/// Adds to them. None: they have been ended, and more are not wanted.
#[derive(Clone, Debug)]
pub struct Spawner(Arc<Mutex<Option<JoinSet<()>>>>);

impl Tasks {
    /// None yet.
    pub fn new() -> Tasks {
        Tasks(Spawner(Arc::new(Mutex::new(Some(JoinSet::new())))))
    }

    /// For hyper.
    pub fn spawner(&self) -> Spawner {
        self.0.clone()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Taken out first: a task that is dropped may reach for the lock.
        let tasks = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(tasks);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        if let Some(tasks) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tasks.spawn(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn tasks_end_with_the_probe_and_none_begin_after_it() {
        let tasks = Tasks::new();
        let spawner = tasks.spawner();
        let begin = || {
            let (held, ended) = oneshot::channel::<()>();
            spawner.execute(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
            ended
        };
        let early = begin();
        drop(tasks);
        for ended in [early, begin()] {
            let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
            assert!(ended.expect("what the task held is dropped").is_err());
        }
    }
}
