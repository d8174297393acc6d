//! wrk: HTTP load for a while, and what became of it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::{Host, Process};

/// A request that takes longer was kept from its server: TCP sends a lost segment again after 0.2 s, 0.6 s and 1.4 s,
/// so an outage of 0.6 s shows as 1.4 s, and what a busy machine adds to one lost segment stays below. wrk's clock
/// starts once it is connected: that connecting takes long, only a [`Session`](super::Session) sees.
const OUTAGE: Duration = Duration::from_millis(1200);

/// A load to put on a URL; see [`Load::start`].
#[derive(Clone, Debug)]
pub struct Load {
    url: String,
    threads: u32,
    connections: u32,
    duration: Duration,
    close: bool,
}

/// What wrk reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Requests answered.
    pub requests: u64,
    /// Requests answered a second.
    pub per_second: f64,
    /// Connections that failed.
    pub connect_errors: u64,
    /// Connections that broke while being read.
    pub read_errors: u64,
    /// Connections that broke while being written to.
    pub write_errors: u64,
    /// Requests that took over two seconds.
    pub timeouts: u64,
    /// Answers other than 2xx and 3xx.
    pub bad_answers: u64,
    /// Latencies by percentile: 50, 75, 90 and 99.
    pub latency: Vec<(u32, Duration)>,
    /// The longest that a request took.
    pub slowest: Duration,
}

/// A wrk under way; dropping it ends it.
#[derive(Debug)]
pub struct RunningLoad {
    process: Process,
    duration: Duration,
}

impl Load {
    /// 32 connections of 2 threads, kept open, for as long.
    pub fn new(url: &str, duration: Duration) -> Load {
        Load { url: url.into(), threads: 2, connections: 32, duration, close: false }
    }

    /// As many threads.
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    /// As many connections at a time.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// A connection for each request.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Starts it on a host.
    pub fn start(&self, host: &Host) -> Result<RunningLoad> {
        let mut command = host.command("wrk");
        command.arg(format!("-t{}", self.threads)).arg(format!("-c{}", self.connections));
        command.arg(format!("-d{}s", self.duration.as_secs().max(1))).arg("--latency");
        if self.close {
            command.args(["-H", "Connection: close"]);
        }
        command.arg(&self.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = Process::start(&mut command).context("`cargo xtask setup` installs wrk")?;
        Ok(RunningLoad { process, duration: self.duration })
    }

    /// Runs it on a host to its end.
    pub fn run(&self, host: &Host) -> Result<LoadReport> {
        self.start(host)?.finish()
    }
}

impl RunningLoad {
    /// Whether it is still under way.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<LoadReport> {
        let status = self.process.wait(self.duration + Duration::from_secs(30))?;
        let text = std::io::read_to_string(self.process.child().stdout.take().context("no pipe from wrk")?)?;
        if !status.success() {
            let stderr = self.process.child().stderr.take().map(std::io::read_to_string);
            anyhow::bail!("wrk: {status}\n{}{text}", stderr.transpose()?.unwrap_or_default());
        }
        LoadReport::parse(&text).with_context(|| format!("wrk printed:\n{text}"))
    }
}

impl LoadReport {
    /// All that went wrong.
    pub fn errors(&self) -> u64 {
        self.connect_errors + self.read_errors + self.write_errors + self.timeouts + self.bad_answers
    }

    /// Fails unless there were answers, and nothing but answers, none of them late.
    pub fn ensure_clean(&self) -> Result<()> {
        ensure!(self.requests > 0, "no request was answered: {self:?}");
        ensure!(self.errors() == 0, "{} of {} requests failed: {self:?}", self.errors(), self.requests);
        ensure!(self.slowest < OUTAGE, "a request took {:?}: {self:?}", self.slowest);
        Ok(())
    }

    fn parse(text: &str) -> Result<LoadReport> {
        let mut report = LoadReport::default();
        let mut finished = false;
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                [count, "requests", "in", ..] => report.requests = count.parse()?,
                ["Requests/sec:", rate] => {
                    report.per_second = rate.parse()?;
                    finished = true;
                }
                [
                    "Socket",
                    "errors:",
                    "connect",
                    connect,
                    "read",
                    read,
                    "write",
                    write,
                    "timeout",
                    timeout,
                ] => {
                    report.connect_errors = connect.parse()?;
                    report.read_errors = read.parse()?;
                    report.write_errors = write.parse()?;
                    report.timeouts = timeout.parse()?;
                }
                ["Non-2xx", "or", "3xx", "responses:", count] => report.bad_answers = count.parse()?,
                ["Latency", _average, _deviation, slowest, _share] => report.slowest = latency(slowest)?,
                [percent, time] if percent.ends_with('%') && !time.ends_with('%') => {
                    let percentile = percent.trim_end_matches('%').parse()?;
                    report.latency.push((percentile, latency(time)?));
                }
                _ => {}
            }
        }
        ensure!(finished, "no report");
        Ok(report)
    }
}

/// `617.00us`, `1.25ms`, `2.00s`.
fn latency(text: &str) -> Result<Duration> {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let number: f64 = text[..text.len() - unit.len()].parse()?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => anyhow::bail!("a latency of {text}"),
    };
    Ok(Duration::try_from_secs_f64(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 2s test @ http://192.0.2.21/
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   617.19us    1.05ms  28.71ms   97.20%
    Req/Sec    31.10k     4.01k   38.92k    65.00%
  Latency Distribution
     50%  456.00us
     75%  640.00us
     90%    1.00ms
     99%    3.50ms
  124161 requests in 2.01s, 18.12MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:  61770.65
Transfer/sec:      9.01MB
";

    #[test]
    fn a_report_is_read_whole() {
        let report = LoadReport::parse(REPORT).unwrap();
        assert_eq!((report.requests, report.per_second), (124_161, 61_770.65));
        assert_eq!(report.errors(), 15);
        assert_eq!(report.latency.len(), 4);
        assert_eq!(report.latency[0], (50, Duration::from_micros(456)));
        assert_eq!(report.latency[3], (99, Duration::from_micros(3500)));
        assert_eq!(report.slowest, Duration::from_micros(28_710));
        assert!(report.ensure_clean().is_err());
    }

    #[test]
    fn an_outage_is_not_clean_though_all_is_answered() {
        let clean: Vec<&str> =
            REPORT.lines().filter(|line| !line.contains("errors:") && !line.contains("Non-2xx")).collect();
        let clean = clean.join("\n");
        assert!(LoadReport::parse(&clean).unwrap().ensure_clean().is_ok());
        let late = LoadReport::parse(&clean.replace("28.71ms", "1.41s")).unwrap();
        assert!(late.errors() == 0 && late.ensure_clean().is_err());
    }

    #[test]
    fn no_report_is_an_error() {
        assert!(LoadReport::parse("unable to connect to 192.0.2.21:http Connection refused\n").is_err());
    }
}
