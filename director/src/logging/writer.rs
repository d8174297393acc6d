//! The thread that writes the log: a log that nobody reads, or whose disk is full, holds nothing up. What it cannot take is lost, and
//! counted. It also tells what was left out, once that is due.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::layer::Held;

/// The most lines that wait to be written.
const MOST_LINES: usize = 8192;
/// How long the end waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How the log of this process does.
static STATE: LazyLock<Arc<State>> = LazyLock::new(Arc::default);

#[derive(Debug, Default)]
struct State {
    taken: AtomicU64,
    lost: AtomicU64,
    /// The last line was lost.
    losing: AtomicBool,
    /// Lines that are done with: written, or lost on the way.
    done: Mutex<u64>,
    news: Condvar,
}

/// Keeps the log going. Dropped at the end, it waits for the last lines, but not for long.
#[derive(Debug)]
pub struct Log {
    state: Arc<State>,
    held: Arc<Held>,
}

/// What logs write to: takes each line at once, or loses it.
#[derive(Clone, Debug)]
pub struct Lines {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

/// Starts the thread that writes this process's log. `held` is what was left out of it.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start(to: impl Write + Send + 'static, held: Arc<Held>) -> io::Result<(Log, Lines)> {
    start_with(to, Arc::clone(&STATE), held, MOST_LINES)
}

/// What is wrong with the log now, for people.
pub fn problem() -> Option<String> {
    STATE.problem()
}

/// How many lines were lost since the start.
pub fn lost() -> u64 {
    STATE.lost.load(Ordering::Relaxed)
}

fn start_with(
    to: impl Write + Send + 'static,
    state: Arc<State>,
    held: Arc<Held>,
    most: usize,
) -> io::Result<(Log, Lines)> {
    let (lines, waiting) = sync_channel(most);
    let (of_thread, seen) = (Arc::clone(&state), Arc::clone(&held));
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(to, &waiting, &of_thread, &seen))?;
    Ok((Log { state: Arc::clone(&state), held }, Lines { lines, state }))
}

fn write(mut to: impl Write, waiting: &Receiver<Vec<u8>>, state: &State, held: &Held) {
    let mut told = 0;
    loop {
        let next = match held.due_in(Instant::now()) {
            Some(left) => waiting.recv_timeout(left),
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let line = match next {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // These lines come by the queue, too; they are few.
        held.tell(Some(Instant::now()));
        if line.is_empty() {
            continue;
        }
        if to.write_all(&line).and_then(|()| to.flush()).is_ok() {
            state.losing.store(false, Ordering::Relaxed);
            let lost = state.lost.load(Ordering::Relaxed);
            if lost > told {
                // This may be lost itself; then it is said with the next line.
                tracing::warn!("{} lines of the log were lost", lost - told);
                told = lost;
            }
        } else {
            state.lose();
        }
        *state.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        state.news.notify_all();
    }
}

impl State {
    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.losing.store(true, Ordering::Relaxed);
    }

    fn problem(&self) -> Option<String> {
        let lost = self.lost.load(Ordering::Relaxed);
        let losing = self.losing.load(Ordering::Relaxed);
        losing.then(|| {
            format!(
                "lines of the log are lost, {lost} so far: nobody reads it fast enough, or its disk is full"
            )
        })
    }
}

impl Lines {
    /// Has the thread look when something that was left out is due. A full queue keeps it awake anyway.
    pub(super) fn wake(&self) {
        let _ = self.lines.try_send(Vec::new());
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(line.to_vec()).is_ok() {
            self.state.taken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.state.lose();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.held.tell(None);
        let taken = self.state.taken.load(Ordering::Relaxed);
        let done = self.state.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Lines that cannot be written meanwhile are lost with the process.
        let _ = self.state.news.wait_timeout_while(done, LAST_LINES, |done| *done < taken);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Blocks until it is permitted to write, line by line; or fails.
    struct Gate(Receiver<bool>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.recv() != Ok(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_blocks_holds_nobody_up_and_what_was_taken_is_written_in_the_end() {
        let (gate, opened) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (log, mut lines) =
            start_with(Gate(opened, Arc::clone(&written)), Arc::default(), Arc::default(), 4)
                .expect("a thread");
        for i in 0..100 {
            lines.write_all(format!("{i}\n").as_bytes()).expect("it never fails");
        }
        // Four wait, and the thread may have taken one of them by then.
        let taken = lines.state.taken.load(Ordering::Relaxed);
        let lost = lines.state.lost.load(Ordering::Relaxed);
        assert!((4..=5).contains(&taken) && taken + lost == 100, "{taken} taken, {lost} lost");
        assert!(log.state.problem().expect("a problem").contains(&format!("{lost} so far")));
        (0..taken).for_each(|_| gate.send(true).unwrap());
        drop(log);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("0\n1\n2\n3\n") && text.lines().count() as u64 == taken, "{text}");
        assert_eq!(lines.state.problem(), None);
    }

    #[test]
    fn a_full_disk_loses_lines_until_there_is_room_again() {
        let (gate, opened) = channel();
        let (log, mut lines) =
            start_with(Gate(opened, Arc::default()), Arc::default(), Arc::default(), 4).expect("a thread");
        [false, true].into_iter().for_each(|room| gate.send(room).unwrap());
        lines.write_all(b"lost").expect("it never fails");
        let waits = |done: u64| {
            let before = log.state.done.lock().unwrap();
            drop(log.state.news.wait_while(before, |now| *now < done).unwrap());
        };
        waits(1);
        assert!(log.state.problem().expect("a problem").contains("1 so far"));
        lines.write_all(b"written").expect("it never fails");
        waits(2);
        assert_eq!(log.state.problem(), None);
    }
}
