//! Threads that run until whoever started them has enough.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use rustix::pipe::{PipeFlags, pipe_with};

/// A thread; dropped, it is told to end, and waited for.
#[derive(Debug)]
pub(crate) struct Background<T> {
    stop: Option<Stop>,
    thread: Option<JoinHandle<T>>,
}

/// Dropped, it tells the thread.
#[derive(Debug)]
struct Stop {
    flag: Arc<AtomicBool>,
    _pipe: OwnedFd,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

/// By what a thread knows that it is to end. Its descriptor hangs up then, for those that wait for others as well.
#[derive(Debug)]
pub(crate) struct Stopped {
    flag: Arc<AtomicBool>,
    pipe: OwnedFd,
}

impl Stopped {
    /// Whether it is to end.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl AsFd for Stopped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl<T: Send + 'static> Background<T> {
    /// Starts a thread.
    pub(crate) fn start(work: impl FnOnce(&Stopped) -> T + Send + 'static) -> Result<Background<T>> {
        // Not inherited: a process that is started meanwhile would keep the thread from noticing.
        let (pipe, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let flag = Arc::new(AtomicBool::new(false));
        let stopped = Stopped { flag: Arc::clone(&flag), pipe };
        let thread = thread::spawn(move || work(&stopped));
        Ok(Background { stop: Some(Stop { flag, _pipe: stop }), thread: Some(thread) })
    }

    /// Ends it, and gives what came of it.
    pub(crate) fn stop(mut self) -> Result<T> {
        self.stop = None;
        let thread = self.thread.take().context("it stops once")?;
        thread.join().map_err(|_| anyhow!("a thread in the background panicked"))
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
