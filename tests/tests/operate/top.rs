//! `director top` in a real terminal.

use anyhow::{Context, Result, ensure};
use tests::clients::Terminal;
use tests::lab::{Config, DIRECT_VIPS, Daemon, Lab, Service};
use tests::pair::{DEFAULT, Pair};

/// The real servers in the order of the screen, by their last number.
fn order(screen: &str) -> Vec<&str> {
    let reals = screen.lines().filter_map(|line| line.strip_prefix("  192.0.2."));
    reals.filter_map(|line| line.split(' ').next()).collect()
}

fn weight(director: &Daemon) -> Result<u64> {
    let status = director.status()?;
    status["services"][0]["reals"][1]["weight"].as_u64().context("no weight")
}

#[test]
fn real_servers_are_seen_sorted_drained_and_enabled_and_the_terminal_is_given_back() -> Result<()> {
    let lab = Lab::builder().build()?;
    let web = Service::tcp("web", DIRECT_VIPS[0], 80);
    let web = web.real("192.0.2.21", 1).real("192.0.2.22", 3).real("192.0.2.23", 2);
    let mut director = lab.director(Config::new().service(web))?;
    let terminal = Terminal::start(lab.directory(), 140, 24)?;
    let start = format!("{} top --socket {}", director.binary().display(), director.socket().display());
    terminal.line(&start)?;
    let screen = terminal.await_text("the real servers", "192.0.2.23")?;
    ensure!(screen.contains("web: tcp 192.0.2.10:80 direct rr") && screen.contains("q quit"), "{screen}");
    ensure!(order(&screen) == ["21", "22", "23"], "{screen}");

    // By name first, then by weight.
    terminal.press(">")?;
    terminal.press(">")?;
    let screen = terminal.await_text("the order", "WEIGHT▼")?;
    ensure!(order(&screen) == ["22", "23", "21"], "{screen}");

    // The heaviest is below the service.
    terminal.press("Down")?;
    terminal.press("d")?;
    terminal.await_text("the question", "Drain 192.0.2.22 in web?")?;
    terminal.press("n")?;
    terminal.await_screen("no question", |screen| !screen.contains("Drain"))?;
    ensure!(weight(&director)? == 3, "it was not to be drained");
    terminal.press("d")?;
    terminal.press("y")?;
    let screen = terminal.await_text("the drain", "drained by command")?;
    ensure!(weight(&director)? == 0, "{screen}");
    // It stays chosen where it goes.
    terminal.await_screen("the new order", |screen| order(screen) == ["23", "21", "22"])?;

    // The daemon goes and comes back.
    ensure!(director.terminate()?.success(), "{}", director.log());
    terminal.await_text("that it is gone", "GONE: the director does not run")?;
    director.run()?;
    terminal.await_screen("it is back", |screen| !screen.contains("GONE") && screen.contains("drained"))?;
    terminal.press("e")?;
    terminal.await_text("the question", "Enable 192.0.2.22 in web with its weight 3?")?;
    terminal.press("y")?;
    terminal.await_screen("the weight", |screen| order(screen) == ["22", "23", "21"])?;
    ensure!(weight(&director)? == 3, "it was enabled");

    // The shell has its screen, its echo and its lines back.
    for key in ["q", "C-c"] {
        terminal.press(key)?;
        terminal.await_screen("the shell's screen", |screen| !screen.contains("q quit"))?;
        terminal.line(
            "code=$?; clear; echo quit: $code; stty -a | tr ' ' '\\n' | grep -c -x -e -icanon -e -echo; tty",
        )?;
        let screen = terminal.await_text("the shell", "/dev/pts")?;
        ensure!(screen.contains("quit: 0\n0\n"), "{screen}");
        terminal.line(&start)?;
        terminal.await_text("the real servers", "192.0.2.23")?;
    }
    Ok(())
}

#[test]
fn the_cluster_the_last_checks_and_what_happened_are_seen() -> Result<()> {
    let check = "{ type: http, request: /, interval: 200ms, timeout: 400ms, rise: 1, fall: 2 }";
    let shop = Service::tcp("shop", DIRECT_VIPS[0], 8080).set("check", check).real("192.0.2.23", 1);
    let mut pair = Pair::start(2, |cluster| cluster, |config| config.service(shop))?;
    pair.await_owner(1, DEFAULT)?;
    let terminal = Terminal::start(pair.lab().directory(), 160, 60)?;
    let director = pair.director(1);
    let start = format!("{} top --socket {}", director.binary().display(), director.socket().display());
    terminal.line(&start)?;
    let screen = terminal.await_text("the real server", "192.0.2.23")?;
    ensure!(screen.contains("this is lb1; default: lb1, active here for"), "{screen}");
    ensure!(screen.contains("lb2 alive, udp "), "{screen}");
    let is_up =
        |line: &str| line.contains("192.0.2.23 ") && line.contains("up for ") && line.contains(": passed");
    terminal.await_screen("what the last check said", |screen| screen.lines().any(is_up))?;

    let cut = pair.lab().cut_cable("real3")?;
    terminal.await_text("the dead real server", "DOWN for ")?;
    terminal.await_text("its event", "shop 192.0.2.23: up → down: no ")?;
    cut.heal()?;
    terminal.await_text("its return", "shop 192.0.2.23: down → up: ")?;
    pair.cli(1, &["handover"])?;
    terminal.await_text("the new owner", "default: lb2, standby here for")?;
    terminal.await_text("its event", "group default: active → ")?;
    terminal.press("q").map(drop)
}
