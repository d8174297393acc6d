//! The cluster's part of `director status`.

use super::text::{seconds, table};
use crate::api::types::PairStatus;
use crate::heartbeat::report::{Cluster, GroupReport, PeerReport};

/// The cluster for people.
pub(super) fn render(pair: &PairStatus) -> String {
    let cluster = &pair.cluster;
    let mut text = format!("cluster     this is {}{}\n", cluster.me, remarks(cluster));
    let refused: Vec<String> =
        cluster.refused.iter().map(|(reason, count)| format!("{count} {}", refusal(reason))).collect();
    if !refused.is_empty() {
        text.push_str(&format!("not trusted {}\n", refused.join(", ")));
    }
    for link in &cluster.links {
        for (count, what) in [(link.strangers, "from addresses of no director"), (link.garbled, "garbled")] {
            if count > 0 {
                text.push_str(&format!("not trusted {count} {what}, by {}\n", link.name));
            }
        }
    }
    text.push('\n');
    let head = ["GROUP", "HOLDER", "HERE", "FOR", "TERM", "WHY"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = cluster.groups.iter().map(group).collect();
    text.push_str(&table(&[vec![head], rows].concat(), &[1, 2, 5]));
    text.push('\n');
    let head = ["DIRECTOR", "STATE", "LINK", "LOSS", "DELAY", "JITTER", ""].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = cluster.peers.iter().flat_map(|one| peer(one, cluster)).collect();
    text.push_str(&table(&[vec![head], rows].concat(), &[1, 2, 6]));
    if !pair.means.is_empty() {
        text.push('\n');
        let head = ["GROUP", "FOLLOWS", "STATE"].map(str::to_owned).to_vec();
        let rows = pair.means.iter().map(|means| {
            let failure = means.failure.as_ref().map_or(String::new(), |failure| format!(": {failure}"));
            vec![means.group.clone(), means.what.clone(), format!("{}{failure}", means.state)]
        });
        text.push_str(&table(&[vec![head], rows.collect()].concat(), &[1, 2]));
    }
    text.push('\n');
    text
}

fn remarks(cluster: &Cluster) -> String {
    let (seen, all) = cluster.witnesses;
    let mut remarks = String::new();
    if all > 0 {
        remarks.push_str(&format!(", reaches {seen} of {all} witnesses"));
    }
    if cluster.held {
        remarks.push_str(", HELD by an operator (`director hold --off` ends that)");
    }
    if cluster.listening {
        remarks.push_str(", listens before it takes anything");
    }
    remarks
}

fn group(group: &GroupReport) -> Vec<String> {
    let unable = group.unable.as_ref().map(|why| format!("not eligible: {why}"));
    let why: Vec<String> = group.why.iter().cloned().chain(unable).collect();
    vec![
        group.name.clone(),
        group.owner.clone().unwrap_or_else(|| "NOBODY".to_owned()),
        group.role.clone(),
        seconds(group.since_seconds as u64),
        group.term.to_string(),
        why.join("; "),
    ]
}

fn peer(peer: &PeerReport, cluster: &Cluster) -> Vec<Vec<String>> {
    let since = peer.since_seconds.map_or(String::new(), |since| format!(" for {}", seconds(since as u64)));
    let state = match peer {
        PeerReport { alive: false, since_seconds: None, .. } => "NEVER HEARD".to_owned(),
        PeerReport { alive: false, .. } => format!("DEAD{since}"),
        PeerReport { hears_us: false, .. } => format!("alive{since}, DOES NOT HEAR US"),
        PeerReport { held: true, .. } => format!("alive{since}, held"),
        _ => format!("alive{since}"),
    };
    let config = if peer.same_config == Some(false) { "ITS CONFIGURATION IS ANOTHER ONE" } else { "" };
    let milliseconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3} ms"));
    let links = peer.links.iter().zip(&cluster.links).enumerate();
    links
        .map(|(i, (heard, link))| {
            let first = |text: &str| if i == 0 { text.to_owned() } else { String::new() };
            let silent = match (&link.last_error, heard.heard) {
                (Some(error), _) if !link.open => format!("NOT OPEN: {error}"),
                (_, false) => "SILENT".to_owned(),
                _ => String::new(),
            };
            let remarks: Vec<String> =
                [silent, first(config)].into_iter().filter(|remark| !remark.is_empty()).collect();
            vec![
                first(&peer.name),
                first(&state),
                link.name.clone(),
                format!("{:.0}%", 100.0 * heard.loss),
                milliseconds(heard.delay_milliseconds),
                milliseconds(heard.jitter_milliseconds),
                remarks.join("; "),
            ]
        })
        .collect()
}

/// What a reason to refuse a message says to an operator.
fn refusal(reason: &str) -> &str {
    match reason {
        "garbage" => "of something else than a director",
        "version" => "of another protocol version",
        "key" => "with an unknown or wrong key (compare the key files)",
        "malformed" => "malformed",
        "old-run" => "of a director's earlier run (replayed, or very late)",
        "replayed" => "replayed",
        "unconfirmed" => "of a director that has not shown yet that it hears this one",
        "stranger" => "of a director that is not configured",
        "same-name" => "of another director with this one's name",
        "own" => "of this director's own",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::report::{LinkReport, PeerLinkReport};

    fn cluster() -> Cluster {
        let group = GroupReport {
            name: "blue".into(),
            role: "standby".into(),
            term: 7,
            since_seconds: 185.0,
            why: Some("lb2 has taken it".into()),
            owner: None,
            unable: Some("link eth0 is down".into()),
            directors: Vec::new(),
        };
        let heard = |heard| PeerLinkReport {
            heard,
            received: 9,
            lost: 1,
            loss: 0.1,
            delay_milliseconds: heard.then_some(0.25),
            jitter_milliseconds: None,
        };
        let peer = PeerReport {
            name: "lb2".into(),
            alive: true,
            since_seconds: Some(61.0),
            heard_milliseconds: Some(3.0),
            hears_us: true,
            held: false,
            same_config: Some(false),
            clock_ahead_seconds: Some(-0.25),
            links: vec![heard(true), heard(false)],
        };
        let link = |name: &str| LinkReport {
            name: name.into(),
            open: true,
            sent: 1,
            send_errors: 0,
            strangers: 0,
            garbled: 0,
            last_error: None,
            refused: Vec::new(),
        };
        Cluster {
            me: "lb1".into(),
            witnesses: (1, 2),
            groups: vec![group],
            peers: vec![peer],
            links: vec![link("udp 192.0.2.11:694"), link("serial /dev/ttyS0")],
            refused: vec![("key".into(), 12)],
            ..Cluster::default()
        }
    }

    #[test]
    fn a_cluster_reads_well() {
        let text = render(&PairStatus { cluster: cluster(), taken: Vec::new(), means: Vec::new() });
        for part in [
            "cluster     this is lb1, reaches 1 of 2 witnesses\n",
            "not trusted 12 with an unknown or wrong key",
            "blue   NOBODY  standby  3m05s     7  lb2 has taken it; not eligible: link eth0 is down",
            "lb2       alive for 1m01s  udp 192.0.2.11:694   10%  0.250 ms       -  ITS CONFIGURATION IS ANOTHER ONE",
            "serial /dev/ttyS0    10%         -       -  SILENT",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line));
    }
}
