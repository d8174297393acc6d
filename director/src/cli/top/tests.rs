//! The screen, key by key, on a terminal that is none.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::state::{Effect, Input, Screen};
use crate::api::types::{Event, HealthStatus, Status, Weighed, WeightRequest};
use crate::cli::status::tests::status;

fn screen() -> Screen {
    let mut screen = Screen::default();
    screen.take(Input::Status(Box::new(status())));
    screen
}

fn press(screen: &mut Screen, keys: &str) -> Option<Effect> {
    let mut effect = None;
    for key in keys.chars() {
        effect = screen.take(Input::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)));
    }
    effect
}

/// The lines of a terminal of so many columns and lines.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn real_servers(screen: &mut Screen) -> Vec<String> {
    let lines = drawn(screen, 120, 20);
    let reals = lines.iter().filter_map(|line| line.strip_prefix("  10.0.0."));
    reals.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn everything_is_on_the_screen() {
    let mut screen = screen();
    let text = drawn(&mut screen, 160, 12).join("\n");
    for part in [
        "director 1.2.3, up 1h01m",
        "PROBLEM: VIP 2001:db8::10: no",
        "SERVICE / REAL",
        "web: tcp [2001:db8::10]:80,443 direct mh",
        "  10.0.0.1 ",
        "8.1k       12M",
        "drained by command",
        "NO MAC",
        "q quit",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn what_happened_last_is_on_a_terminal_that_has_room() {
    let event = |id: u64| Event {
        id,
        time: format!("2026-01-01T00:00:{id:02}Z"),
        service: "web".into(),
        real: Some("10.0.0.1".into()),
        from: "up".into(),
        to: "down".into(),
        reason: "connection refused".into(),
    };
    let mut screen = screen();
    screen.take(Input::Events((1..=30).map(event).collect()));
    screen.take(Input::Events(vec![event(31)]));
    let seen = |screen: &mut Screen, height| {
        let lines = drawn(screen, 160, height);
        let events = lines.iter().filter(|line| line.contains("web 10.0.0.1: up → down: connection refused"));
        events.map(|line| line[17..19].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(seen(&mut screen, 25), ["27", "28", "29", "30", "31"]);
    assert!(seen(&mut screen, 16).is_empty());
    // Another process begins anew.
    let mut other = status();
    other.pid += 1;
    screen.take(Input::Status(Box::new(other)));
    assert!(seen(&mut screen, 25).is_empty());
}

#[test]
fn what_the_last_check_said_is_there_while_it_is_up_too() {
    let mut status = status();
    let health = |state: &str| HealthStatus {
        state: state.into(),
        since_seconds: Some(61),
        reason: "status 200 late".into(),
        weight: None,
    };
    status.services[0].reals[0].health = Some(health("up"));
    status.services[0].reals[1].health = Some(health("down"));
    let mut screen = Screen::default();
    screen.take(Input::Status(Box::new(status)));
    let text = drawn(&mut screen, 160, 12).join("\n");
    for part in ["up for 1m01s: status 200 late", "DOWN for 1m01s: status 200 late"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn rows_are_sorted_by_any_column_either_way_and_the_choice_stays() {
    let mut screen = screen();
    assert_eq!(real_servers(&mut screen), ["1", "2", "3"]);
    // The one that is drained: after the service and the first real server.
    press(&mut screen, "jj");
    press(&mut screen, ">>");
    assert_eq!(screen.sort, Some((1, false)), "by weight");
    assert_eq!(real_servers(&mut screen), ["1", "3", "2"]);
    assert_eq!(screen.chosen, 3, "it is still chosen");
    press(&mut screen, "r");
    assert_eq!(real_servers(&mut screen), ["2", "1", "3"]);
    assert!(drawn(&mut screen, 120, 20).iter().any(|line| line.contains("WEIGHT▲")));
    press(&mut screen, "<<");
    assert_eq!((screen.sort, screen.chosen), (None, 2), "as configured");
    press(&mut screen, "<");
    assert_eq!(screen.sort, Some((8, false)), "by state, and troubles first");
    assert_eq!(real_servers(&mut screen), ["2", "3", "1"]);
}

#[test]
fn a_drain_is_confirmed_first() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, "d"), None);
    assert_eq!(screen.note, Some(("choose a real server first".to_owned(), true)));
    assert_eq!(press(&mut screen, "jd"), None);
    let text = drawn(&mut screen, 120, 12).join("\n");
    assert!(
        text.contains("Drain 10.0.0.1 in web? It gets no new connections; its 1239 go on. (y/n)"),
        "{text}"
    );
    assert_eq!(press(&mut screen, "jqy"), None, "q is no, and then y is nothing");
    let request =
        |weight| Effect::Weigh(WeightRequest { service: "web".into(), real: "10.0.0.1".into(), weight });
    assert_eq!(press(&mut screen, "dy"), Some(request(Some(0))));
    let weighed = Weighed {
        service: "web".into(),
        real: "10.0.0.1".into(),
        configured_weight: 5,
        before: 5,
        weight: 0,
    };
    screen.take(Input::Weighed(Ok(weighed)));
    assert!(drawn(&mut screen, 120, 12).join("\n").contains("10.0.0.1 in web: weight 0, before 5"));

    // Nothing to enable, or to drain again.
    press(&mut screen, "e");
    assert!(screen.question.is_none() && screen.note.is_some());
    press(&mut screen, "jd");
    assert!(screen.question.is_none() && screen.note.is_some());
    let enabled = WeightRequest { service: "web".into(), real: "10.0.0.2".into(), weight: None };
    assert_eq!(press(&mut screen, "ey"), Some(Effect::Weigh(enabled)));
    screen.take(Input::Weighed(Err("there is no service \"web\"\n  help: known: wbe".into())));
    assert!(drawn(&mut screen, 120, 12).join("\n").contains("there is no service \"web\""));
}

#[test]
fn a_director_that_is_gone_is_waited_for() {
    let mut screen = Screen::default();
    screen.take(Input::Gone("nobody listens\n  help: start it".into()));
    assert_eq!(drawn(&mut screen, 80, 10)[0], "GONE: nobody listens");
    assert_eq!(press(&mut screen, "jd"), None);
    screen.take(Input::Status(Box::new(status())));
    assert!(drawn(&mut screen, 80, 10)[0].starts_with("director 1.2.3"));
    screen.take(Input::Gone("nobody listens".into()));
    press(&mut screen, "jd");
    assert!(screen.question.is_none(), "nothing can be done");
    let text = drawn(&mut screen, 120, 12).join("\n");
    assert!(text.contains("GONE: nobody listens") && text.contains("as it was: director 1.2.3"), "{text}");
    assert_eq!(press(&mut screen, "q"), Some(Effect::Quit));
    assert_eq!(screen.take(Input::Ended), Some(Effect::Quit));
}

#[test]
fn long_lists_scroll_and_small_terminals_are_no_harm() {
    let mut many: Status = status();
    many.services[0].reals = (0..200).map(|_| many.services[0].reals[0].clone()).collect();
    for (last, real) in (0..).zip(&mut many.services[0].reals) {
        real.address = std::net::IpAddr::from([10, 0, 0, last]);
    }
    let mut screen = Screen::default();
    screen.take(Input::Status(Box::new(many)));
    assert_eq!(real_servers(&mut screen)[0], "0");
    press(&mut screen, "G");
    let seen = real_servers(&mut screen);
    assert_eq!((seen.last().unwrap().as_str(), screen.chosen), ("199", 200));
    press(&mut screen, "k");
    assert_eq!(real_servers(&mut screen), seen, "no need to scroll");
    screen.take(Input::Key(KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE)));
    screen.take(Input::Key(KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE)));
    assert_ne!(real_servers(&mut screen), seen);
    press(&mut screen, "g");
    assert_eq!(real_servers(&mut screen)[0], "0");
    press(&mut screen, "G");
    screen.take(Input::Status(Box::new(status())));
    assert_eq!(screen.chosen, 3, "the last of those that are left");
    for (width, height) in [(1, 1), (2, 3), (20, 5), (300, 4)] {
        drawn(&mut screen, width, height);
    }
}
