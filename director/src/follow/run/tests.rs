//! With a real `sh`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn sh(script: &str, timeout: Duration) -> Result<(), String> {
    let command = ["/bin/sh", "-c", script, "name"].map(String::from);
    let (arguments, environment) = (["one".into(), "two words".into()], [("DIRECTOR_GROUP", "web".into())]);
    run(&Run { command: &command, arguments: &arguments, environment: &environment, timeout }).await
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what}: it is not so");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The process whose id a command has left in a file.
async fn process(file: &Path) -> Pid {
    let read = || fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'));
    until("the file with a process id", || read().is_some()).await;
    read().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw).expect("a process id")
}

/// Whether a process runs. One that nobody has reaped yet does not.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.contains(") Z ")
}

#[tokio::test]
async fn success_is_status_0_and_failures_say_why() {
    assert_eq!(sh("exit 0", PATIENCE).await, Ok(()));
    assert_eq!(sh("exit 3", PATIENCE).await, Err("/bin/sh: exit status: 3".into()));
    let said = sh("echo to one; echo to the other >&2; printf 'a\\033[31m'; exit 1", PATIENCE).await;
    assert_eq!(
        said,
        Err("/bin/sh: exit status: 1; it said: to one | to the other | a [31m".into()),
        "both outputs, in order, without control characters"
    );
    let killed = sh("kill -TERM $$", PATIENCE).await.unwrap_err();
    assert!(killed.starts_with("/bin/sh: signal: 15"), "{killed}");
    let missing =
        Run { command: &["/nonexistent".into()], arguments: &[], environment: &[], timeout: PATIENCE };
    let missing = run(&missing).await.unwrap_err();
    assert!(missing.starts_with("cannot run /nonexistent: No such file"), "{missing}");
}

#[tokio::test]
async fn a_command_is_told_what_it_is_about() {
    let told = sh("echo $# $1 $2 $DIRECTOR_GROUP; cat; exit 1", PATIENCE).await.unwrap_err();
    assert!(told.ends_with("it said: 2 one two words web"), "{told}");
}

#[tokio::test]
async fn only_the_last_of_much_output_is_kept() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 1";
    let said = sh(script, PATIENCE).await.unwrap_err();
    assert!(said.contains("it said: …") && said.ends_with("line 19998 | line 19999"), "{said}");
    // Line ends are shown with two characters more.
    assert!(said.len() < 2 * KEPT_OUTPUT, "{}", said.len());
    let mut tail = Tail::default();
    (0..100).for_each(|_| tail.push(&[b'x'; 1000]));
    assert_eq!(tail.bytes.len(), KEPT_OUTPUT);
}

#[tokio::test]
async fn time_runs_out_for_the_whole_group() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("child");
    let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; echo waiting; wait", file.display());
    let begin = Instant::now();
    let failed = sh(&script, Duration::from_secs(3)).await.unwrap_err();
    assert!(begin.elapsed() < PATIENCE);
    assert_eq!(failed, "/bin/sh: it took longer than 3s and was killed; it said: waiting");
    let child = process(&file).await;
    until("the child is gone", || !runs(child)).await;
}

#[tokio::test]
async fn what_a_failed_command_has_left_is_killed() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("child");
    sh(&format!("sleep 60 & echo $! > {}; exit 1", file.display()), PATIENCE).await.unwrap_err();
    let child = process(&file).await;
    until("the child is gone", || !runs(child)).await;
}

#[tokio::test]
async fn a_run_that_is_given_up_is_killed() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("child");
    let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
    let task = tokio::spawn(async move { sh(&script, PATIENCE).await });
    let child = process(&file).await;
    assert!(runs(child));
    task.abort();
    until("the child is gone", || !runs(child)).await;
}

/// A daemon that is started in the simplest way, and that writes to where the command wrote.
#[tokio::test]
async fn what_a_successful_command_has_left_runs_on_and_may_write() {
    let place = TempDir::new().unwrap();
    let [file, go, went] = ["child", "go", "went"].map(|name| place.path().join(name));
    let script = format!(
        "(while [ ! -e {go} ]; do sleep 0.02; done; i=0; while [ $i -lt 20000 ]; do echo a line of some length $i; \
         i=$((i+1)); done; echo done > {went}; exec sleep 60) & echo $! > {file}",
        go = go.display(),
        went = went.display(),
        file = file.display()
    );
    let begin = Instant::now();
    assert_eq!(sh(&script, PATIENCE).await, Ok(()));
    assert!(begin.elapsed() < PATIENCE, "its output stays open, which is not waited for");
    let child = process(&file).await;
    assert!(runs(child));
    fs::write(go, "").unwrap();
    // More than a pipe holds.
    until("it has written all", || went.exists()).await;
    assert!(runs(child));
    kill_process(child, Signal::KILL).unwrap();
}
