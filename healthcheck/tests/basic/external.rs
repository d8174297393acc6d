//! With a real `sh`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use healthcheck::spec::External;
use healthcheck::{Check, Failure, Success};
use tempfile::TempDir;

use crate::kit::{PATIENCE, SHORT, outcome, probe, timed_out};

/// `sh -c SCRIPT name`, so that the four words of every command are `$1` to `$4`.
fn script(text: &str) -> Check {
    let arguments = vec!["-c".into(), text.into(), "name".into()];
    Check::External(External { command: "/bin/sh".into(), arguments, dynamic: false })
}

fn dynamic(text: &str) -> Check {
    let Check::External(external) = script(text) else { unreachable!() };
    Check::External(External { dynamic: true, ..external })
}

fn real() -> std::net::SocketAddr {
    "[2001:db8::5]:443".parse().unwrap()
}

#[tokio::test]
async fn the_exit_status_decides() {
    assert!(probe(script("exit 0"), real()).await.is_ok());
    assert_eq!(probe(script("exit 3"), real()).await, Err(Failure::Exit(3)));
    assert_eq!(probe(script("kill -TERM $$"), real()).await, Err(Failure::Signal(15)));
}

#[tokio::test]
async fn dynamic_statuses_are_weights() {
    assert_eq!(probe(dynamic("exit 12"), real()).await, Ok(Success { weight: Some(10) }));
    assert_eq!(probe(dynamic("exit 0"), real()).await, Ok(Success { weight: None }));
    assert_eq!(probe(dynamic("exit 1"), real()).await, Err(Failure::Exit(1)));
}

#[tokio::test]
async fn the_command_is_told_whom_it_checks() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("told");
    let text = format!("echo $# $1 $2 $3 $4 $VIP $VPORT $RIP $RPORT $TIMEOUT > {}", file.display());
    assert!(probe(script(&text), real()).await.is_ok());
    let four = "192.0.2.1 80 2001:db8::5 443";
    assert_eq!(fs::read_to_string(file).unwrap(), format!("4 {four} {four} {}\n", PATIENCE.as_secs()));
}

#[tokio::test]
async fn a_command_that_is_not_there_cannot_check() {
    let external = External { command: "/nonexistent/check".into(), arguments: Vec::new(), dynamic: false };
    let failed = probe(Check::External(external), real()).await.unwrap_err();
    assert!(failed.to_string().starts_with("cannot check: /nonexistent/check: "), "{failed}");
}

#[tokio::test]
async fn a_command_that_writes_a_lot_is_not_stopped_by_that() {
    let text =
        "i=0; while [ $i -lt 2000 ]; do echo 'a line of some length, again and again'; i=$((i+1)); done";
    assert!(probe(script(text), real()).await.is_ok());
}

/// Starts a child in the background, which lives longer than a test waits, but not by much, should the test fail. Its process id
/// is left in a file.
fn with_child(directory: &Path, rest: &str) -> Check {
    let file = directory.join("child");
    script(&format!("sleep 60 & echo $! > {}; echo $$ > {}.parent; {rest}", file.display(), file.display()))
}

#[tokio::test]
async fn time_runs_out_for_the_command_and_its_children() {
    let directory = TempDir::new().unwrap();
    let outcome =
        outcome(with_child(directory.path(), "wait"), real(), SHORT.max(Duration::from_secs(1))).await;
    assert_eq!(timed_out(&outcome.result), Some("exit"));
    gone(&directory.path().join("child")).await;
    gone(&directory.path().join("child.parent")).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_when_it_ends() {
    let directory = TempDir::new().unwrap();
    assert!(probe(with_child(directory.path(), "exit 0"), real()).await.is_ok());
    gone(&directory.path().join("child")).await;
    gone(&directory.path().join("child.parent")).await;
}

/// Waits until the process in a file is no more. One of ours must not even be a zombie; a grandchild is reaped by whoever adopts
/// it, which is not our business.
async fn gone(file: &Path) {
    let id = fs::read_to_string(file).unwrap().trim().to_owned();
    let ours = std::process::id().to_string();
    let is_there = || {
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[0] != "Z" || fields[1] == ours
    };
    tokio::time::timeout(PATIENCE, async {
        while is_there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("process {id} of {} is still there", file.display()));
}
