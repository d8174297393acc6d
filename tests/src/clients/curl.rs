//! curl: who answered, and did a large file arrive whole.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{Host, first_word};

/// How long one request may take.
const TIMEOUT_SECONDS: &str = "5";

/// Many requests to one URL, each on a connection of its own.
#[derive(Clone, Debug)]
pub struct Curl {
    url: String,
    count: u32,
    parallel: u32,
    arguments: Vec<String>,
}

/// Who answered how many requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By what the answer's body says, a lab host's name.
    pub by_real: BTreeMap<String, u64>,
    /// Requests without an answer, or with one that no host of the lab gives.
    pub failed: u64,
}

impl Curl {
    /// `count` requests, one after the other.
    pub fn new(url: &str, count: u32) -> Curl {
        Curl { url: url.into(), count, parallel: 1, arguments: Vec::new() }
    }

    /// As many at a time.
    pub fn parallel(mut self, parallel: u32) -> Self {
        self.parallel = parallel;
        self
    }

    /// A further argument of curl's, such as `--interface`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sends them from a host. Only a curl that does not start is an error: failed requests are counted.
    pub fn run(&self, host: &Host) -> Result<Answers> {
        let mut command = host.command("curl");
        command.args(["--silent", "--fail", "--max-time", TIMEOUT_SECONDS, "--header", "Connection: close"]);
        // The fragment makes curl repeat the request; it is not sent. Brackets of an IPv6 address are no range.
        command.arg(format!("{}#[1-{}]", escape_brackets(&self.url), self.count));
        if self.parallel > 1 {
            command.args([
                "--parallel",
                "--parallel-immediate",
                "--parallel-max",
                &self.parallel.to_string(),
            ]);
        }
        command.args(&self.arguments);
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("cannot run curl; `cargo xtask setup` installs it")?;
        Ok(Answers::count(&String::from_utf8_lossy(&output.stdout), self.count))
    }
}

impl Answers {
    fn count(bodies: &str, sent: u32) -> Answers {
        let mut answers = Answers::default();
        for body in bodies.lines().filter(|body| is_host(body)) {
            *answers.by_real.entry(body.to_owned()).or_default() += 1;
        }
        answers.failed = u64::from(sent).saturating_sub(answers.total());
        answers
    }

    /// Requests that were answered.
    pub fn total(&self) -> u64 {
        self.by_real.values().sum()
    }

    /// How many of them by this host.
    pub fn of(&self, real: &str) -> u64 {
        self.by_real.get(real).copied().unwrap_or(0)
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> =
            self.by_real.iter().map(|(real, count)| format!("{real} {count}")).collect();
        write!(f, "{}, failed {}", counts.join(", "), self.failed)
    }
}

/// A file that was fetched.
#[derive(Clone, Debug)]
pub struct Download {
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// How long it took.
    pub took: Duration,
}

/// A file that was put.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The real server that has it.
    pub real: String,
    /// How long it took.
    pub took: Duration,
}

/// Fetches a file and hashes what arrives.
pub fn download(host: &Host, url: &str) -> Result<Download> {
    let start = Instant::now();
    let mut curl = transfer(host, url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let body = curl.stdout.take().context("no pipe from curl")?;
    let digest = Command::new("sha256sum").stdin(body).output().context("cannot run sha256sum")?;
    let output = curl.wait_with_output()?;
    ensure!(output.status.success(), "curl {url}: {}", String::from_utf8_lossy(&output.stderr));
    let sha256 = first_word(&String::from_utf8_lossy(&digest.stdout))?;
    Ok(Download { sha256, took: start.elapsed() })
}

/// Puts a file.
pub fn upload(host: &Host, url: &str, file: &Path) -> Result<Upload> {
    let start = Instant::now();
    let mut curl = transfer(host, url);
    // "Expect: 100-continue" would only add a round trip.
    curl.args(["--dump-header", "-", "--header", "Expect:", "--upload-file"]).arg(file);
    let output = curl.output()?;
    ensure!(output.status.success(), "curl -T {url}: {}", String::from_utf8_lossy(&output.stderr));
    let headers = String::from_utf8_lossy(&output.stdout).into_owned();
    let real = headers.lines().find_map(|line| line.strip_prefix("X-Real: "));
    let real = real.with_context(|| format!("no X-Real in {headers}"))?.trim().to_owned();
    Ok(Upload { real, took: start.elapsed() })
}

fn transfer(host: &Host, url: &str) -> Command {
    let mut command = host.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--globoff", "--connect-timeout", TIMEOUT_SECONDS]);
    command.args(["--max-time", "120", url]).stdin(Stdio::null());
    command
}

/// Whether this is the name of a host that serves: `director`, or `real`, `back` and `far` with a number.
fn is_host(name: &str) -> bool {
    let number = ["real", "back", "far"].iter().find_map(|kind| name.strip_prefix(kind));
    let numbered =
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    name == "director" || numbered
}

fn escape_brackets(url: &str) -> String {
    url.replace('[', "\\[").replace(']', "\\]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_answered_has_failed() {
        let answers = Answers::count("real1\nreal2\nreal1\n", 5);
        assert_eq!((answers.of("real1"), answers.of("real2"), answers.of("real3")), (2, 1, 0));
        assert_eq!((answers.total(), answers.failed), (3, 2));
        assert_eq!(answers.to_string(), "real1 2, real2 1, failed 2");
    }

    #[test]
    fn what_no_host_says_is_no_answer() {
        let answers = Answers::count("real1\n<html>\nreal\nrealx\nback12\nfar1\ndirector\n", 7);
        assert_eq!((answers.total(), answers.failed), (4, 3));
    }
}
