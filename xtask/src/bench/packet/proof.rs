//! Proof, by what the programs counted, that every packet went the way that its figure is for.

use anyhow::{Result, bail, ensure};
use director::dataplane::Counters;
use director_ebpf::abi::{BackendStats, Reason};

use super::kind::Kind;

/// The share of packets that may go another way than their kind's, where a table is what it is: sets that are full by chance,
/// addresses that meet in the filter. It is shown beside the figure.
const MOST_ASTRAY: f64 = 0.02;
/// The same for a filter that holds ten thousand addresses.
const MOST_FALSE_POSITIVES: f64 = 0.35;

/// What counters say when packets of a kind go their way, and what they may say of a few.
struct Way {
    /// Counted for each packet besides its backend.
    usual: Option<Reason>,
    /// Counted for one that went astray.
    astray: &'static [Reason],
    /// How many may.
    most: f64,
}

fn way(kind: Kind) -> Way {
    use Reason::{
        DropNoFlow, FlowEvictedEmbryonic, FlowOrphanRouted, FlowUnplaced, PassNoService, PassNotOurs,
    };
    let (usual, astray): (Option<Reason>, &[Reason]) = match kind {
        // A flow that found no place, or gave it up, before it was established:
        Kind::Tcp4 | Kind::Tcp6 => (None, &[FlowOrphanRouted]),
        Kind::Udp4 => (None, &[FlowUnplaced, FlowEvictedEmbryonic]),
        Kind::NatIn => (None, &[DropNoFlow]),
        Kind::NatOut => (None, &[PassNoService]),
        // A newcomer whose sets are full by chance:
        Kind::Fresh => (None, &[FlowEvictedEmbryonic]),
        // One that finds a place left:
        Kind::FreshFull => (Some(FlowEvictedEmbryonic), &[]),
        // An address that shares its bit of the filter:
        Kind::NotOurs => (Some(PassNotOurs), &[PassNoService]),
    };
    Way { usual, astray, most: if kind == Kind::NotOurs { MOST_FALSE_POSITIVES } else { MOST_ASTRAY } }
}

/// Fails unless `packets` packets of a kind explain what was counted between; the share that went astray.
pub fn director(kind: Kind, packets: u64, before: &Counters, after: &Counters) -> Result<f64> {
    let way = way(kind);
    let count = |reason: Reason| after.reason(reason) - before.reason(reason);
    for &reason in Reason::ALL {
        let known = way.usual == Some(reason) || way.astray.contains(&reason);
        if !known && count(reason) > 0 {
            bail!("{}: {} of {packets} packets were {}", kind.name(), count(reason), reason.name());
        }
    }
    let counted: u64 = way.astray.iter().copied().map(count).sum();
    let astray = way.usual.map_or(counted, |usual| packets.abs_diff(count(usual)));
    let share = astray as f64 / packets as f64;
    ensure!(share <= way.most, "{}: {share:.3} of the packets went astray", kind.name());
    if kind == Kind::NotOurs {
        ensure!(astray == counted, "{}: {astray} passed for another reason, not {counted}", kind.name());
    }
    let expected = backend(kind, packets, counted);
    let got = difference(before.backends[&0], after.backends[&0]);
    ensure!(got == expected, "{}: counted {got:?}, not {expected:?}", kind.name());
    Ok(share)
}

/// What backends count of so many packets, when so many of them went astray.
fn backend(kind: Kind, packets: u64, astray: u64) -> BackendStats {
    let none = BackendStats::default();
    let client = |packets, new_flows| BackendStats {
        packets_in: packets,
        bytes_in: packets * kind.frame_bytes(),
        new_flows,
        ..none
    };
    let server =
        |packets| BackendStats { packets_out: packets, bytes_out: packets * kind.frame_bytes(), ..none };
    match kind {
        Kind::Tcp4 | Kind::Tcp6 => client(packets, 0),
        Kind::Udp4 => client(packets, astray),
        Kind::NatIn => client(packets - astray, 0),
        Kind::NatOut => server(packets - astray),
        Kind::Fresh | Kind::FreshFull => client(packets, packets),
        Kind::NotOurs => none,
    }
}

/// Fails unless the floor with the LRU table forwarded `packets` packets, all of known flows or all of new ones.
pub fn floor(fresh: bool, packets: u64, before: BackendStats, after: BackendStats) -> Result<()> {
    let counted = difference(before, after);
    let new = if fresh { packets } else { 0 };
    ensure!(
        (counted.packets_in, counted.new_flows) == (packets, new),
        "the LRU floor counted {counted:?} for {packets} packets of {new} new flows"
    );
    Ok(())
}

fn difference(before: BackendStats, after: BackendStats) -> BackendStats {
    BackendStats {
        packets_in: after.packets_in - before.packets_in,
        bytes_in: after.bytes_in - before.bytes_in,
        packets_out: after.packets_out - before.packets_out,
        bytes_out: after.bytes_out - before.bytes_out,
        new_flows: after.new_flows - before.new_flows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(packets_in: u64, reasons: &[(Reason, u64)]) -> Counters {
        let mut counters = Counters { reasons: vec![0; Reason::COUNT], ..Counters::default() };
        let bytes_in = packets_in * Kind::Tcp4.frame_bytes();
        counters.backends = [(0, BackendStats { packets_in, bytes_in, ..BackendStats::default() })].into();
        reasons.iter().for_each(|(reason, n)| counters.reasons[*reason as usize] = *n);
        counters
    }

    #[test]
    fn what_the_counters_do_not_explain_is_an_error() {
        let before = counters(5, &[]);
        let proof = |after| director(Kind::Tcp4, 1000, &before, &after);
        assert_eq!(proof(counters(1005, &[])).unwrap(), 0.0);
        assert_eq!(proof(counters(1005, &[(Reason::FlowOrphanRouted, 10)])).unwrap(), 0.01);
        assert!(proof(counters(1004, &[])).is_err());
        assert!(proof(counters(1005, &[(Reason::FlowOrphanRouted, 500)])).is_err());
        assert!(proof(counters(1005, &[(Reason::DropTtl, 1)])).is_err());
    }
}
