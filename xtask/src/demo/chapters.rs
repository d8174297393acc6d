//! What the demo shows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::tests::clients::{Answers, Curl, Load, Session, fetch_from_port};
use ::tests::lab::{DIRECT_VIPS, Daemon, Lab, NAT_VIPS, Nginx};
use anyhow::Result;

use super::ECHO_PORT;
use super::story::Story;

/// How long wrk's load lasts while something happens to the service.
const LOAD: Duration = Duration::from_secs(4);

/// How long a verdict may take at most.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connections that stay open through it; round robin gives each real server as many.
const SESSIONS: usize = 6;

/// A service that is spread and drained, and the real server that is drained.
#[derive(Clone, Copy)]
pub struct Scene {
    title: &'static str,
    pub name: &'static str,
    vip: &'static str,
    drained: &'static str,
}

/// The services by forwarding and address family.
pub const SERVICES: [Scene; 4] = [
    Scene { title: "Direct routing, IPv4", name: "web", vip: DIRECT_VIPS[0], drained: "192.0.2.21" },
    Scene { title: "Direct routing, IPv6", name: "web6", vip: DIRECT_VIPS[1], drained: "2001:db8::21" },
    Scene { title: "NAT, IPv4", name: "shop", vip: NAT_VIPS[0], drained: "192.0.2.21" },
    Scene { title: "NAT, IPv6", name: "shop6", vip: NAT_VIPS[1], drained: "2001:db8::21" },
];

/// Where the story takes place.
pub struct Tale<'a> {
    pub lab: &'a Lab,
    pub director: &'a Daemon,
}

pub fn opening(lab: &Lab) {
    let reals: Vec<&str> = lab.reals().map(|real| real.name()).collect();
    println!(
        "\nA lab is up, each machine a network namespace: a client, a director and the real servers {}, which run \
         nginx,\nall on one switch. The client knows only the virtual addresses (VIPs), {} and {} among them,\nand the \
         director's XDP program forwards each connection to one of the real servers.",
        reals.join(", "),
        DIRECT_VIPS[0],
        NAT_VIPS[0],
    );
}

impl Tale<'_> {
    /// The three ways to choose a real server.
    pub fn schedulers(&self, story: &mut Story) -> Result<()> {
        story.chapter("Round robin: each in turn");
        story.say("300 requests, each on a connection of its own:");
        let answers = self.curl("http://192.0.2.10/", 300)?;
        story.expect_spread(&answers, &[("real1", 100), ("real2", 100), ("real3", 100)], 6);

        story.chapter("Weighted round robin: 3 to 2 to 1");
        story.say("300 requests again:");
        let answers = self.curl("http://192.0.2.10:8080/", 300)?;
        story.expect_spread(&answers, &[("real1", 150), ("real2", 100), ("real3", 50)], 6);

        story.chapter("Maglev hashing: the connection decides");
        story.say("300 requests from as many ports, spread as chance has it:");
        let answers = self.curl("http://192.0.2.10:8000/", 300)?;
        story.expect_spread(&answers, &[("real1", 100), ("real2", 100), ("real3", 100)], 40);
        story.say("5 requests from one port always meet the same real server:");
        let fetch = |_| fetch_from_port(self.lab.client(), "192.0.2.10:8000".parse()?, 40_000);
        let answers = (0..5).map(fetch).collect::<Result<Vec<String>>>()?;
        story.expect(answers.iter().all(|real| *real == answers[0]), &answers.join(", "));
        Ok(())
    }

    /// A service by round robin, and a drain of `real1` under load.
    pub fn spread_and_drain(&self, story: &mut Story, scene: Scene) -> Result<()> {
        story.chapter(scene.title);
        let url = format!("http://{}/", SocketAddr::new(scene.vip.parse()?, 80));
        story.say(&format!("90 requests to {url}"));
        let answers = self.curl(&url, 90)?;
        story.expect_spread(&answers, &[("real1", 30), ("real2", 30), ("real3", 30)], 6);

        story.say(&format!(
            "wrk loads it for {} s with 16 connections, and {SESSIONS} more connections stay open and exchange a line \
             every 10 ms.",
            LOAD.as_secs()
        ));
        let sessions = self.sessions(scene.vip)?;
        let load = Load::new(&url, LOAD).connections(16).start(self.lab.client())?;
        story.say(&format!("Meanwhile: director drain {} {}", scene.name, scene.drained));
        self.director.cli_ok(&["drain", scene.name, scene.drained])?;
        let answers = self.curl(&url, 60)?;
        story.say("60 new requests go to the others:");
        story.expect_spread(&answers, &[("real1", 0)], 0);
        let kept = sessions.iter().filter(|session| session.real() == "real1").count();
        let report = load.finish()?;
        story.expect(
            report.ensure_clean().is_ok(),
            &format!("wrk: {} requests, {} of them failed", report.requests, report.errors()),
        );
        self.expect_whole(story, sessions)?;
        story.expect(kept > 0, &format!("{kept} of them with real1, which finishes what it has"));

        story.say(&format!("director enable {} {}, and 60 more requests:", scene.name, scene.drained));
        self.director.cli_ok(&["enable", scene.name, scene.drained])?;
        let answers = self.curl(&url, 60)?;
        story.expect_spread(&answers, &[("real1", 20), ("real2", 20), ("real3", 20)], 6);
        Ok(())
    }

    /// Real servers leave and enter by their checks.
    pub fn health(&self, story: &mut Story, nginx: &mut Vec<Nginx>) -> Result<()> {
        let url = "http://192.0.2.10:8001/";
        story.chapter("Health checks: a real server dies, and comes back");
        story.say("Every half second the director asks each real server of this service for /health.");
        let came = self.await_state(&["up", "up", "up"])?;
        story.expect(came.is_some(), "all three are up");
        story.say("nginx on real1 is killed.");
        drop(nginx.remove(0));
        match self.await_state(&["down", "up", "up"])? {
            Some(after) => {
                story.expect(true, &format!("it is out of the pool {} ms later", after.as_millis()))
            }
            None => story.expect(false, "it is still in the pool"),
        }
        let answers = self.curl(url, 60)?;
        story.say("60 requests go to the others:");
        story.expect_spread(&answers, &[("real1", 0), ("real2", 30), ("real3", 30)], 6);
        story.say("It starts again.");
        nginx.insert(0, self.lab.nginx("real1")?);
        let back = self.await_state(&["up", "up", "up"])?;
        story.expect(back.is_some(), "it is back by itself");

        story.say("real2 loses the VIP on its loopback. Its nginx is as well as ever, but clients would wait in vain:");
        let real2 = self.lab.host("real2");
        real2.run(&["ip", "address", "del", "192.0.2.10/32", "dev", "lo"])?;
        let found = self.await_state(&["up", "down", "up"])?;
        story.expect(found.is_some(), "the check goes the way of clients' packets, and finds it out");
        real2.run(&["ip", "address", "add", "192.0.2.10/32", "dev", "lo"])?;
        let back = self.await_state(&["up", "up", "up"])?;
        story.expect(back.is_some(), "with its VIP it is back");
        story.say("director events:");
        story.show(&self.director.cli_ok(&["events", "--service", "watched"])?);
        Ok(())
    }

    /// How long it took until the watched real servers were in these states; nothing if they never were.
    fn await_state(&self, states: &[&str]) -> Result<Option<Duration>> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let status = self.director.status()?;
            let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
            let watched = services.iter().find(|service| service["name"] == "watched");
            let state =
                |i: usize| watched.and_then(|service| service["reals"][i]["health"]["state"].as_str());
            if states.iter().enumerate().all(|(i, wanted)| state(i) == Some(wanted)) {
                return Ok(Some(start.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    fn curl(&self, url: &str, count: u32) -> Result<Answers> {
        Curl::new(url, count).run(self.lab.client())
    }

    fn sessions(&self, vip: &str) -> Result<Vec<Session>> {
        let server = SocketAddr::new(vip.parse()?, ECHO_PORT);
        (0..SESSIONS).map(|_| Session::start(self.lab.client(), server)).collect()
    }

    fn expect_whole(&self, story: &mut Story, sessions: Vec<Session>) -> Result<()> {
        let (mut whole, mut answered) = (0, 0);
        for session in sessions {
            let report = session.finish()?;
            answered += report.answered;
            match report.ensure_whole() {
                Ok(()) => whole += 1,
                Err(error) => story.say(&format!("    {error:#}")),
            }
        }
        story.expect(
            whole == SESSIONS,
            &format!("{whole} of {SESSIONS} open connections are whole, {answered} lines exchanged"),
        );
        Ok(())
    }
}
