//! What `director top` shows, and what keys and answers change of it. Pure.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::api::types::{Event, RealStatus, ServiceStatus, Status, Weighed, WeightRequest};
use crate::cli::status::{self, serves};

/// How many columns can be sorted by: all.
const COLUMNS: usize = status::HEAD.len();
/// The most events that are kept: more than are seen on a large terminal.
const MOST_EVENTS: usize = 20;

/// What comes from outside.
#[derive(Debug)]
pub(super) enum Input {
    /// Something was typed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// How the director is.
    Status(Box<Status>),
    /// What has happened there since, the newest at the end.
    Events(Vec<Event>),
    /// Why it does not answer.
    Gone(String),
    /// What became of a weight.
    Weighed(Result<Weighed, String>),
    /// The terminal, or whoever started this, wants no more.
    Ended,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Weigh(WeightRequest),
}

/// A row: a service, or one of its real servers, by their place in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) service: usize,
    pub(super) real: Option<usize>,
}

/// What a row is about, whatever its place: the service's name, and the real server's.
type Key = (String, Option<String>);

/// What is asked before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    request: WeightRequest,
}

/// Everything that is on the screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The last that was heard.
    pub(super) status: Option<Status>,
    /// What happened last, the newest at the end.
    pub(super) events: Vec<Event>,
    /// Why nothing newer is.
    pub(super) gone: Option<String>,
    /// The column that rows are sorted by, and whether the other way round; none: as configured.
    pub(super) sort: Option<(usize, bool)>,
    /// In their order.
    pub(super) rows: Vec<Row>,
    /// The row that is chosen.
    pub(super) chosen: usize,
    /// The first row that is seen, and how many are: drawing sets both.
    pub(super) first: usize,
    pub(super) seen: usize,
    /// What is asked.
    pub(super) question: Option<Question>,
    /// What became of the last thing done, and whether it is bad news.
    pub(super) note: Option<(String, bool)>,
}

impl Screen {
    /// Takes something in.
    pub(super) fn take(&mut self, input: Input) -> Option<Effect> {
        match input {
            Input::Key(key) => return self.press(key),
            Input::Resized => {}
            Input::Status(status) => {
                let chosen = self.key();
                // Another process counts its events anew.
                if self.status.as_ref().is_some_and(|known| known.pid != status.pid) {
                    self.events.clear();
                }
                self.status = Some(*status);
                self.gone = None;
                self.arrange(chosen);
            }
            Input::Events(events) => {
                self.events.extend(events);
                self.events.drain(..self.events.len().saturating_sub(MOST_EVENTS));
            }
            Input::Gone(why) => self.gone = Some(why),
            Input::Weighed(Ok(weighed)) => self.note = Some((said(&weighed), false)),
            Input::Weighed(Err(error)) => self.note = Some((error, true)),
            Input::Ended => return Some(Effect::Quit),
        }
        None
    }

    /// The service and the real server of a row.
    pub(super) fn at(&self, row: Row) -> Option<(&ServiceStatus, Option<&RealStatus>)> {
        let service = self.status.as_ref()?.services.get(row.service)?;
        match row.real {
            Some(real) => Some((service, Some(service.reals.get(real)?))),
            None => Some((service, None)),
        }
    }

    fn press(&mut self, key: KeyEvent) -> Option<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Some(Effect::Quit);
        }
        if let Some(question) = self.question.take() {
            match key.code {
                KeyCode::Char('y') => return Some(Effect::Weigh(question.request)),
                KeyCode::Char('n' | 'q') | KeyCode::Esc => {}
                // Any other key is a slip, and answers nothing.
                _ => self.question = Some(question),
            }
            return None;
        }
        self.note = None;
        let page = self.seen.max(2) - 1;
        match key.code {
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.choose(self.chosen.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(self.chosen + 1),
            KeyCode::PageUp => self.choose(self.chosen.saturating_sub(page)),
            KeyCode::PageDown => self.choose(self.chosen + page),
            KeyCode::Home | KeyCode::Char('g') => self.choose(0),
            KeyCode::End | KeyCode::Char('G') => self.choose(usize::MAX),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by(next(self.sort, 1)),
            KeyCode::Left | KeyCode::Char('<') => self.sort_by(next(self.sort, COLUMNS)),
            KeyCode::Char('r') => self.sort_by(self.sort.map(|(column, turned)| (column, !turned))),
            KeyCode::Char('d') => self.ask(true),
            KeyCode::Char('e') => self.ask(false),
            _ => {}
        }
        None
    }

    fn choose(&mut self, row: usize) {
        self.chosen = row.min(self.rows.len().saturating_sub(1));
    }

    fn sort_by(&mut self, sort: Option<(usize, bool)>) {
        let chosen = self.key();
        self.sort = sort;
        self.arrange(chosen);
    }

    /// Whether to drain or enable the real server that is chosen.
    fn ask(&mut self, drain: bool) {
        let row = self.rows.get(self.chosen).copied();
        let found = row.and_then(|row| self.at(row));
        let asked = match found {
            _ if self.gone.is_some() => Err("the director does not answer".to_owned()),
            Some((service, Some(real))) => question(service, real, drain),
            _ => Err("choose a real server first".to_owned()),
        };
        match asked {
            Ok(question) => self.question = Some(question),
            Err(note) => self.note = Some((note, true)),
        }
    }

    fn key(&self) -> Option<Key> {
        let (service, real) = self.at(*self.rows.get(self.chosen)?)?;
        Some((service.name.clone(), real.map(status::name)))
    }

    /// Makes the rows, and chooses the one that was chosen, if it is still there.
    fn arrange(&mut self, chosen: Option<Key>) {
        let services = self.status.as_ref().map_or(&[][..], |status| &status.services);
        self.rows = rows(services, self.sort);
        let place = chosen.and_then(|(service, real)| {
            self.rows.iter().position(|row| {
                let known = &services[row.service];
                known.name == service && row.real.map(|real| status::name(&known.reals[real])) == real
            })
        });
        self.choose(place.unwrap_or(self.chosen));
    }
}

/// What a command would print.
fn said(weighed: &Weighed) -> String {
    let Weighed { service, real, before, weight, .. } = weighed;
    format!("{real} in {service}: weight {weight}, before {before}")
}

fn question(service: &ServiceStatus, real: &RealStatus, drain: bool) -> Result<Question, String> {
    let (name, real_name) = (&service.name, status::name(real));
    let text = match (drain, real.overridden) {
        (true, true) if real.weight == 0 => return Err(format!("{real_name} is drained already")),
        (true, _) => format!(
            "Drain {real_name} in {name}? It gets no new connections; its {} go on. (y/n)",
            real.active + real.inactive
        ),
        (false, false) => return Err(format!("no command has changed the weight of {real_name}")),
        (false, true) => {
            format!("Enable {real_name} in {name} with its weight {}? (y/n)", real.configured_weight)
        }
    };
    let weight = drain.then_some(0);
    Ok(Question { text, request: WeightRequest { service: name.clone(), real: real_name, weight } })
}

/// So many columns further; beside the columns there is the order of the configuration.
fn next(sort: Option<(usize, bool)>, step: usize) -> Option<(usize, bool)> {
    let place = sort.map_or(0, |(column, _)| column + 1);
    ((place + step) % (COLUMNS + 1)).checked_sub(1).map(|column| (column, false))
}

/// Services, each followed by its real servers; both in order.
fn rows(services: &[ServiceStatus], sort: Option<(usize, bool)>) -> Vec<Row> {
    let sorted = |count: usize, compare: &dyn Fn(usize, usize, usize) -> Ordering| {
        let mut order: Vec<usize> = (0..count).collect();
        if let Some((column, turned)) = sort {
            order.sort_by(|&a, &b| {
                let order = compare(column, a, b);
                if turned { order.reverse() } else { order }
            });
        }
        order
    };
    let order = sorted(services.len(), &|column, a, b| by_service(column, &services[a], &services[b]));
    let mut rows = Vec::new();
    for service in order {
        rows.push(Row { service, real: None });
        let reals = &services[service].reals;
        let order = sorted(reals.len(), &|column, a, b| by_real(column, &reals[a], &reals[b]));
        rows.extend(order.into_iter().map(|real| Row { service, real: Some(real) }));
    }
    rows
}

/// Names from A to Z, numbers from the largest, troubles first.
fn by_service(column: usize, a: &ServiceStatus, b: &ServiceStatus) -> Ordering {
    let weight =
        |service: &ServiceStatus| -> u64 { service.reals.iter().map(|real| u64::from(real.weight)).sum() };
    let well = |service: &ServiceStatus| {
        (status::service_state(service).is_empty(), service.reals.iter().filter(|real| !well(real)).count())
    };
    match column {
        0 => a.name.cmp(&b.name),
        1 => weight(b).cmp(&weight(a)),
        2 => b.active.cmp(&a.active),
        3 => b.inactive.cmp(&a.inactive),
        4..8 => rate(column, &b.rates).total_cmp(&rate(column, &a.rates)),
        _ => {
            let ((a, a_bad), (b, b_bad)) = (well(a), well(b));
            a.cmp(&b).then(b_bad.cmp(&a_bad))
        }
    }
}

fn by_real(column: usize, a: &RealStatus, b: &RealStatus) -> Ordering {
    match column {
        0 => (a.address, a.port).cmp(&(b.address, b.port)),
        1 => b.weight.cmp(&a.weight),
        2 => b.active.cmp(&a.active),
        3 => b.inactive.cmp(&a.inactive),
        4..8 => rate(column, &b.rates).total_cmp(&rate(column, &a.rates)),
        _ => well(a).cmp(&well(b)),
    }
}

fn rate(column: usize, rates: &crate::api::types::Rates) -> f64 {
    match column {
        4 => rates.packets_in,
        5 => rates.bits_in,
        6 => rates.bits_out,
        _ => rates.new_flows,
    }
}

/// Whether a real server takes new connections.
pub(super) fn well(real: &RealStatus) -> bool {
    serves(real) && real.reachable && real.id.is_some() && real.weight > 0
}
