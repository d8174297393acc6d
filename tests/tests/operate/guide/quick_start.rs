//! The quick start as somebody does it who reads it: two directors and three real servers, with the page's own configuration and commands.
//! If the page has other steps, the test has to be told what they should lead to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::clients::{Curl, Load, Terminal};
use tests::docs::{Block, Page, spans};
use tests::lab::{Lab, Nginx, Process};
use tests::wait;

use super::machine::{Machine, end};

const PATIENCE: Duration = Duration::from_secs(30);
const CONFIG: &str = "/etc/director/director.yaml";
const VIP: &str = "192.0.2.10";
const REALS: [&str; 3] = ["real1", "real2", "real3"];

/// The reader's machines, and the page.
struct Site {
    page: Page,
    /// lb1 and lb2, and the directors that run there.
    directors: [Machine; 2],
    running: [Option<Process>; 2],
    /// web1, web2 and web3, and their web servers.
    servers: [Machine; 3],
    nginx: [Option<Nginx>; 3],
    lab: Lab,
}

#[test]
fn the_quick_start_does_what_it_says() -> Result<()> {
    let mut site = Site::new()?;
    site.install().context("1. Install")?;
    site.prepare_real_servers().context("2. Prepare the real servers")?;
    site.configure().context("3. Configure the directors")?;
    site.run().context("4. Run")?;
    site.look().context("5. Look")?;
    site.drain().context("6. Take a server out")?;
    site.lose_a_server().context("6. Stop the web server")?;
    site.hand_over().context("7. Take a director out")?;
    site.stop().context("8. Stop")
}

impl Site {
    fn new() -> Result<Site> {
        let lab = Lab::builder().directors(2).with_router().build()?;
        for real in REALS {
            // The lab has prepared them; the reader has not.
            let output = lab.real_server(real, &["down"])?;
            ensure!(output.status.success(), "{output:?}");
        }
        let [lb1, lb2] =
            [("director1", "lb1"), ("director2", "lb2")].map(|(host, name)| Machine::named(&lab, host, name));
        let [web1, web2, web3] = [("real1", "web1"), ("real2", "web2"), ("real3", "web3")]
            .map(|(host, name)| Machine::named(&lab, host, name));
        let mut nginx = [None, None, None];
        for (nginx, real) in nginx.iter_mut().zip(REALS) {
            *nginx = Some(lab.nginx(real)?);
        }
        let page = Page::read("docs/guide/quick-start.md")?;
        let (directors, servers) = ([lb1?, lb2?], [web1?, web2?, web3?]);
        Ok(Site { page, directors, running: [None, None], servers, nginx, lab })
    }

    fn below(&self, title: &str) -> Result<Vec<Block>> {
        self.page.below(title)
    }

    /// The page's commands below a title, one a line: exactly so many.
    fn commands<const N: usize>(&self, title: &str) -> Result<[String; N]> {
        let blocks = self.below(title)?;
        let lines = blocks.iter().filter(|block| block.is_commands()).flat_map(Block::lines);
        let lines: Vec<String> = lines.map(|(_, line)| line.to_owned()).collect();
        lines
            .try_into()
            .map_err(|lines| anyhow!("the page has other commands now: teach this test {lines:#?}"))
    }

    /// The first code in the page's lines that begins so.
    fn span(&self, begin: &str) -> Result<String> {
        let found =
            spans(&self.page.text).into_iter().map(|(_, text)| text).find(|text| text.starts_with(begin));
        found.with_context(|| format!("the page does not say `{begin}…`"))
    }

    /// What a director says of itself.
    fn status(&self, number: usize) -> Result<Value> {
        Ok(serde_json::from_str(&self.directors[number].run(&["director", "status", "--json"])?)?)
    }

    fn has_vip(&self, number: usize) -> Result<bool> {
        let addresses = self.directors[number].host().run(&["ip", "-o", "address", "show", "eth0"])?;
        Ok(addresses.contains(&format!(" {VIP}/")))
    }

    /// The one director that holds the VIP.
    fn holder(&self) -> Result<usize> {
        let found = wait::until("one director to hold the VIP", PATIENCE, || {
            let holders = [self.has_vip(0)?, self.has_vip(1)?];
            Ok([[true, false], [false, true]].iter().position(|one| *one == holders))
        });
        found.with_context(|| {
            let logs = self.directors.each_ref().map(|machine| machine.read("/run/log"));
            format!("the log of lb1:\n{}\nthe log of lb2:\n{}", logs[0], logs[1])
        })
    }

    /// Who answers at the VIP.
    fn answers(&self, count: u32) -> Result<Vec<String>> {
        let answers = Curl::new(&format!("http://{VIP}/"), count).run(self.lab.client())?;
        ensure!(answers.failed == 0, "{answers}");
        Ok(answers.by_real.into_keys().collect())
    }

    fn install(&mut self) -> Result<()> {
        let [dist, install] = self.commands("1.")?;
        ensure!(dist == "cargo xtask dist", "{dist}");
        // Of the director under test, which is built already.
        let package = self.directors[0].package("1.0")?;
        let file = package.rsplit('/').next().unwrap_or(&package);
        let [lb1, lb2] = &self.directors;
        let directory = lb1.path("/root/target/dist");
        fs::create_dir_all(&directory)?;
        fs::copy(lb1.path(&package), directory.join(file))?;
        fs::copy(lb1.path(&package), lb2.path(&package))?;
        // By dpkg on the other one, as apt has it done, for the sake of time.
        for (machine, begun) in [
            (lb1, lb1.begin(&["sh", "-c", &format!("cd /root && {install}")])?),
            (lb2, lb2.dpkg(&["--install", &package])?),
        ] {
            let said = machine.finish(begun, |asked| Err(anyhow!("{asked}")))?;
            ensure!(said.contains("systemctl enable --now director"), "{said}");
        }
        Ok(())
    }

    fn prepare_real_servers(&self) -> Result<()> {
        let [up] = self.commands("2.")?;
        let (script, check) = (self.span("/usr/share/director/")?, self.span("director-real-server check")?);
        for machine in &self.servers {
            let place = machine.path("/usr/local/sbin/director-real-server");
            fs::copy(self.directors[0].path(&script), &place)?;
            ensure!(!machine.try_run(&["sh", "-c", &check])?.0, "there is nothing to prepare");
            machine.shell(&up)?;
            machine.shell(&check)?;
        }
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        let [key, check, doctor] = self.commands("3.")?;
        let blocks = self.below("3.")?;
        let config = blocks.iter().find(|block| !block.is_commands()).context("no configuration")?;
        ensure!(check.ends_with(CONFIG), "{check}");
        for machine in &self.directors {
            machine.write(CONFIG, &config.text)?;
        }
        let [lb1, lb2] = &self.directors;
        lb1.shell(&key)?;
        let file = "/etc/director/heartbeat.key";
        fs::copy(lb1.path(file), lb2.path(file))?;
        for machine in &self.directors {
            ensure!(fs::metadata(machine.path(file))?.permissions().mode() & 0o777 == 0o600);
            machine.shell(&check)?;
            // 3: it has seen something to look at, such as a clock that nobody sets here.
            let (good, said) = machine.try_run(&["sh", "-c", &format!("{doctor}; [ $? = 0 -o $? = 3 ]")])?;
            ensure!(good, "{said}");
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let [enable] = self.commands("4.")?;
        for (machine, running) in self.directors.iter().zip(&mut self.running) {
            machine.shell(&enable)?;
            let asked = machine.read("/run/systemctl");
            ensure!(asked.ends_with("enable --now director\n"), "{asked}");
            *running = Some(machine.start_service(&[])?);
        }
        for machine in &self.directors {
            machine.await_service()?;
            let log = machine.read("/run/log");
            ensure!((log.contains("native") || log.contains("generic")) && log.contains("ready"), "{log}");
        }
        self.holder().map(drop)
    }

    fn look(&self) -> Result<()> {
        let [status, top, curl, ssh] = self.commands("5.")?;
        let machine = &self.directors[self.holder()?];
        let said = machine.shell(&status)?;
        for address in ["192.0.2.21", "192.0.2.22", "192.0.2.23"] {
            let row = said.lines().find(|line| line.trim_start().starts_with(address));
            let words: Vec<&str> = row.context(address)?.split_whitespace().collect();
            let last = words.last().copied().unwrap_or_default();
            ensure!(words[1] == "10" && last.starts_with(|letter: char| letter.is_ascii_digit()), "{said}");
        }
        let answer = self.lab.client().run(&["sh", "-c", &format!("{} --no-progress-meter", curl.trim())])?;
        ensure!(REALS.contains(&answer.trim()), "{answer}");
        let flows = machine.shell(&self.span("director flows")?)?;
        ensure!(
            flows.contains("192.0.2.100") && flows.contains(&answer.trim().replace("real", "192.0.2.2")),
            "{flows}"
        );

        let page = ssh.rsplit(' ').next().unwrap_or_default();
        ensure!(page.starts_with("http://127.0.0.1:9694/"), "{ssh}");
        let shown = machine.run(&["curl", "--silent", "--fail", page])?;
        ensure!(shown.contains("<title>"), "{shown}");

        let terminal = Terminal::start(self.lab.directory(), 140, 24)?;
        terminal.line(&machine.typed(&top))?;
        terminal.await_text("the real servers", "192.0.2.23").map(drop)
    }

    fn drain(&self) -> Result<()> {
        let [drain, flows, enable, _, _] = self.commands("6.")?;
        let number = self.holder()?;
        let machine = &self.directors[number];
        machine.shell(&drain)?;
        ensure!(self.answers(20)? == ["real2", "real3"], "{drain}");
        machine.shell(&flows)?;
        machine.shell(&enable)?;
        let weight = &self.status(number)?["services"][0]["reals"][0]["weight"];
        ensure!(weight == 10, "{weight}");
        ensure!(self.answers(60)? == REALS, "{enable}");
        Ok(())
    }

    fn lose_a_server(&mut self) -> Result<()> {
        let [_, _, _, follow, probe] = self.commands("6.")?;
        let machine = &self.directors[self.holder()?];
        let _following = machine.begin(&["sh", "-c", &follow])?;
        let event = |what: &str| {
            let told = wait::until(what, PATIENCE, || {
                let said = machine.read("/run/said");
                let mut lines = said.lines();
                Ok(lines.any(|line| line.contains("web 192.0.2.22") && line.contains(what)).then_some(()))
            });
            told.with_context(|| machine.read("/run/said"))
        };
        ensure!(machine.shell(&probe)?.contains("passed"), "{probe}");
        self.nginx[1].take().context("it runs")?.quit()?;
        event("up → down")?;
        ensure!(self.answers(20)? == ["real1", "real3"], "a dead one is asked");
        let (good, said) = machine.try_run(&["sh", "-c", &probe])?;
        ensure!(!good && said.contains("refused"), "{said}");
        self.nginx[1] = Some(self.lab.nginx(REALS[1])?);
        event("down → up")
    }

    fn hand_over(&self) -> Result<()> {
        let [handover, status] = self.commands("7.")?;
        let first = self.holder()?;
        let load = Load::new(&format!("http://{VIP}/"), Duration::from_secs(2)).connections(6).threads(1);
        let load = load.close().start(self.lab.client())?;
        self.directors[first].shell(&handover)?;
        let second = self.holder()?;
        ensure!(second != first, "the VIP has not moved");
        load.finish()?.ensure_clean()?;
        let holder = format!("lb{}", second + 1);
        for machine in &self.directors {
            let said = machine.shell(&status)?;
            let group = said.lines().find(|line| line.starts_with("default "));
            ensure!(group.is_some_and(|line| line.split_whitespace().nth(1) == Some(&holder)), "{said}");
        }
        // Then the cables are pulled.
        let cut = self.lab.cut_cable(self.directors[second].host().name())?;
        wait::until("the other director to take the VIP", PATIENCE, || {
            Ok((self.has_vip(first)? && !self.has_vip(second)?).then_some(()))
        })?;
        ensure!(self.answers(20)?.len() > 1, "one server has all");
        // Not before the silence has been noticed: until then it is as if it were heard.
        self.await_peer(first, "alive", false)?;
        cut.heal()?;
        for number in [first, second] {
            self.await_peer(number, "hears_us", true)?;
        }
        Ok(())
    }

    /// Waits until it is so with the other director, as this one sees it.
    fn await_peer(&self, number: usize, key: &str, value: bool) -> Result<()> {
        wait::until(&format!("the other director to be {key}: {value}"), PATIENCE, || {
            let peer = &self.status(number)?["pair"]["cluster"]["peers"][0];
            Ok((peer[key] == value && (peer["alive"] == true || !value)).then_some(()))
        })
    }

    fn stop(&mut self) -> Result<()> {
        let [stop, detach] = self.commands("8.")?;
        let first = self.holder()?;
        let mut service = self.running[first].take().context("it runs")?;
        let machine = &self.directors[first];
        let begun = machine.begin(&["sh", "-c", &stop])?;
        machine.finish(begun, |asked| {
            ensure!(asked == "stop director", "{asked}");
            end(&mut service)
        })?;
        let second = self.holder()?;
        ensure!(second != first && self.answers(20)?.len() > 1, "it was not handed over");
        let machine = &self.directors[second];
        machine.shell(&detach)?;
        wait::until("all of it to end", PATIENCE, || {
            let link = machine.host().run(&["ip", "address", "show", "eth0"])?;
            Ok((!link.contains("xdp") && !link.contains(VIP)).then_some(()))
        })?;
        let mut service = self.running[second].take().context("it runs")?;
        ensure!(service.wait(PATIENCE)?.success(), "{}", machine.read("/run/log"));
        Ok(())
    }
}
