//! With a real `sh`.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::follow::scene::{NEVER, PATIENCE, Scene};

/// The resources `one`, `two`, `three`. A verb of one fails while there is a file `VERB-NAME-fails`, and takes until there is none
/// `VERB-NAME-waits`. Were two at once, the directory would be there already.
fn begin(active: bool, retry: Duration, prepare: &[&str]) -> Scene {
    let place = TempDir::new().unwrap();
    prepare.iter().for_each(|file| fs::write(place.path().join(file), "").unwrap());
    let script = format!(
        "cd {}; mkdir alone || echo two at once >> diary; echo $1 $2 >> diary; \
         while [ -e $1-$2-waits ]; do sleep 0.01; done; \
         test $DIRECTOR_GROUP-$DIRECTOR_NODE = web-lb1 || exit 9; \
         rmdir alone; test ! -e $1-$2-fails",
        place.path().display()
    );
    let command =
        |verb: &str, name: &str| ["/bin/sh", "-c", &script, "name", verb, name].map(String::from).to_vec();
    let resource = |name: &str| Resource {
        name: name.into(),
        start: command("start", name),
        stop: command("stop", name),
        timeout: PATIENCE,
    };
    let resources = ["one", "two", "three"].map(resource).to_vec();
    of(place, resources, active, retry)
}

fn of(place: TempDir, resources: Vec<Resource>, active: bool, retry: Duration) -> Scene {
    Scene::new(place, active, |level, report| {
        follow_with("web".into(), resources, "lb1".into(), level, report, retry)
    })
}

/// Has a role reached, and gives what was written meanwhile.
async fn went(scene: &mut Scene, active: bool) -> String {
    scene.touch("diary");
    scene.want(active);
    scene.reached(active).await;
    scene.diary()
}

const UP: &str = "start one; start two; start three";
const DOWN: &str = "stop three; stop two; stop one";

#[tokio::test]
async fn they_are_started_in_order_and_stopped_in_the_opposite_one() {
    let mut scene = begin(false, NEVER, &[]);
    let report = scene.reached(false).await;
    assert_eq!(scene.diary(), DOWN, "a crash may have left them running");
    assert_eq!((report.state.as_str(), &report.failure), ("all are stopped", &None));
    assert_eq!(went(&mut scene, true).await, UP);
    assert_eq!(scene.report().state, "all run");
    assert_eq!(went(&mut scene, false).await, DOWN);
    assert_eq!(went(&mut scene, true).await, UP);
}

#[tokio::test]
async fn a_group_that_is_active_already_begins_with_starts() {
    let mut scene = begin(true, NEVER, &["start-two-waits"]);
    scene.wrote("start two").await;
    scene.want(false);
    scene.remove("start-two-waits");
    scene.reached(false).await;
    assert_eq!(
        scene.diary(),
        format!("start one; start two; {DOWN}"),
        "what a predecessor left is stopped, too"
    );
}

#[tokio::test]
async fn a_start_that_fails_is_tried_again_and_the_later_ones_wait() {
    let mut scene = begin(true, Duration::from_millis(10), &["start-two-fails"]);
    let report = scene.has_failed(3).await;
    assert_eq!((report.state.as_str(), report.reached), ("starting two (2 of 3)", None));
    assert_eq!(report.failure.as_deref(), Some("/bin/sh: exit status: 1"));
    assert!(scene.diary().starts_with("start one; start two; start two") && !scene.diary().contains("three"));
    scene.remove("start-two-fails");
    let report = scene.reached(true).await;
    assert!(scene.diary().ends_with("start two; start three"), "{}", scene.diary());
    assert_eq!((report.tries, report.failure), (0, None));
}

#[tokio::test]
async fn one_that_did_not_start_properly_is_stopped_too_and_later_ones_are_not() {
    let mut scene = begin(false, NEVER, &["start-two-fails"]);
    scene.reached(false).await;
    scene.touch("diary");
    scene.want(true);
    scene.has_failed(1).await;
    scene.want(false);
    scene.reached(false).await;
    assert_eq!(scene.diary(), "start one; start two; stop two; stop one");
}

#[tokio::test]
async fn a_stop_that_fails_is_shown_and_the_others_are_stopped() {
    let mut scene = begin(true, NEVER, &["stop-two-fails", "stop-three-fails"]);
    scene.reached(true).await;
    assert_eq!(went(&mut scene, false).await, DOWN);
    let report = scene.report();
    assert_eq!(
        report.failure.as_deref(),
        Some("not stopped properly: three, two; the last one: /bin/sh: exit status: 1")
    );
    // Nothing of it stays.
    assert_eq!(went(&mut scene, true).await, UP);
    assert_eq!(scene.report().failure, None);
    scene.remove("stop-two-fails");
    scene.remove("stop-three-fails");
    assert_eq!(went(&mut scene, false).await, DOWN);
    assert_eq!(scene.report().failure, None);
}

#[tokio::test]
async fn a_change_of_role_turns_around_from_where_the_group_is() {
    let mut scene = begin(false, NEVER, &["start-two-waits"]);
    scene.reached(false).await;
    scene.touch("diary");
    scene.want(true);
    scene.wrote("start two").await;
    scene.want(false);
    scene.remove("start-two-waits");
    scene.reached(false).await;
    assert_eq!(scene.diary(), "start one; start two; stop two; stop one");

    went(&mut scene, true).await;
    scene.touch("stop-two-waits");
    scene.touch("diary");
    scene.want(false);
    scene.wrote("stop two").await;
    scene.want(true);
    scene.remove("stop-two-waits");
    scene.reached(true).await;
    assert_eq!(scene.diary(), "stop three; stop two; start two; start three");
}

#[tokio::test]
async fn a_start_that_hangs_is_killed_with_its_children_and_tried_again() {
    let place = TempDir::new().unwrap();
    let script = format!("cd {}; echo start >> diary; sleep 60 & wait", place.path().display());
    let start = ["/bin/sh", "-c", &script].map(String::from).to_vec();
    let stop = vec!["/bin/true".into()];
    let hangs = Resource { name: "hangs".into(), start, stop, timeout: Duration::from_millis(200) };
    let mut scene = of(place, vec![hangs], true, Duration::from_millis(10));
    let report = scene.has_failed(2).await;
    assert_eq!(report.failure.as_deref(), Some("/bin/sh: it took longer than 200ms and was killed"));
    scene.want(false);
    scene.reached(false).await;
}

#[tokio::test]
async fn without_a_level_to_follow_it_ends_after_the_last_one() {
    let mut scene = begin(true, NEVER, &["start-one-waits"]);
    scene.wrote("start one").await;
    scene.want(false);
    scene.remove("start-one-waits");
    scene.ends().await;
    assert_eq!(scene.diary(), format!("start one; {DOWN}"));
}

#[tokio::test]
async fn no_resources_are_no_work() {
    let mut scene = of(TempDir::new().unwrap(), Vec::new(), false, NEVER);
    scene.reached(false).await;
    scene.want(true);
    scene.reached(true).await;
}
