//! A service's checks and what follows from them: drafts → [`HealthPolicy`].

use std::net::IpAddr;
use std::time::Duration;

use healthcheck::{Check, Limits};

use crate::model::{Assume, CheckPlan, Fallback, Forward, HealthPolicy, OnDown, Via};

use super::check::CheckDraft;
use super::draft::{Draft, RealDraft};
use super::net::PortSpec;
use super::reader::{Complaint, Given, Reader};
use super::resolve::settled;

/// What neither a check nor `defaults` gives.
const INTERVAL: Duration = Duration::from_secs(2);
const FAST: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { rise: 2, fall: 3 };

/// The service, as far as it is known.
pub(super) struct Around<'s> {
    pub(super) label: &'s str,
    pub(super) address: Option<IpAddr>,
    pub(super) forward: Option<Forward>,
    pub(super) ports: Option<&'s PortSpec>,
}

/// The policy; `None` where something in it is wrong.
pub(super) fn policy(
    reader: &mut Reader,
    draft: &Draft,
    defaults: &Draft,
    around: &Around,
) -> Option<HealthPolicy> {
    let otherwise = HealthPolicy::default();
    let checks = checks(reader, draft, defaults, around);
    let fallback = fallback(reader, draft, defaults, around);
    let on_down = on_down(draft)?.or(on_down(defaults)?).unwrap_or(otherwise.on_down);
    let panic_threshold = draft.panic_threshold.or(&defaults.panic_threshold).optional()?;
    Some(HealthPolicy {
        checks: checks?,
        on_down,
        quorum: settled(&draft.quorum, &defaults.quorum, otherwise.quorum)?,
        hysteresis: settled(&draft.hysteresis, &defaults.hysteresis, otherwise.hysteresis)?,
        slow_start: settled(&draft.slow_start, &defaults.slow_start, otherwise.slow_start)?,
        panic_threshold: panic_threshold.copied(),
        fallback: fallback?,
    })
}

/// `on_down`, or what `quiescent` says of it, ldirectord's word: a quiescent real server has weight 0, and keeps its connections.
/// Nothing where it is wrong; `Some(None)` where neither is given.
fn on_down(draft: &Draft) -> Option<Option<OnDown>> {
    let quiescent = draft.quiescent.optional()?;
    let quiescent = quiescent.map(|quiescent| if *quiescent { OnDown::Keep } else { OnDown::Reset });
    Some(draft.on_down.optional()?.copied().or(quiescent))
}

fn checks(reader: &mut Reader, draft: &Draft, defaults: &Draft, around: &Around) -> Option<Vec<CheckPlan>> {
    let base = match &defaults.checks {
        Given::Wrong => return None,
        Given::Absent => None,
        Given::Right { value, place } => match value.as_slice() {
            [one] => Some(one),
            _ => {
                let complaint = Complaint::new("`check` in `defaults` must be one mapping");
                reader.error(*place, complaint.hint("list several checks in the service itself"));
                return None;
            }
        },
    };
    let own = match &draft.checks {
        Given::Wrong => return None,
        Given::Right { value, .. } => value.iter().collect(),
        // `defaults` may just say how often; without a type it is no check.
        Given::Absent => base.filter(|base| !base.check.is_absent()).into_iter().collect::<Vec<_>>(),
    };
    let plans: Vec<Option<CheckPlan>> = own.iter().map(|check| plan(reader, check, base, around)).collect();
    plans.into_iter().collect()
}

fn plan(
    reader: &mut Reader,
    draft: &CheckDraft,
    base: Option<&CheckDraft>,
    around: &Around,
) -> Option<CheckPlan> {
    fn of<'d, T>(
        draft: &'d CheckDraft,
        base: Option<&'d CheckDraft>,
        get: fn(&CheckDraft) -> &Given<T>,
    ) -> &'d Given<T> {
        base.map_or(get(draft), |base| get(draft).or(get(base)))
    }
    let check = of(draft, base, |draft| &draft.check);
    if check.is_absent() {
        let complaint = Complaint::new(format!("the check of {} needs a `type`", around.label));
        reader.error(draft.place, complaint.hint("write type: http, or tcp, or ping"));
    }
    let interval = settled(of(draft, base, |draft| &draft.interval), &Given::Absent, INTERVAL)?;
    let fast_interval =
        settled(of(draft, base, |draft| &draft.fast_interval), &Given::Absent, interval.min(FAST))?;
    let timeout = settled(of(draft, base, |draft| &draft.timeout), &Given::Absent, TIMEOUT)?;
    let limits = Limits {
        rise: settled(of(draft, base, |draft| &draft.rise), &Given::Absent, LIMITS.rise)?,
        fall: settled(of(draft, base, |draft| &draft.fall), &Given::Absent, LIMITS.fall)?,
    };
    let assume = settled(of(draft, base, |draft| &draft.assume), &Given::Absent, Assume::Down)?;
    if fast_interval > interval {
        let complaint =
            Complaint::new(format!("`fast_interval` ({fast_interval:?}) is above `interval` ({interval:?})"));
        reader.error(
            draft.place,
            complaint.hint("it is for the time while a verdict is changing: make it the shorter one"),
        );
        return None;
    }
    let check = check.right()?.clone();
    let via = of(draft, base, |draft| &draft.via);
    let through = around.forward? == Forward::Direct && goes_by_network(&check);
    // From `defaults` it is for those that it fits.
    if draft.via.right() == Some(&Via::Vip) && around.forward? != Forward::Direct {
        let place = via.place().unwrap_or(draft.place);
        let complaint =
            Complaint::new(format!("{} forwards by nat: its real servers do not hold the VIP", around.label));
        reader.error(place, complaint.hint("write via: real"));
        return None;
    }
    let via = settled(via, &Given::Absent, if through { Via::Vip } else { Via::Real })?;
    let port = of(draft, base, |draft| &draft.port).optional()?.copied();
    let portless = matches!(around.ports?, PortSpec::Any) && port.is_none() && needs_port(&check);
    if portless {
        let complaint =
            Complaint::new(format!("{} takes any port, so its check needs a `port`", around.label));
        reader.error(draft.place, complaint.hint("write port: 80"));
        return None;
    }
    Some(CheckPlan {
        check,
        port,
        via: if through { via } else { Via::Real },
        interval,
        fast_interval,
        timeout,
        limits,
        assume,
    })
}

/// Whether the check's packets go to the real server by sockets of ours.
fn goes_by_network(check: &Check) -> bool {
    !matches!(check, Check::On | Check::Off | Check::File(_) | Check::External(_))
}

fn needs_port(check: &Check) -> bool {
    goes_by_network(check) && !matches!(check, Check::Ping)
}

fn fallback(
    reader: &mut Reader,
    draft: &Draft,
    defaults: &Draft,
    around: &Around,
) -> Option<Option<Fallback>> {
    let given = draft.fallback.or(&defaults.fallback);
    let place = given.place().unwrap_or(draft.place);
    let fallback = settled(given, &Given::Absent, None)?;
    let Some(Fallback::Real { address, port }) = fallback else { return Some(fallback) };
    let vip = around.address?;
    if vip.is_ipv4() != address.is_ipv4() {
        let complaint = Complaint::new(format!(
            "the fallback {address} cannot serve {}: the families differ",
            around.label
        ));
        reader.error(place, complaint.hint(format!("the VIP is {vip}")));
        return None;
    }
    let single = around.ports?.single();
    if port.is_some() && port != single && (around.forward? == Forward::Direct || single.is_none()) {
        let complaint =
            Complaint::new(format!("the fallback of {} cannot have a port of its own", around.label));
        reader.error(place, complaint.hint("that needs `forward: nat` and a service of one port"));
        return None;
    }
    let reals = draft.reals.or(&defaults.reals).right().map_or(&[][..], Vec::as_slice);
    let is_real = |real: &RealDraft| {
        real.addresses.right().is_some_and(|range| range.addresses().any(|one| one == address))
    };
    if reals.iter().any(is_real) {
        let complaint =
            Complaint::new(format!("the fallback {address} is one of the real servers of {}", around.label));
        reader.error(place, complaint.hint("name another server, or `local`"));
        return None;
    }
    Some(Some(Fallback::Real { address, port: port.filter(|port| Some(*port) != single) }))
}
