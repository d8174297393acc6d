//! The log: as JSON, in floods, and in the journal.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::lab::{Config, DIRECT_VIPS, Daemon, Lab, Service, director_binary};
use tests::wait;

/// Where HTTP is served.
const LISTEN: &str = "127.0.0.1:9694";
/// Where the first director hears heartbeats.
const HEARTBEATS: &str = "10.255.0.11:694";
/// More than the log takes of one kind in a minute.
const FLOOD: usize = 3_000;
/// How many lines of one kind it takes.
const TAKEN: usize = 2_000;

#[test]
fn floods_are_cut_and_counted_and_each_line_is_json() -> Result<()> {
    let lab = Lab::builder().directors(2).build()?;
    let web = Service::tcp("web", DIRECT_VIPS[0], 80).real("192.0.2.21", 1);
    let http = format!("http: {{ listen: \"{LISTEN}\" }}");
    let mut director = lab.director_n(1, Config::new().cluster(lab.cluster()?).service(web).line(&http))?;
    director.terminate()?;
    let path = lab.directory().join("json.log");
    director.run_with(File::create(&path)?.into(), &["--log", "debug", "--log-format", "json"])?;

    // Bad heartbeats: counted, and not logged at all.
    let before = refused(&director)?;
    let length = fs::metadata(&path)?.len();
    lab.host("director2").within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..FLOOD {
            socket.send_to(b"neither a message nor anything else", HEARTBEATS)?;
        }
        Ok(())
    })?;
    wait::until("refused heartbeats", Duration::from_secs(10), || {
        Ok((refused(&director)? > before + 500).then_some(()))
    })?;
    let grown = fs::metadata(&path)?.len() - length;
    ensure!(grown < 64 << 10, "{grown} bytes of log for {FLOOD} datagrams");

    // Bad requests: a line each, up to the limit.
    director.host().within(|| {
        for _ in 0..FLOOD {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.write_all(b"nonsense\r\n\r\n")?;
            std::io::copy(&mut stream, &mut std::io::sink())?;
        }
        Ok(())
    })?;
    // What is left out is told at the end at the latest.
    director.terminate()?;
    let text = fs::read_to_string(&path)?;
    let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
    let lines: Vec<Value> = text.lines().map(parse).collect::<Result<_>>()?;
    let whole = |line: &Value| {
        ["timestamp", "level", "target", "message"].iter().all(|key| line[*key].as_str().is_some())
    };
    ensure!(lines.iter().all(whole), "{text}");
    let ready = lines.iter().find(|line| line["message"] == "ready").context("it was not ready")?;
    ensure!(ready["level"] == "INFO" && ready["milliseconds"].is_u64(), "{ready}");
    let ours =
        |line: &&Value| line["message"].as_str().is_some_and(|text| text.contains("a client went away"));
    let left_out: u64 = lines.iter().filter(ours).filter_map(|line| line["left_out"].as_u64()).sum();
    let written = lines.iter().filter(ours).filter(|line| line["left_out"].is_null()).count();
    ensure!(written == TAKEN, "{written} lines of {FLOOD} were written");
    ensure!(
        left_out as usize == FLOOD - TAKEN,
        "{left_out} are said to be left out: {}",
        lines
            .iter()
            .filter(|line| !line["left_out"].is_null())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    );
    Ok(())
}

/// How many heartbeats were refused, for whatever reason, by whichever link.
fn refused(director: &Daemon) -> Result<u64> {
    let cluster = director.status()?["pair"]["cluster"].clone();
    let sum = |of: &Value| -> Result<u64> {
        let reasons = of["refused"].as_array().context("no refused heartbeats in status")?;
        Ok(reasons.iter().filter_map(|reason| reason[1].as_u64()).sum())
    };
    let links: Vec<u64> =
        cluster["links"].as_array().context("no links")?.iter().map(sum).collect::<Result<_>>()?;
    let all = sum(&cluster)?;
    ensure!(links.iter().sum::<u64>() == all, "{links:?} by links, {all} in all");
    Ok(all)
}

#[test]
fn the_journal_gets_levels_and_no_time() -> Result<()> {
    let lines = logged(true, "text")?;
    ensure!(lines[0].starts_with("<4> WARN ") && lines[0].contains("has no service"), "{lines:#?}");
    ensure!(lines.last().is_some_and(|line| line.starts_with("<3>error: `stranger`")), "{lines:#?}");
    let lines = logged(false, "text")?;
    ensure!(lines[0].starts_with("20") && lines[0].contains("Z  WARN "), "{lines:#?}");
    ensure!(lines.last().is_some_and(|line| line.starts_with("error: ")), "{lines:#?}");
    // As JSON it is an object like all others.
    for line in logged(false, "json")? {
        let line: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        ensure!(line["level"] != "ERROR" || line["message"].to_string().contains("`stranger`"), "{line}");
    }
    let lines = logged(true, "json")?;
    ensure!(lines.last().is_some_and(|line| line.starts_with("<3>{\"")), "{lines:#?}");
    Ok(())
}

/// What a director says that finds something to note, and then that it is none of its cluster: its lines in a file that is said to be the
/// journal, or not.
fn logged(journal: bool, format: &str) -> Result<Vec<String>> {
    let directory = tempfile::tempdir()?;
    let (config, log) = (directory.path().join("director.yaml"), directory.path().join("log"));
    let links = |number: u8| format!("{{ name: lb{number}, links: [{{ udp: 192.0.2.1{number} }}] }}");
    let text = format!(
        "interfaces: [eth0]\nvips: [{{ address: 192.0.2.10/24, interface: eth0 }}]\nservices: []\n\
         heartbeat: {{ key_file: /k, directors: [{}, {}] }}\n",
        links(1),
        links(2)
    );
    fs::write(&config, text)?;
    let file = File::create(&log)?;
    let stream = file.metadata().map(|about| format!("{}:{}", about.dev(), about.ino()))?;
    let mut command = Command::new(director_binary()?);
    command
        .args(["run", "--node", "stranger", "--log-format", format, "--config"])
        .arg(&config)
        .stdin(Stdio::null());
    command.env("JOURNAL_STREAM", if journal { stream } else { "1:1".to_owned() }).stderr(file);
    let status = command.status()?;
    ensure!(status.code() == Some(2), "{status}");
    Ok(fs::read_to_string(&log)?.lines().map(str::to_owned).collect())
}
