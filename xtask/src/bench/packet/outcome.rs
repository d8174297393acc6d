//! What came out: the table, the aims, the JSON.

use serde_json::{Map, Value, json};

use super::harness::Floor;
use super::kind::Kind;
use super::{Combination, Contender, Effort, Turns};
use crate::bench::report::{Aim, Series, Table, machine};

/// All lines.
pub struct Outcome {
    effort: Effort,
    quick: bool,
    lines: Vec<Line>,
}

struct Line {
    combination: Combination,
    turns: Turns,
    astray: f64,
}

const PASS: Contender = Contender::Floor(Floor::Pass);
const LRU: Contender = Contender::Floor(Floor::Lru);

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Floor(Floor::Pass) => "pass",
            Contender::Floor(Floor::Swap) => "swap_macs",
            Contender::Floor(Floor::Look) => "lru_lookup_and_swap",
            Contender::Floor(Floor::Lru) => "lru",
            Contender::Director => "director",
            Contender::BarePass => "bare_pass",
            Contender::BareDirector => "bare_director",
        }
    }
}

impl Line {
    fn median(&self, who: Contender) -> f64 {
        self.turns.get(&who).map_or(f64::NAN, Series::median)
    }

    fn net(&self, who: Contender) -> f64 {
        self.median(who) - self.median(PASS)
    }

    fn ratio(&self, to: Contender) -> f64 {
        self.median(Contender::Director) / self.median(to)
    }

    fn row(&self) -> Vec<String> {
        let ns = |who| number(self.median(who), 1);
        let spread = self
            .turns
            .get(&Contender::Director)
            .map_or_else(String::new, |series| format!("{:.0}..{:.0}", series.min(), series.max()));
        let Combination { kind, services, flows } = self.combination;
        vec![
            kind.name().into(),
            services.to_string(),
            if kind.has_flows() { flows.to_string() } else { "–".into() },
            ns(PASS),
            ns(Contender::Floor(Floor::Swap)),
            ns(Contender::Floor(Floor::Look)),
            ns(LRU),
            ns(Contender::Director),
            spread,
            number(self.net(Contender::Director), 1),
            number(self.ratio(LRU), 2),
            number(self.net(Contender::Director) / self.net(LRU), 2),
            if self.astray > 0.0 { format!("{:.2} %", self.astray * 100.0) } else { "–".into() },
        ]
    }

    fn json(&self) -> Value {
        let Combination { kind, services, flows } = self.combination;
        let turns: Map<String, Value> =
            self.turns.iter().map(|(who, series)| (who.name().to_owned(), series.json())).collect();
        json!({
            "kind": kind.key(), "services": services, "flows": kind.has_flows().then_some(flows),
            "nanoseconds": turns, "net": self.net(Contender::Director), "astray": self.astray,
            "ratio_to_lru": finite(self.ratio(LRU)), "ratio_to_pass": finite(self.ratio(PASS)),
        })
    }
}

impl Outcome {
    /// Nothing yet.
    pub fn new(effort: Effort, quick: bool) -> Outcome {
        Outcome { effort, quick, lines: Vec::new() }
    }

    /// Adds a line, and says so.
    pub fn add(&mut self, combination: Combination, turns: Turns, astray: f64) {
        let line = Line { combination, turns, astray };
        let Combination { kind, services, flows } = combination;
        println!(
            "{}, {services} services, {flows} flows: {:.1} ns",
            kind.name(),
            line.median(Contender::Director)
        );
        self.lines.push(line);
    }

    /// The tables.
    pub fn print(&self) {
        let mut table = Table::new(&[
            "packet",
            "services",
            "flows",
            "pass",
            "swap",
            "look+swap",
            "LRU",
            "director",
            "min..max",
            "net",
            "/LRU",
            "net/LRU net",
            "astray",
        ]);
        self.lines.iter().for_each(|line| table.row(line.row()));
        println!(
            "\nNanoseconds a packet, medians of {} rounds, harness included (`pass` is the harness\n\
                  with a program that only passes; `net` is less that):\n\n{table}",
            self.effort.rounds
        );
        for line in self.lines.iter().filter(|line| line.combination.kind == Kind::NotOurs) {
            let (pass, ours) = (line.median(Contender::BarePass), line.median(Contender::BareDirector));
            println!(
                "not ours, {} services, without the harness: pass {pass:.1}, director {ours:.1}",
                line.combination.services
            );
        }
        if self.quick {
            println!("\nThese few packets show that it works; the figures mean nothing.");
            return;
        }
        println!("\nAims, as ratios of whole packets:\n");
        self.aims().iter().for_each(|aim| println!("{}", aim.line()));
    }

    /// What the project aims at, where this run measured it.
    fn aims(&self) -> Vec<Aim> {
        let mut aims = Vec::new();
        let line = |kind, flows| {
            self.lines.iter().find(|line| {
                let of = line.combination;
                of.kind == kind && of.services == 1 && (!kind.has_flows() || of.flows == flows)
            })
        };
        let mut aim = |what: &str, at_most, reached: Option<f64>| {
            if let Some(reached) = reached {
                aims.push(Aim { what: what.into(), at_most, reached });
            }
        };
        let lru = |line: &Line| line.ratio(LRU);
        aim("established TCPv4, one flow, to the LRU floor", 0.85, line(Kind::Tcp4, 1).map(lru));
        aim("established TCPv4, 65,536 flows, to the LRU floor", 0.5, line(Kind::Tcp4, 1 << 16).map(lru));
        aim("new flow into a full table, to the LRU's insert", 0.35, line(Kind::FreshFull, 0).map(lru));
        for (kind, what) in [(Kind::NatIn, "nat to the real server"), (Kind::NatOut, "nat to the client")] {
            for flows in [1, 1 << 16] {
                // Measured at other times: each against the harness's own pace then.
                let ratio = line(kind, flows)
                    .zip(line(Kind::Tcp4, flows))
                    .map(|(nat, direct)| nat.ratio(PASS) / direct.ratio(PASS));
                aim(&format!("{what}, to direct, {flows} flows"), 1.5, ratio);
            }
        }
        aim("not ours, to a bare pass", 2.2, line(Kind::NotOurs, 0).map(|line| line.ratio(PASS)));
        let bare = |line: &Line| line.median(Contender::BareDirector) / line.median(Contender::BarePass);
        aim("not ours, to a bare pass, both without the harness", 2.2, line(Kind::NotOurs, 0).map(bare));
        aims
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let Effort { rounds, packets, capacity } = self.effort;
        json!({
            "bench": "packet", "machine": machine(), "quick": self.quick, "unit": "nanoseconds a packet, harness included",
            "rounds": rounds, "packets": packets, "capacity": capacity,
            "lines": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "aims": if self.quick { Vec::new() } else { self.aims().iter().map(Aim::json).collect() },
        })
    }
}

fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".into() } else { format!("{value:.digits$}") }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
