//! `director status`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::text::{bytes, commas, rate, seconds, table};
use super::{Outcome, SocketArg, converse, pair, print};
use crate::api::types::{self, RealStatus, ServiceStatus, Status};

/// Show services, real servers, weights, flows, rates, and what is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director status
  watch director status
  director status --json | jq '.services[] | {name, active}'

Columns: WEIGHT in force (and the configured one, where a command set another); ACTIVE: established connections, INACTIVE:
those that begin or end; each second, over the last ten: packets from clients, bits from and to clients, new connections.
Under direct forwarding real servers answer clients themselves, so that OUT is not seen.")]
pub(super) struct StatusCommand {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl StatusCommand {
    pub(super) fn execute(self) -> Outcome {
        let client = self.socket.client();
        let status: Status = converse(client.get(types::STATUS))?;
        print(&if self.json { serde_json::to_string_pretty(&status)? + "\n" } else { render(&status) })
    }
}

/// The status for people.
fn render(status: &Status) -> String {
    let mut text = format!(
        "director {}, process {}, up {}, {}\n",
        status.version,
        status.pid,
        seconds(status.uptime_seconds),
        status.config
    );
    for problem in &status.problems {
        text.push_str(&format!("PROBLEM: {problem}\n"));
    }
    let interfaces = status.interfaces.iter().map(|i| format!("{} ({})", i.interface, i.mode));
    let vips = status.vips.iter().map(|vip| {
        let missing = match (vip.held, vip.wanted) {
            (true, true) => "",
            (false, true) => " (MISSING)",
            (false, false) => " (standby)",
            (true, false) => " (NOT REMOVED)",
        };
        format!("{}/{} on {}{missing}", vip.address, vip.prefix, vip.interface)
    });
    for (name, list) in [("interfaces", interfaces.collect::<Vec<_>>()), ("VIPs", vips.collect())] {
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        text.push_str(&format!("{name:<11} {list}\n"));
    }
    text.push_str(&format!("flows       {}\n\n", flows(status)));
    if let Some(pair) = &status.pair {
        text.push_str(&pair::render(pair));
    }
    text.push_str(&services(&status.services));
    let reasons: Vec<Vec<String>> = status
        .reasons
        .iter()
        .filter(|reason| reason.count > 0)
        .map(|reason| vec![reason.name.clone(), commas(reason.count), rate(reason.rate)])
        .collect();
    if !reasons.is_empty() {
        let head = ["PASSED, DROPPED, REFUSED", "PACKETS", "PKT/S"].map(str::to_owned).to_vec();
        text.push('\n');
        text.push_str(&table(&[vec![head], reasons].concat(), &[]));
    }
    text
}

fn flows(status: &Status) -> String {
    let flows = &status.flows;
    let mut text = format!("{} established, {} others", commas(flows.established), commas(flows.other));
    for (count, what) in
        [(flows.replies, "replies"), (flows.templates, "persistent clients"), (flows.fragments, "fragments")]
    {
        if count > 0 {
            text.push_str(&format!(", {} {what}", commas(count)));
        }
    }
    let percent = 100.0 * flows.used as f64 / flows.places.max(1) as f64;
    text.push_str(&format!(
        "; made for {}, {percent:.1}% of {} places taken, {}",
        commas(flows.capacity),
        commas(flows.places),
        bytes(flows.bytes)
    ));
    text
}

/// The table's columns.
pub(super) const HEAD: [&str; 9] =
    ["SERVICE / REAL", "WEIGHT", "ACTIVE", "INACTIVE", "PKT/S", "BIT/S IN", "BIT/S OUT", "NEW/S", "STATE"];

fn services(services: &[ServiceStatus]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for one in services {
        rows.push(service(one));
        rows.extend(one.reals.iter().map(real));
    }
    table(&rows, &[8])
}

/// A service's row.
pub(super) fn service(service: &ServiceStatus) -> Vec<String> {
    let rates = &service.rates;
    vec![
        title(service),
        String::new(),
        commas(service.active),
        commas(service.inactive),
        rate(rates.packets_in),
        rate(rates.bits_in),
        rate(rates.bits_out),
        rate(rates.new_flows),
        service_state(service),
    ]
}

fn title(service: &ServiceStatus) -> String {
    let end = match service.address {
        IpAddr::V4(address) => format!("{address}:{}", service.ports),
        IpAddr::V6(address) => format!("[{address}]:{}", service.ports),
    };
    let persistence =
        service.persistence_seconds.map_or(String::new(), |s| format!(" persistence {}", seconds(s)));
    let ServiceStatus { name, protocol, forward, scheduler, .. } = service;
    format!("{name}: {protocol} {end} {forward} {scheduler}{persistence}")
}

pub(super) fn service_state(service: &ServiceStatus) -> String {
    let unserved = service.no_real_dropped + service.no_real_rejected;
    let mut states = Vec::new();
    if service.id.is_none() {
        states.push("NO ROOM".to_owned());
    } else if service.fallback {
        states.push("FALLBACK".to_owned());
    } else if !service
        .reals
        .iter()
        .any(|real| real.reachable && real.weight > 0 && (service.panic || serves(real)))
    {
        states.push("NO REAL SERVER".to_owned());
    }
    if service.panic {
        states.push("PANIC: those that are down serve".to_owned());
    }
    for (count, what) in
        [(unserved, "without a real server"), (service.no_flow, "of no flow"), (service.unplaced, "unplaced")]
    {
        if count > 0 {
            states.push(format!("{} {what}", commas(count)));
        }
    }
    states.join(", ")
}

pub(super) fn serves(real: &RealStatus) -> bool {
    real.health.as_ref().is_none_or(|health| health.state == "up")
}

/// A real server's name, as commands take it.
pub(super) fn name(real: &RealStatus) -> String {
    match real.port {
        Some(port) => SocketAddr::new(real.address, port).to_string(),
        None => real.address.to_string(),
    }
}

/// A real server's row.
pub(super) fn real(real: &RealStatus) -> Vec<String> {
    let weight = if real.overridden {
        format!("{} ({})", real.weight, real.configured_weight)
    } else {
        real.weight.to_string()
    };
    let down = real.health.as_ref().filter(|health| health.state != "up");
    let state = match real {
        _ if down.is_some() => String::new(),
        RealStatus { id: None, .. } => "NO ROOM".to_owned(),
        RealStatus { reachable: false, .. } => "NO MAC".to_owned(),
        RealStatus { weight: 0, overridden: true, .. } => "drained by command".to_owned(),
        RealStatus { weight: 0, .. } => "drained".to_owned(),
        RealStatus { overridden: true, .. } => "weight by command".to_owned(),
        _ => String::new(),
    };
    let state = match down {
        Some(health) => {
            let since =
                health.since_seconds.map_or(String::new(), |since| format!(" for {}", seconds(since)));
            let drained = if real.overridden && real.weight == 0 { "; drained by command" } else { "" };
            format!("{}{since}: {}{drained}", health.state.to_uppercase(), health.reason)
        }
        None => state,
    };
    let rates = &real.rates;
    vec![
        format!("  {}", name(real)),
        weight,
        commas(real.active),
        commas(real.inactive),
        rate(rates.packets_in),
        rate(rates.bits_in),
        rate(rates.bits_out),
        rate(rates.new_flows),
        state,
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::types::{FlowTableStatus, Rates, ReasonStatus, Traffic, VipStatus};
    use crate::dataplane::{Attachment, Mode};
    use crate::model::{Forward, Protocol, Scheduler};

    fn real(last: u8, weight: u16) -> RealStatus {
        RealStatus {
            address: IpAddr::from([10, 0, 0, last]),
            port: None,
            configured_weight: 5,
            weight,
            overridden: weight != 5,
            health: None,
            reachable: true,
            mac: None,
            id: Some(1),
            active: 1_234,
            inactive: 5,
            traffic: Traffic::default(),
            rates: Rates { packets_in: 8_100.0, bits_in: 12.5e6, ..Rates::default() },
        }
    }

    /// A director with a service of three real servers.
    pub(in crate::cli) fn status() -> Status {
        let service = ServiceStatus {
            name: "web".into(),
            address: "2001:db8::10".parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: "80,443".into(),
            forward: Forward::Direct,
            scheduler: Scheduler::Mh,
            persistence_seconds: Some(600),
            id: Some(1),
            reals: vec![real(1, 5), real(2, 0), RealStatus { reachable: false, ..real(3, 5) }],
            active: 3_702,
            inactive: 15,
            traffic: Traffic::default(),
            rates: Rates::default(),
            fallback: false,
            panic: false,
            no_real_dropped: 0,
            no_real_rejected: 0,
            no_flow: 2,
            unplaced: 0,
        };
        let reason = |name: &str, count| ReasonStatus { name: name.into(), count, rate: 0.0 };
        Status {
            version: "1.2.3".into(),
            pid: 42,
            uptime_seconds: 3_700,
            config: "/etc/director/director.yaml".into(),
            interfaces: vec![Attachment {
                interface: "eth0".into(),
                ifindex: 2,
                mode: Mode::Generic,
                replaced: false,
                program: 17,
                tag: "6b5a0c1d2e3f4051".into(),
            }],
            vips: vec![VipStatus {
                address: "2001:db8::10".parse().unwrap(),
                prefix: 64,
                interface: "eth0".into(),
                held: false,
                wanted: true,
            }],
            services: vec![service],
            flows: FlowTableStatus {
                places: 2_000,
                used: 100,
                capacity: 1_000,
                ..FlowTableStatus::default()
            },
            reasons: vec![reason("drop_ttl", 1_000), reason("drop_no_real", 0)],
            pair: None,
            problems: vec!["VIP 2001:db8::10: no".into()],
        }
    }

    #[test]
    fn a_status_reads_well() {
        let text = render(&status());
        for part in [
            "director 1.2.3, process 42, up 1h01m, /etc/director/director.yaml\n",
            "PROBLEM: VIP 2001:db8::10: no\n",
            "eth0 (generic)",
            "2001:db8::10/64 on eth0 (MISSING)",
            "made for 1,000, 5.0% of 2,000 places taken",
            "web: tcp [2001:db8::10]:80,443 direct mh persistence 10m00s",
            "2 of no flow",
            "drained by command",
            "0 (5)   1,234         5   8.1k       12M",
            "NO MAC",
            "drop_ttl",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains("drop_no_real"), "what never happened is left out");
        assert!(text.lines().all(|line| line.trim_end() == line));
    }
}
