//! With a real `sh`.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::follow::scene::{NEVER, PATIENCE, Scene};

/// `script` finds the scene's files in the directory `$D`.
fn begin(script: &str, active: bool, timeout: Duration, retry: Duration) -> Scene {
    let place = TempDir::new().unwrap();
    let script = format!("D={}; {script}", place.path().display());
    let command = ["/bin/sh", "-c", &script, "name"].map(String::from).to_vec();
    let takeover = TakeoverCommand { command, timeout, retry };
    let addresses = vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()];
    Scene::new(place, active, |level, report| {
        follow("web".into(), addresses, takeover, "lb1".into(), level, report)
    })
}

#[tokio::test]
async fn the_first_role_is_run_and_told_in_arguments_and_environment() {
    let script = "echo $# $* : $DIRECTOR_GROUP $DIRECTOR_ROLE $DIRECTOR_ADDRESSES $DIRECTOR_NODE >> $D/diary";
    let mut scene = begin(script, false, PATIENCE, NEVER);
    let addresses = "192.0.2.10 2001:db8::10";
    let report = scene.reached(false).await;
    assert_eq!((report.state.as_str(), report.tries, &report.failure), ("standby", 0, &None));
    let standby = format!("4 web standby {addresses} : web standby {addresses} lb1");
    assert_eq!(scene.diary(), standby);
    scene.want(true);
    scene.reached(true).await;
    let active = format!("4 web active {addresses} : web active {addresses} lb1");
    assert_eq!(scene.diary(), format!("{standby}; {active}"));
    // The same level again is no news.
    scene.want(true);
    scene.want(false);
    scene.reached(false).await;
    assert_eq!(scene.diary(), format!("{standby}; {active}; {standby}"));
}

#[tokio::test]
async fn with_a_group_that_is_active_no_standby_comes_first() {
    let mut scene = begin("echo $2 >> $D/diary", true, PATIENCE, NEVER);
    scene.reached(true).await;
    assert_eq!(scene.diary(), "active");
}

#[tokio::test]
async fn a_failure_is_tried_again_until_it_succeeds() {
    let script = "echo $2 >> $D/diary; test -e $D/good || { echo not yet; exit 1; }";
    let mut scene = begin(script, true, PATIENCE, Duration::from_millis(10));
    let report = scene.has_failed(3).await;
    assert_eq!(report.reached, None);
    assert_eq!(report.state, "becoming active");
    assert_eq!(report.failure.unwrap(), "/bin/sh: exit status: 1; it said: not yet");
    scene.touch("good");
    let report = scene.reached(true).await;
    assert_eq!((report.tries, report.failure), (0, None));
}

#[tokio::test]
async fn a_change_of_role_ends_the_retries_at_once() {
    let script = "echo $2 >> $D/diary; test $2 = standby";
    let mut scene = begin(script, true, PATIENCE, NEVER);
    scene.has_failed(1).await;
    scene.want(false);
    scene.reached(false).await;
    assert_eq!(scene.diary(), "active; standby");
}

#[tokio::test]
async fn changes_during_a_run_wait_for_it_and_only_the_newest_counts() {
    // Were there two at once, the directory would be there already.
    let script = "mkdir $D/alone || echo two at once >> $D/diary; echo $2 >> $D/diary; \
                  while [ ! -e $D/go ]; do sleep 0.01; done; rmdir $D/alone; echo end >> $D/diary";
    let mut scene = begin(script, true, PATIENCE, NEVER);
    scene.wrote("active").await;
    for active in [false, true, false] {
        scene.want(active);
        tokio::task::yield_now().await;
    }
    scene.touch("go");
    scene.reached(false).await;
    assert_eq!(scene.diary(), "active; end; standby; end");
}

#[tokio::test]
async fn a_role_that_changed_forth_and_back_during_a_run_is_not_run_again() {
    let script = "echo $2 >> $D/diary; while [ ! -e $D/go ]; do sleep 0.01; done";
    let mut scene = begin(script, true, PATIENCE, NEVER);
    scene.wrote("active").await;
    for active in [false, true] {
        scene.want(active);
        tokio::task::yield_now().await;
    }
    scene.touch("go");
    scene.reached(true).await;
    scene.ends().await;
    assert_eq!(scene.diary(), "active");
}

#[tokio::test]
async fn a_run_that_hangs_holds_a_change_up_for_its_time_limit_only() {
    let script = "echo $2 >> $D/diary; test $2 = standby || sleep 60";
    let mut scene = begin(script, true, Duration::from_secs(1), NEVER);
    scene.wrote("active").await;
    scene.want(false);
    scene.reached(false).await;
    assert_eq!(scene.diary(), "active; standby");
}

#[tokio::test]
async fn without_a_level_to_follow_it_ends_after_the_last_one() {
    let script = "echo $2 >> $D/diary; while [ ! -e $D/go ]; do sleep 0.01; done; echo end >> $D/diary";
    let mut scene = begin(script, true, PATIENCE, NEVER);
    scene.wrote("active").await;
    scene.want(false);
    scene.touch("go");
    scene.ends().await;
    assert_eq!(scene.diary(), "active; end; standby; end");

    let mut failing = begin("exit 1", true, PATIENCE, NEVER);
    failing.has_failed(1).await;
    failing.ends().await;
}
