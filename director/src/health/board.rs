//! What the probes found, real server by real server, and what follows from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use healthcheck::{Failure, Outcome, Probe, State, Verdict};

use super::maintenance::Maintenance;
use super::plan::{Asked, Plan, Subject};
use super::tally::Tally;
use crate::pool::{RealKey, Standing, Standings};

/// Verdicts of all real servers that are watched.
#[derive(Debug, Default)]
pub struct Board {
    entries: BTreeMap<RealKey, Entry>,
    by_probe: HashMap<Arc<Probe>, Vec<(RealKey, usize)>>,
    maintenance: Maintenance,
}

/// A change that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub key: RealKey,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why, in plain words.
    pub reason: String,
}

/// What is to be seen of a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub state: State,
    /// Since when; none before the first verdict.
    pub since: Option<Instant>,
    /// Why it is not up, or what the last check said.
    pub reason: String,
    /// The weight that its checks give it.
    pub weight: Option<u16>,
}

#[derive(Debug)]
struct Entry {
    port: u16,
    checks: Vec<Watched>,
    state: State,
    since: Option<Instant>,
    back: Option<Instant>,
    tally: Tally,
}

#[derive(Debug)]
struct Watched {
    asked: Asked,
    verdict: Verdict,
    /// What the last outcome said.
    said: String,
    weight: Option<u16>,
}

impl Board {
    /// Watches these from now on, and no others. Those that stay keep their verdicts, also where they are asked something else.
    /// `assumed`: what new ones count as until their first verdict; those of whom somebody else asks the same (a service that was
    /// renamed) count as that one does.
    /// Returns the changes that this makes by itself: maintenance is for new ones, too.
    pub fn follow(&mut self, plan: &Plan, assumed: impl Fn(&RealKey) -> State, now: Instant) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.entries);
        let checks = before.values().flat_map(|entry| &entry.checks);
        let known: HashMap<_, _> =
            checks.map(|check| (Arc::clone(&check.asked.probe), check.verdict.state())).collect();
        self.by_probe.clear();
        for subject in &plan.subjects {
            for (i, asked) in subject.checks.iter().enumerate() {
                let who = self.by_probe.entry(Arc::clone(&asked.probe)).or_default();
                who.push((subject.key.clone(), i));
            }
            let entry = match before.remove(&subject.key) {
                Some(entry) => entry.asked_now(subject),
                None => {
                    let same = |asked: &Asked| {
                        known.get(&asked.probe).copied().filter(|state| *state != State::Unknown)
                    };
                    let states: Option<Vec<State>> = subject.checks.iter().map(same).collect();
                    let state = match states {
                        Some(states) if states.contains(&State::Down) => State::Down,
                        // Also where nothing is asked: it is here for maintenance only.
                        Some(_) => State::Up,
                        None => assumed(&subject.key),
                    };
                    Entry::new(subject, state)
                }
            };
            self.entries.insert(subject.key.clone(), entry);
        }
        self.judge_all(now)
    }

    /// Forgets those that have no verdict yet: the next plan has them as new ones.
    pub fn forget_unknown(&mut self) {
        self.entries.retain(|_, entry| entry.state != State::Unknown);
    }

    fn judge_all(&mut self, now: Instant) -> Vec<Change> {
        let entries = self.entries.iter_mut();
        entries.filter_map(|(key, entry)| entry.judge(key, &self.maintenance, now)).collect()
    }

    /// Takes an outcome; the changes that it makes.
    pub fn take(&mut self, probe: &Arc<Probe>, outcome: &Outcome, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, i) in self.by_probe.get(probe).into_iter().flatten() {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            entry.tally.take(outcome);
            let check = &mut entry.checks[*i];
            // What goes wrong on this side says nothing of the real server.
            if let Err(failure @ Failure::Local(_)) = &outcome.result {
                check.said = one_line(&failure.to_string());
                continue;
            }
            check.verdict.take(outcome.result.is_ok(), check.asked.limits);
            match &outcome.result {
                Ok(success) => {
                    check.weight = success.weight;
                    check.said = "passed".into();
                }
                Err(failure) => check.said = one_line(&failure.to_string()),
            }
            changes.extend(entry.judge(key, &self.maintenance, now));
        }
        changes
    }

    /// Takes who is in maintenance; the changes that it makes, at once.
    pub fn maintain(&mut self, maintenance: Maintenance, now: Instant) -> Vec<Change> {
        self.maintenance = maintenance;
        self.judge_all(now)
    }

    /// Whether one of a probe's verdicts is changing, or not known yet.
    pub fn is_changing(&self, probe: &Arc<Probe>) -> bool {
        self.by_probe.get(probe).into_iter().flatten().any(|(key, i)| {
            self.entries.get(key).is_some_and(|entry| {
                let verdict = entry.checks[*i].verdict;
                verdict.is_changing() || verdict.state() == State::Unknown
            })
        })
    }

    /// What the pool has to know.
    pub fn standings(&self) -> Standings {
        let standing = |(key, entry): (&RealKey, &Entry)| {
            let maintenance = self.maintenance.of(key.address, entry.port).is_some();
            let (state, back, weight) = (entry.state, entry.back, entry.weight());
            let failing = entry.checks.iter().any(|check| check.verdict.is_changing());
            let suspect = state == State::Up && failing;
            let standing = Standing { state, back, weight, maintenance, suspect };
            (key.clone(), standing)
        };
        self.entries.iter().map(standing).collect()
    }

    /// What the operator is to see.
    pub fn seen(&self) -> HashMap<RealKey, Seen> {
        let seen = |(key, entry): (&RealKey, &Entry)| {
            let (state, since, weight) = (entry.state, entry.since, entry.weight());
            (key.clone(), Seen { state, since, reason: entry.reason(key, &self.maintenance), weight })
        };
        self.entries.iter().map(seen).collect()
    }

    /// What was counted of each.
    pub fn tallies(&self) -> HashMap<RealKey, Tally> {
        self.entries.iter().map(|(key, entry)| (key.clone(), entry.tally.clone())).collect()
    }

    /// The weights that real servers have by a probe.
    pub fn weights_of(&self, probe: &Arc<Probe>) -> Vec<Option<u16>> {
        let keys = self.by_probe.get(probe).into_iter().flatten();
        keys.filter_map(|(key, _)| self.entries.get(key)).map(Entry::weight).collect()
    }

    /// The probes of a real server.
    pub fn probes(&self, key: &RealKey) -> Vec<Arc<Probe>> {
        let checks = self.entries.get(key).map_or(&[][..], |entry| &entry.checks);
        checks.iter().map(|check| Arc::clone(&check.asked.probe)).collect()
    }
}

impl Watched {
    fn new(asked: &Asked, state: State) -> Watched {
        let said = if state == State::Up { "assumed" } else { "not checked yet" };
        Watched { asked: asked.clone(), verdict: Verdict::new(state), said: said.into(), weight: None }
    }
}

impl Entry {
    fn new(subject: &Subject, state: State) -> Entry {
        let checks = subject.checks.iter().map(|asked| Watched::new(asked, state)).collect();
        Entry { port: port(subject), checks, state, since: None, back: None, tally: Tally::default() }
    }

    /// The same real server, with what it is asked now.
    fn asked_now(mut self, subject: &Subject) -> Entry {
        let mut before = std::mem::take(&mut self.checks);
        let (state, mut checks) = (self.state, Vec::new());
        for asked in &subject.checks {
            let same = before.iter().position(|check| check.asked.probe == asked.probe);
            checks.push(match same {
                Some(i) => Watched { asked: asked.clone(), ..before.swap_remove(i) },
                None => Watched::new(asked, state),
            });
        }
        Entry { port: port(subject), checks, ..self }
    }

    /// Down if one check says so, up if all do.
    fn verdict(&self) -> State {
        let states = || self.checks.iter().map(|check| check.verdict.state());
        if states().any(|state| state == State::Down) {
            State::Down
        } else if states().all(|state| state == State::Up) {
            State::Up
        } else {
            State::Unknown
        }
    }

    fn judge(&mut self, key: &RealKey, maintenance: &Maintenance, now: Instant) -> Option<Change> {
        let maintained = maintenance.of(key.address, self.port).is_some();
        let to = if maintained { State::Down } else { self.verdict() };
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        self.tally.changes += 1;
        self.since = Some(now);
        self.back = (from == State::Down && to == State::Up).then_some(now);
        Some(Change { key: key.clone(), from, to, reason: self.reason(key, maintenance) })
    }

    fn reason(&self, key: &RealKey, maintenance: &Maintenance) -> String {
        if let Some(file) = maintenance.of(key.address, self.port) {
            return format!("in maintenance: file {file}");
        }
        let says = |check: &Watched| match self.checks.len() {
            1 => check.said.clone(),
            _ => format!("{}: {}", check.asked.probe.check.name(), check.said),
        };
        let down =
            self.checks.iter().find(|check| check.verdict.state() == self.state && self.state != State::Up);
        let failing = self.checks.iter().find(|check| check.said != "passed");
        down.or(failing).or(self.checks.first()).map(says).unwrap_or_default()
    }

    /// The least that one of the checks gives.
    fn weight(&self) -> Option<u16> {
        self.checks.iter().filter_map(|check| check.weight).min()
    }
}

/// What a server said goes to logs and terminals: without control characters, and not without end.
fn one_line(text: &str) -> String {
    text.chars().take(300).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn port(subject: &Subject) -> u16 {
    subject.key.port.unwrap_or(subject.port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use healthcheck::schedule::Rhythm;
    use healthcheck::{Check, Limits, Success, Target};

    use super::*;

    fn probe(last: u8) -> Arc<Probe> {
        let real = ([10, 0, 0, last], 80).into();
        let target = Target { real, virtual_: real, mark: 0, source: None };
        Arc::new(Probe { target, check: Check::Ping, timeout: Duration::from_secs(1) })
    }

    fn key(service: &str) -> RealKey {
        RealKey { service: service.into(), address: [10, 0, 0, 1].into(), port: None }
    }

    /// Services of one real server each, by what it is asked.
    fn plan(services: &[(&str, &[u8])]) -> Plan {
        let limits = Limits { rise: 1, fall: 2 };
        let asked = |last: &u8| Asked { probe: probe(*last), limits };
        let subject = |(name, checks): &(&str, &[u8])| Subject {
            key: key(name),
            port: 80,
            checks: checks.iter().map(asked).collect(),
        };
        let rhythm = Rhythm { interval: Duration::from_secs(2), fast: Duration::from_secs(1) };
        let watches = (1..=3).map(|last| (probe(last), rhythm)).collect();
        Plan { subjects: services.iter().map(subject).collect(), watches }
    }

    fn outcome(result: Result<Success, Failure>) -> Outcome {
        Outcome { result, steps: Vec::new(), took: Duration::ZERO }
    }

    fn good() -> Outcome {
        outcome(Ok(Success::default()))
    }

    fn bad() -> Outcome {
        outcome(Err(Failure::Refused))
    }

    fn told(changes: &[Change]) -> Vec<(String, State, State, String)> {
        let one =
            |change: &Change| (change.key.service.clone(), change.from, change.to, change.reason.clone());
        changes.iter().map(one).collect()
    }

    #[test]
    fn all_checks_must_pass_and_each_service_hears_of_the_shared_probe() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.follow(&plan(&[("web", &[1, 2]), ("api", &[1])]), |_| State::Unknown, now);
        let changes = board.take(&probe(1), &good(), now);
        assert_eq!(told(&changes), [("api".into(), State::Unknown, State::Up, "passed".into())]);
        assert_eq!(board.take(&probe(2), &good(), now).len(), 1);
        assert!(board.take(&probe(2), &bad(), now).is_empty(), "one failure of two");
        assert!(board.is_changing(&probe(2)) && !board.is_changing(&probe(1)));
        let tally = &board.tallies()[&key("web")];
        assert_eq!((tally.took.count(), tally.failures["refused"], tally.changes), (3, 1, 1));
        let changes = board.take(&probe(2), &bad(), now);
        assert_eq!(
            told(&changes),
            [("web".into(), State::Up, State::Down, "ping: connection refused".into())]
        );
        assert_eq!(board.standings()[&key("api")].state, State::Up);
        let later = now + Duration::from_secs(5);
        assert_eq!(board.take(&probe(2), &good(), later).len(), 1);
        assert_eq!(board.standings()[&key("web")].back, Some(later), "a slow start counts from here");
    }

    #[test]
    fn a_reload_flips_nothing() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.follow(&plan(&[("web", &[1])]), |_| State::Unknown, now);
        board.take(&probe(1), &good(), now);
        board.follow(&plan(&[("web", &[2]), ("new", &[3])]), |_| State::Unknown, now);
        assert_eq!(board.standings()[&key("web")].state, State::Up, "it is asked something else, and was up");
        assert_eq!(board.standings()[&key("new")].state, State::Unknown);
        assert!(board.take(&probe(2), &bad(), now).is_empty());
        assert_eq!(board.take(&probe(2), &bad(), now).len(), 1);
        board.follow(&plan(&[]), |_| State::Unknown, now);
        assert!(board.take(&probe(2), &good(), now).is_empty() && board.standings().is_empty());
    }

    #[test]
    fn a_fault_on_this_side_says_nothing_of_the_real_server() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.follow(&plan(&[("web", &[1])]), |_| State::Up, now);
        for _ in 0..5 {
            let broken = outcome(Err(Failure::Local("Too many open files".into())));
            assert!(board.take(&probe(1), &broken, now).is_empty());
        }
        assert_eq!(board.seen()[&key("web")].reason, "cannot check: Too many open files");
    }

    #[test]
    fn a_renamed_service_keeps_its_verdicts() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.follow(&plan(&[("web", &[1])]), |_| State::Unknown, now);
        board.take(&probe(1), &good(), now);
        board.follow(&plan(&[("shop", &[1]), ("other", &[2]), ("unasked", &[])]), |_| State::Unknown, now);
        let standings = board.standings();
        let states = ["shop", "other", "unasked"].map(|name| standings[&key(name)].state);
        assert_eq!(states, [State::Up, State::Unknown, State::Up]);
    }

    #[test]
    fn maintenance_takes_out_at_once_and_gives_back() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.follow(&plan(&[("web", &[1])]), |_| State::Up, now);
        let files = |port| Maintenance(BTreeSet::from([([10, 0, 0, 1].into(), Some(port))]));
        assert!(board.maintain(files(443), now).is_empty());
        let changes = board.maintain(files(80), now);
        assert_eq!(changes[0].reason, "in maintenance: file 10.0.0.1:80");
        assert!(board.take(&probe(1), &good(), now).is_empty(), "a success does not undo it");
        assert_eq!(board.maintain(Maintenance::default(), now)[0].to, State::Up);
    }

    #[test]
    fn who_is_new_is_in_maintenance_at_once_and_who_is_not_asked_any_more_is_well() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.maintain(Maintenance(BTreeSet::from([([10, 0, 0, 1].into(), Some(80))])), now);
        board.follow(&plan(&[("web", &[])]), |_| State::Up, now);
        assert_eq!(board.standings()[&key("web")].state, State::Down);
        board.maintain(Maintenance::default(), now);
        board.follow(&plan(&[("web", &[1])]), |_| State::Up, now);
        board.take(&probe(1), &bad(), now);
        board.take(&probe(1), &bad(), now);
        assert_eq!(board.standings()[&key("web")].state, State::Down);
        board.follow(&plan(&[("web", &[])]), |_| State::Up, now);
        assert_eq!(board.standings()[&key("web")].state, State::Up);
    }

    #[test]
    fn checks_give_weights() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.follow(&plan(&[("web", &[1, 2])]), |_| State::Up, now);
        let weighs = |weight| outcome(Ok(Success { weight: Some(weight) }));
        board.take(&probe(1), &weighs(7), now);
        board.take(&probe(2), &weighs(5), now);
        assert_eq!(board.standings()[&key("web")].weight, Some(5));
        board.take(&probe(2), &good(), now);
        assert_eq!(board.standings()[&key("web")].weight, Some(7));
    }
}
