//! A real browser without a screen: Chromium, told what to do by its DevTools protocol over pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::lab::{Host, Process};
use crate::wait;

/// How long an answer may take: the first one waits for the whole program.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a page may take to be what it is to be.
const CHANGE: Duration = Duration::from_secs(15);

/// Its protocol is at descriptors 3 and 4. It runs as root in a namespace of its own network, where its sandbox is of no use.
const START: &str = "exec chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage \
                     --disable-background-networking --disable-breakpad --no-first-run --no-proxy-server --hide-scrollbars \
                     --user-data-dir=\"$HOME\" --remote-debugging-pipe 3<&0 4>&1 </dev/null >\"$HOME/log\" 2>&1";

/// A browser with one page. Dropped, it ends.
#[derive(Debug)]
pub struct Browser {
    to: ChildStdin,
    said: Receiver<Value>,
    /// What was said beside answers.
    events: Vec<Value>,
    asked: u64,
    /// The page's.
    session: Option<String>,
    _process: Process,
}

impl Browser {
    /// Starts it on a host, with its files in a directory, and with a window of so many pixels.
    pub fn start(host: &Host, directory: &Path, (width, height): (u32, u32)) -> Result<Browser> {
        std::fs::create_dir_all(directory)?;
        let mut command = host.command("sh");
        command.args(["-c", START]).env("HOME", directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start_to_talk(&mut command)?;
        let to = process.child().stdin.take().context("no pipe to the browser")?;
        let from = process.child().stdout.take().context("no pipe from the browser")?;
        let (sender, said) = channel();
        // Ends with the pipe, and that with the browser.
        thread::spawn(move || {
            for message in BufReader::new(from).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Browser { to, said, events: Vec::new(), asked: 0, session: None, _process: process };
        browser.begin(width, height).with_context(|| {
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            format!("the browser did not start (`cargo xtask setup` installs it):\n{log}")
        })?;
        Ok(browser)
    }

    fn begin(&mut self, width: u32, height: u32) -> Result<()> {
        let target = self.ask("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.ask("Target.attachToTarget", attach)?;
        self.session = Some(attached["sessionId"].as_str().context("no session")?.to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            self.ask(&format!("{domain}.enable"), json!({}))?;
        }
        self.resize(width, height)
    }

    /// Gives the window another size.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", metrics).map(drop)
    }

    /// Has pages seen as in the dark, or in the light.
    pub fn prefer(&mut self, scheme: &str) -> Result<()> {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", media).map(drop)
    }

    /// Goes to an address.
    pub fn visit(&mut self, url: &str) -> Result<()> {
        let visited = self.ask("Page.navigate", json!({ "url": url }))?;
        ensure!(visited["errorText"].is_null(), "{url}: {}", visited["errorText"]);
        Ok(())
    }

    /// What an expression of JavaScript is, in the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.ask("Runtime.evaluate", asked)?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub fn await_true(&mut self, what: &str, expression: &str) -> Result<()> {
        let waited = wait::until(what, CHANGE, || Ok((self.evaluate(expression)? == true).then_some(())));
        waited.with_context(|| {
            let text = self.evaluate("document.body.innerText").unwrap_or_default();
            format!(
                "the page says: {}\ncomplaints: {:?}",
                text.as_str().unwrap_or_default(),
                self.complaints()
            )
        })
    }

    /// Errors so far: exceptions, what the console was told, what the page's policy forbade, what could not be loaded.
    pub fn complaints(&mut self) -> Vec<String> {
        self.events.extend(self.said.try_iter());
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(event["params"]["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            Some("Log.entryAdded") => {
                matches!(event["params"]["entry"]["level"].as_str(), Some("error" | "warning"))
            }
            _ => false,
        };
        self.events.iter().filter(is_complaint).map(|event| event["params"].to_string()).collect()
    }

    /// A picture of the window, as PNG.
    pub fn picture(&mut self) -> Result<Vec<u8>> {
        let picture = self.ask("Page.captureScreenshot", json!({ "format": "png" }))?;
        let data = picture["data"].as_str().context("no picture")?;
        Ok(BASE64.decode(data.as_bytes())?)
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).with_context(|| method.to_owned())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message =
                self.said.recv_timeout(left).map_err(|_| anyhow!("the browser does not answer {method}"))?;
            if message["id"] != self.asked {
                self.events.push(message);
            } else if message["error"].is_null() {
                return Ok(message["result"].take());
            } else {
                bail!("{method}: {}", message["error"]);
            }
        }
    }
}
