//! What a running director knows besides.

use super::{bad, each_alone, well};
use crate::doctor::facts::{Facts, Xdp};
use crate::doctor::{Finding, Severity, examine};
use crate::metrics::example;

/// The machine with its small farm, and a director that runs, alone, without a problem.
pub(super) fn running() -> Facts {
    let mut facts = well();
    (facts.links[0].xdp, facts.links[0].pinned) = (Some(Xdp::Native), true);
    (facts.system.of_director, facts.system.has_tables) = (true, true);
    let mut status = example::sources(1, 1).status;
    status.config = facts.file.display().to_string();
    status.problems.clear();
    status.pair = None;
    facts.running = Some(status);
    facts
}

/// What is said of the director itself.
fn of_director(facts: &Facts) -> Vec<Finding> {
    examine(facts).into_iter().filter(|finding| finding.topic == "director").collect()
}

#[test]
fn a_director_that_runs_is_asked_what_is_wrong() {
    use Severity::{Error, Warning};
    each_alone(
        running,
        &[
            (
                |f| f.links[0].xdp = None,
                Error,
                "xdp",
                "eth0",
                "the director runs, but its program is not attached",
            ),
            (
                |f| f.running.iter_mut().for_each(|status| status.problems.push("NO ROOM".to_owned())),
                Warning,
                "director",
                "",
                "NO ROOM",
            ),
        ],
    );
    let [Finding { severity: Severity::Ok, message, .. }] = &of_director(&running())[..] else {
        panic!("{:#?}", of_director(&running()))
    };
    assert_eq!(message, "it runs, and names no problems");
    // Where it did not start yet, that nothing is attached is no fault.
    let mut facts = running();
    (facts.running, facts.links[0].xdp) = (None, None);
    assert_eq!(bad(&facts), []);
    // It says so of its own interfaces, though it was told of other pins.
    let mut facts = running();
    facts.links[0].pinned = false;
    assert_eq!(bad(&facts), []);
}

#[test]
fn a_director_that_runs_by_another_file_is_said_to() {
    let mut facts = running();
    facts.running.as_mut().unwrap().config = "/etc/other.yaml".to_owned();
    let [Finding { severity: Severity::Note, message, help, .. }] = &of_director(&facts)[..] else {
        panic!("{:#?}", of_director(&facts))
    };
    assert_eq!(message, "it runs by /etc/other.yaml, not by director.yaml");
    assert_eq!(help.as_deref(), Some("director doctor --config /etc/other.yaml"));
}

#[test]
fn where_none_runs_it_is_said_why() {
    let mut facts = well();
    facts.silent = Some("no director answers".to_owned());
    let [Finding { severity: Severity::Note, message, .. }] = &of_director(&facts)[..] else {
        panic!("{:#?}", of_director(&facts))
    };
    assert!(message.starts_with("no director answers. What only a running one knows"), "{message}");
}
