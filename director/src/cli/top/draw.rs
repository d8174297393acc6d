//! How `director top` looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::state::{Screen, well};
use crate::api::types::{PairStatus, RealStatus, ServiceStatus, Status};
use crate::cli::events;
use crate::cli::status::{self, HEAD};
use crate::cli::text::{commas, seconds};

/// The most problems that are shown; the rest is counted.
const PROBLEMS: usize = 3;
/// The share of a terminal's lines that events get, one of so many; and what other things get before.
const EVENTS: u16 = 5;
const NO_EVENTS: u16 = 16;
/// What numbers take: `1,048,576`, `5 (10)`, `BIT/S OUT`.
const NUMBER: u16 = 9;
const HELP: &str = "q quit  ↑↓ choose  < > sort by  r reverse  d drain  e enable";

const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const WARN: Style = Style::new().fg(Color::Yellow);
const GOOD: Style = Style::new().fg(Color::Green);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame, screen: &mut Screen) {
    let top = head(screen);
    let heights = [
        Constraint::Length(u16::try_from(top.len()).unwrap_or(u16::MAX)),
        Constraint::Min(3),
        Constraint::Length(happened(screen, frame.area().height)),
        Constraint::Length(1),
        Constraint::Length(1),
    ];
    let [above, middle, below, said, help] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Paragraph::new(top), above);
    table(frame, middle, screen);
    let last = screen.events.iter().skip(screen.events.len().saturating_sub(usize::from(below.height)));
    let last: Vec<Line> = last.map(|event| Line::styled(events::line(event), FAINT)).collect();
    frame.render_widget(Paragraph::new(last), below);
    let line = match (&screen.question, &screen.note) {
        (Some(question), _) => Line::styled(question.text.clone(), BOLD.add_modifier(Modifier::REVERSED)),
        (None, Some((note, bad))) => Line::styled(one_line(note), if *bad { BAD } else { GOOD }),
        (None, None) => Line::default(),
    };
    frame.render_widget(line, said);
    frame.render_widget(Line::styled(HELP, FAINT), help);
}

/// How many of the last events there is room for.
fn happened(screen: &Screen, height: u16) -> u16 {
    let room = (height / EVENTS).min(height.saturating_sub(NO_EVENTS));
    room.min(u16::try_from(screen.events.len()).unwrap_or(u16::MAX))
}

/// What stands above the table.
fn head(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(why) = &screen.gone {
        lines.push(Line::styled(format!("GONE: {}", one_line(why)), BAD));
    }
    let Some(status) = &screen.status else {
        if lines.is_empty() {
            lines.push(Line::from("director: asking"));
        }
        return lines;
    };
    lines.push(summary(status, screen.gone.is_some()));
    if let Some(pair) = &status.pair {
        lines.extend([groups(pair), peers(pair)]);
    }
    for problem in status.problems.iter().take(PROBLEMS) {
        lines.push(Line::styled(format!("PROBLEM: {problem}"), BAD));
    }
    if let Some(more) = status.problems.len().checked_sub(PROBLEMS + 1) {
        lines.push(Line::styled(format!("and {} more problems: `director status`", more + 1), BAD));
    }
    lines
}

fn summary(status: &Status, old: bool) -> Line<'static> {
    let flows = &status.flows;
    let percent = 100.0 * flows.used as f64 / flows.places.max(1) as f64;
    let text = format!(
        "director {}, up {}; {} established, {} others, table {percent:.1}% full",
        status.version,
        seconds(status.uptime_seconds),
        commas(flows.established),
        commas(flows.other)
    );
    if old { Line::styled(format!("as it was: {text}"), FAINT) } else { Line::styled(text, BOLD) }
}

/// Who holds which group.
fn groups(pair: &PairStatus) -> Line<'static> {
    let cluster = &pair.cluster;
    let mut spans = vec![Span::raw(format!("this is {}", cluster.me))];
    if cluster.held {
        spans.push(Span::styled(" HELD", WARN));
    }
    if cluster.listening {
        spans.push(Span::styled(" listens", WARN));
    }
    for group in &cluster.groups {
        spans.push(Span::raw(format!("; {}: ", group.name)));
        spans.push(match &group.owner {
            Some(owner) => Span::styled(owner.clone(), GOOD),
            None => Span::styled("NOBODY", BAD),
        });
        spans.push(Span::raw(format!(", {} here for {}", group.role, seconds(group.since_seconds as u64))));
        if let Some(why) = &group.why {
            spans.push(Span::styled(format!(" ({why})"), FAINT));
        }
    }
    Line::from(spans)
}

/// How the others are, and the links to them.
fn peers(pair: &PairStatus) -> Line<'static> {
    let cluster = &pair.cluster;
    let mut spans = Vec::new();
    for peer in &cluster.peers {
        if !spans.is_empty() {
            spans.push(Span::raw("; "));
        }
        spans.push(match (peer.alive, peer.hears_us) {
            (true, true) => Span::styled(format!("{} alive", peer.name), GOOD),
            (true, false) => Span::styled(format!("{} alive, DOES NOT HEAR US", peer.name), BAD),
            (false, _) => Span::styled(format!("{} NOT HEARD", peer.name), BAD),
        });
        for (heard, link) in peer.links.iter().zip(&cluster.links) {
            let delay = heard.delay_milliseconds.map_or(String::new(), |delay| format!(" {delay:.2} ms"));
            spans.push(match heard.heard {
                true => Span::raw(format!(", {} {:.0}%{delay}", link.name, 100.0 * heard.loss)),
                false => Span::styled(format!(", {} SILENT", link.name), WARN),
            });
        }
    }
    Line::from(spans)
}

fn table(frame: &mut Frame, area: Rect, screen: &mut Screen) {
    let sort = screen.sort;
    let heads = HEAD.iter().enumerate().map(|(column, head)| {
        let mark = match sort {
            Some((sorted, turned)) if sorted == column => {
                if turned {
                    "▲"
                } else {
                    "▼"
                }
            }
            _ => "",
        };
        aligned(column, format!("{head}{mark}"))
    });
    screen.seen = usize::from(area.height.saturating_sub(1));
    // Only what is seen is made: there may be thousands.
    let last = screen.rows.len().saturating_sub(screen.seen);
    let lowest = screen.chosen.saturating_sub(screen.seen.saturating_sub(1));
    screen.first = screen.first.clamp(lowest, screen.chosen.max(lowest)).min(last);
    let rows = screen.rows.iter().skip(screen.first).take(screen.seen);
    let rows: Vec<Row> = rows
        .filter_map(|row| {
            Some(match screen.at(*row)? {
                (_, Some(real)) => real_row(real),
                (service, None) => service_row(service),
            })
        })
        .collect();
    let numbers = std::iter::repeat_n(Constraint::Length(NUMBER), HEAD.len() - 2);
    let widths = std::iter::once(Constraint::Fill(3)).chain(numbers).chain([Constraint::Fill(2)]);
    let mut chosen = TableState::default();
    if !rows.is_empty() {
        chosen.select(Some(screen.chosen - screen.first));
    }
    let table = Table::new(rows, widths)
        .header(Row::new(heads).style(BOLD))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn service_row(service: &ServiceStatus) -> Row<'static> {
    let mut cells: Vec<Cell> = status::service(service)
        .into_iter()
        .enumerate()
        .map(|(column, text)| aligned(column, text))
        .collect();
    if let Some(state) = cells.pop() {
        cells.push(state.style(BAD));
    }
    Row::new(cells).style(BOLD)
}

fn real_row(real: &RealStatus) -> Row<'static> {
    let mut texts = status::real(real);
    // What the last check said is in there where it is not up.
    let up = real.health.as_ref().filter(|health| health.state == "up");
    if let (Some(state), Some(health)) = (texts.last_mut(), up) {
        let since = health.since_seconds.map_or(String::new(), |since| format!(" for {}", seconds(since)));
        let before = if state.is_empty() { String::new() } else { format!("{state}; ") };
        *state = format!("{before}up{since}: {}", health.reason);
    }
    let style = if well(real) { Style::new() } else { WARN };
    Row::new(texts.into_iter().enumerate().map(|(column, text)| aligned(column, text))).style(style)
}

/// Numbers to the right, words to the left.
fn aligned(column: usize, text: String) -> Cell<'static> {
    let line = Line::from(text);
    let number = column > 0 && column < HEAD.len() - 1;
    Cell::from(if number { line.right_aligned() } else { line })
}

/// The first line of something that may have more.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
