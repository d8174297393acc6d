//! What tests of parts that follow a level share: the level, the report, and a directory where commands keep a diary.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Report, role};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// A part that follows a level.
pub(crate) struct Scene {
    place: TempDir,
    wanted: Option<watch::Sender<bool>>,
    report: watch::Receiver<Report>,
    task: JoinHandle<()>,
}

impl Scene {
    /// Starts a part, which gets the level, `active` first, and where its report goes.
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        place: TempDir,
        active: bool,
        part: impl FnOnce(watch::Receiver<bool>, watch::Sender<Report>) -> F,
    ) -> Scene {
        let (wanted, level) = watch::channel(active);
        let (sender, report) = watch::channel(Report::new("web", "test"));
        let task = tokio::spawn(part(level, sender));
        Scene { place, wanted: Some(wanted), report, task }
    }

    pub(crate) fn want(&self, active: bool) {
        self.wanted.as_ref().expect("a level").send(active).expect("somebody who follows it");
    }

    /// There will be no other level: waits for the part's end.
    pub(crate) async fn ends(&mut self) {
        self.wanted = None;
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("it ends").expect("it does not panic");
    }

    pub(crate) fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    pub(crate) async fn reports(&mut self, what: &str, condition: impl FnMut(&Report) -> bool) -> Report {
        let waited = tokio::time::timeout(PATIENCE, self.report.wait_for(condition)).await;
        let report = waited.map(|report| report.map(|report| report.clone()));
        match report {
            Ok(report) => report.expect("somebody who reports"),
            Err(_) => panic!("{what}: {:?}, {}", self.report(), self.diary()),
        }
    }

    pub(crate) async fn reached(&mut self, active: bool) -> Report {
        self.reports(role(active), |report| report.reached == Some(active)).await
    }

    pub(crate) async fn has_failed(&mut self, times: u32) -> Report {
        self.reports("failures", |report| report.tries >= times).await
    }

    /// A file in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn touch(&self, name: &str) {
        fs::write(self.file(name), "").expect("a file");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("the file was there");
    }

    /// The lines of the file `diary`, with `; ` between them.
    pub(crate) fn diary(&self) -> String {
        let text = fs::read_to_string(self.file("diary")).unwrap_or_default();
        text.lines().collect::<Vec<_>>().join("; ")
    }

    /// Waits until the diary ends so.
    pub(crate) async fn wrote(&self, text: &str) {
        let waiting = async {
            while !self.diary().ends_with(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{text}: {}", self.diary());
    }
}
