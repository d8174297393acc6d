//! What a running director knows of the others of its cluster.

use super::running::running;
use super::{bad, each_alone};
use crate::api::types::Status;
use crate::doctor::Severity;
use crate::doctor::facts::Facts;
use crate::heartbeat::report::Cluster;
use crate::metrics::example;

/// Three directors that hear each other by two links.
fn three() -> Facts {
    let mut facts = running();
    let mut pair = example::sources(1, 1).status.pair.unwrap();
    let lb2 = &mut pair.cluster.peers[0];
    lb2.same_config = Some(true);
    lb2.links.iter_mut().for_each(|link| link.loss = 0.0);
    let mut lb3 = lb2.clone();
    lb3.name = "lb3".to_owned();
    pair.cluster.peers.push(lb3);
    status(&mut facts).pair = Some(pair);
    facts
}

fn status(facts: &mut Facts) -> &mut Status {
    facts.running.as_mut().unwrap()
}

fn cluster(facts: &mut Facts) -> &mut Cluster {
    &mut status(facts).pair.as_mut().unwrap().cluster
}

#[test]
fn a_cluster_that_lacks_something() {
    use Severity::{Error, Warning};
    each_alone(
        three,
        &[
            (|f| cluster(f).peers[1].alive = false, Warning, "peer", "lb3", "it is not heard"),
            (
                |f| cluster(f).peers.iter_mut().for_each(|peer| peer.alive = false),
                Error,
                "peer",
                "",
                "no other director is alive (lb2, lb3)",
            ),
            (|f| cluster(f).peers[0].hears_us = false, Error, "peer", "lb2", "does not hear this director"),
            (
                |f| cluster(f).peers[0].same_config = Some(false),
                Error,
                "peer",
                "lb2",
                "its configuration is another one",
            ),
            (
                |f| cluster(f).peers[0].links[0].heard = false,
                Warning,
                "link",
                "lb2",
                "it is not heard by the link udp 192.0.2.11:694",
            ),
            (
                |f| cluster(f).peers[1].links[1].loss = 0.07,
                Warning,
                "link",
                "lb3",
                "7 % of its messages by serial /dev/ttyS0 are lost",
            ),
            (
                |f| {
                    let link = &mut cluster(f).links[0];
                    (link.open, link.last_error) = (false, Some("another program uses this".to_owned()));
                },
                Error,
                "link",
                "udp 192.0.2.11:694",
                "another program uses this",
            ),
            (|f| cluster(f).links[1].open = false, Error, "link", "serial /dev/ttyS0", "it cannot be used"),
            (
                |f| cluster(f).links[0].last_error = Some("sending: no route".to_owned()),
                Warning,
                "link",
                "udp 192.0.2.11:694",
                "sending: no route",
            ),
        ],
    );
}

#[test]
fn what_is_said_of_others_and_of_links_is_said_once() {
    let mut facts = three();
    let peer = &mut cluster(&mut facts).peers[1];
    // A dead one is not asked how it hears and is heard.
    (peer.alive, peer.hears_us, peer.same_config, peer.links[0].heard) = (false, false, None, false);
    status(&mut facts).problems = vec!["the director lb3 is not heard".to_owned()];
    assert_eq!(bad(&facts).len(), 1, "{:#?}", bad(&facts));
    let mut facts = three();
    cluster(&mut facts).links[0].last_error = Some("no route".to_owned());
    let problem = "the heartbeat link udp 192.0.2.11:694 has an error: no route";
    status(&mut facts).problems = vec![problem.to_owned()];
    assert_eq!(bad(&facts).len(), 1, "{:#?}", bad(&facts));
    // A little loss is none.
    let mut facts = three();
    cluster(&mut facts).peers[0].links[0].loss = 0.04;
    assert_eq!(bad(&facts), []);
}
