//! HTTP: whether the director is well, for those who watch it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::lab::{Config, DIRECT_VIPS, Daemon, Lab, Service};
use tests::wait;

/// Where the tests have it served.
const LISTEN: &str = "127.0.0.1:9694";

fn config() -> Config {
    let web = Service::tcp("web", DIRECT_VIPS[0], 80).real("192.0.2.21", 1);
    Config::new().service(web).line(&format!("http: {{ listen: \"{LISTEN}\" }}"))
}

/// Status and body of what the director answers on its own machine.
fn get(lab: &Lab, arguments: &[&str], path: &str) -> Result<(String, String)> {
    let url = format!("http://{LISTEN}{path}");
    let mut words = vec!["curl", "-sS", "-w", "\n%{http_code}"];
    words.extend(arguments);
    words.push(&url);
    let said = lab.host("director").run(&words)?;
    let (body, status) = said.trim_end().rsplit_once('\n').context("no status")?;
    Ok((status.to_owned(), body.trim_end().to_owned()))
}

#[test]
fn health_and_readiness_are_told_and_nothing_can_be_changed() -> Result<()> {
    let lab = Lab::builder().build()?;
    let director = lab.director(config())?;
    ensure!(get(&lab, &[], "/healthz")? == ("200".into(), "ok".into()));
    ensure!(get(&lab, &[], "/readyz")? == ("200".into(), "ready".into()));
    let (status, body) = get(&lab, &[], "/api/status")?;
    ensure!(
        status == "200" && serde_json::from_str::<serde_json::Value>(&body)?["services"][0]["name"] == "web"
    );
    ensure!(get(&lab, &["-X", "POST"], "/api/status")?.0 == "405");
    ensure!(get(&lab, &[], "/v1/stop")?.0 == "404");
    // A VIP whose interface is not there: alive, and not ready.
    reload(&director, config().yaml().replacen("interface: eth0", "interface: eth9", 1))?;
    ensure!(get(&lab, &[], "/healthz")?.0 == "200");
    wait::until("not to be ready", Duration::from_secs(10), || {
        let (status, body) = get(&lab, &[], "/readyz")?;
        Ok((status == "503" && body.contains("eth9")).then_some(()))
    })
}

#[test]
fn an_address_that_is_taken_is_a_problem_until_it_is_free() -> Result<()> {
    let lab = Lab::builder().build()?;
    let taken = lab.host("director").within(|| Ok(std::net::TcpListener::bind(LISTEN)?))?;
    let director = lab.director(config())?;
    let problem = || Ok(director.status()?["problems"].to_string().contains(LISTEN).then_some(()));
    wait::until("the problem", Duration::from_secs(5), problem)?;
    drop(taken);
    wait::until("HTTP", Duration::from_secs(5), || Ok(get(&lab, &[], "/healthz").ok().map(drop)))?;
    ensure!(director.status()?["problems"] == serde_json::json!([]));
    // A reload moves it, and whoever was served at the old address is let go.
    let mut dashboard = open(&lab, "/api/live", "data: ")?;
    let mut idle = open(&lab, "/healthz", "ok")?;
    reload(&director, config().yaml().replace(LISTEN, "127.0.0.1:9695"))?;
    for (what, stream) in [("the dashboard", &mut dashboard), ("a connection that idles", &mut idle)] {
        ensure!(ends(stream), "{what} is served still");
    }
    wait::until("the old address to be free", Duration::from_secs(5), || {
        Ok(get(&lab, &[], "/healthz").err().map(drop))
    })?;
    lab.host("director").run(&["curl", "-sSf", "http://127.0.0.1:9695/healthz"]).map(drop)
}

/// A connection by which the answer to this has begun to come.
fn open(lab: &Lab, path: &str, begins: &str) -> Result<TcpStream> {
    let mut stream = lab.host("director").within(|| Ok(TcpStream::connect(LISTEN)?))?;
    // Less than after what an idle connection would be closed anyway.
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {LISTEN}\r\n\r\n")?;
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(begins) {
        let length = stream.read(&mut piece)?;
        ensure!(length > 0, "it ended after {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..length]);
    }
    Ok(stream)
}

/// Whether the other end closes a connection soon, whatever comes by it until then.
fn ends(stream: &mut TcpStream) -> bool {
    let (begun, mut piece) = (Instant::now(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) if begun.elapsed() < Duration::from_secs(5) => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

fn reload(director: &Daemon, config: String) -> Result<()> {
    let output = director.reload(config)?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}
