//! Metrics as they are used: a real Prometheus scrapes a pair, and evaluates every query of the rules and the dashboard.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::clients::Curl;
use tests::lab::{DIRECT_VIPS, Host, Lab, NAT_VIPS, Process, Service};
use tests::pair::{DEFAULT, Pair};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);
/// Where Prometheus answers, on the lab's client.
const PROMETHEUS: &str = "127.0.0.1:9090";
/// What Prometheus calls the directors: as in deploy/prometheus/prometheus.yml.
const INSTANCES: [&str; 2] = ["192.0.2.11:9694", "192.0.2.12:9694"];
const CHECK: &str = "{ type: http, request: /health, interval: 200ms, fast_interval: 100ms, timeout: 300ms }";
const DASHBOARD: &str = include_str!("../../../deploy/grafana/director.json");
const GUIDE: &str = include_str!("../../../docs/guide/metrics.md");

/// Metrics of what did not happen here: queries of nothing else may be without data.
const UNSEEN: [&str; 2] = [
    "director_heartbeat_refused_total",
    // Asked for those that are greater than 0 only.
    "changes(director_group_last_takeover",
];

/// A file of the deployment.
fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus").join(name)
}

/// A Prometheus that scrapes twice a second. Dropped, it ends.
struct Prometheus {
    client: Host,
    _process: Process,
    log: PathBuf,
}

impl Prometheus {
    /// Starts it on the client with the deployment's files.
    fn start(lab: &Lab) -> Result<Prometheus> {
        let directory = lab.directory().join("prometheus");
        fs::create_dir_all(&directory)?;
        for file in ["prometheus.yml", "director.rules.yml", "director.alerts.yml"] {
            let text = fs::read_to_string(deployed(file))?;
            fs::write(directory.join(file), text.replace("_interval: 15s", "_interval: 500ms"))?;
        }
        let log = directory.join("log");
        let mut command = lab.client().command("prometheus");
        command
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .arg("--log.level=warn");
        let process = Process::start(command.stdout(Stdio::null()).stderr(File::create(&log)?))
            .context("`cargo xtask setup` installs prometheus")?;
        Ok(Prometheus { client: lab.client().clone(), _process: process, log })
    }

    fn get(&self, path: &str, arguments: &[&str]) -> Result<Value> {
        let url = format!("http://{PROMETHEUS}{path}");
        let text = self.client.run(&[&["curl", "-sS", "-G", &url], arguments].concat())?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer["status"] == "success", "{text}");
        Ok(answer["data"].clone())
    }

    /// The samples that a query has now.
    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let data = self.get("/api/v1/query", &["--data-urlencode", &format!("query={query}")]);
        let data = data.with_context(|| query.to_owned())?;
        Ok(data["result"].as_array().context("no result")?.clone())
    }

    /// The value of a query that has one sample.
    fn value(&self, query: &str) -> Result<Option<f64>> {
        match self.query(query)?.as_slice() {
            [sample] => Ok(sample["value"][1].as_str().and_then(|value| value.parse().ok())),
            _ => Ok(None),
        }
    }

    fn await_value(&self, query: &str, is: impl Fn(f64) -> bool) -> Result<()> {
        let waited = wait::until(query, PATIENCE, || {
            // Until it listens, curl fails.
            Ok(self.value(query).ok().flatten().filter(|value| is(*value)).map(drop))
        });
        waited.with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            format!("it is {:?}; Prometheus' log:\n{log}", self.query(query))
        })
    }
}

/// Runs promtool, which has to be content.
fn promtool(arguments: &[&str]) -> Result<()> {
    let output = Command::new("promtool").args(arguments).current_dir(deployed(".")).output();
    let output = output.context("`cargo xtask setup` installs prometheus, with promtool")?;
    ensure!(output.status.success(), "promtool {arguments:?}: {output:?}");
    Ok(())
}

#[test]
fn the_deployments_rules_do_what_they_say() -> Result<()> {
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["check", "rules", "director.rules.yml", "director.alerts.yml"])?;
    promtool(&["test", "rules", "director.tests.yml"])
}

/// A pair, and who watches it.
struct Scene {
    // In this order they end.
    prometheus: Prometheus,
    pair: Pair,
}

fn scene() -> Result<Scene> {
    let checked = |name, vip| {
        let service = Service::tcp(name, vip, 8080).set("check", CHECK);
        (21..=23).fold(service, |service, last| service.real(&format!("192.0.2.{last}"), 1))
    };
    let unserved = |name, port| Service::tcp(name, DIRECT_VIPS[0], port).real("192.0.2.21", 0);
    let pair = Pair::prepare(
        2,
        |cluster| cluster,
        |config| {
            config
                .service(checked("checked", DIRECT_VIPS[0]))
                .service(checked("translated", NAT_VIPS[0]).nat())
                .service(unserved("silent", 8001))
                .service(unserved("refusing", 8002).set("unserved", "reject"))
                .line("http: { listen: \"0.0.0.0:9694\" }")
        },
    )?;
    // It scrapes nobody in its first five seconds: meanwhile the directors start.
    let prometheus = Prometheus::start(pair.lab())?;
    Ok(Scene { prometheus, pair: pair.started()? })
}

#[test]
fn prometheus_has_every_figure_of_a_pair_and_sees_them_move() -> Result<()> {
    let Scene { prometheus, pair } = &scene()?;
    pair.await_owner(1, DEFAULT)?;
    let lab = pair.lab();
    prometheus.await_value("count(director_build_info)", |directors| directors == 2.0)?;
    for instance in INSTANCES {
        check_page(lab, instance)?;
    }

    let flows = |service: &str| format!("sum(director_real_new_flows_total{{service=\"{service}\"}})");
    for (service, vip) in [("checked", DIRECT_VIPS[0]), ("translated", NAT_VIPS[0])] {
        prometheus.await_value(&flows(service), |count| count == 0.0)?;
        let answers = Curl::new(&format!("http://{vip}:8080/"), 30).run(lab.client())?;
        ensure!(answers.total() == 30, "{answers:?}");
        prometheus.await_value(&flows(service), |count| count == 30.0)?;
    }
    let owners = "sum by (instance) (director_real_new_flows_total{service=\"checked\"}) > 0";
    let owner = &prometheus.query(owners)?[0]["metric"]["instance"];
    ensure!(*owner == INSTANCES[0], "the one that holds the VIP has the flows, not {owner}");
    prometheus.await_value("group:director_group_active:sum", |owners| owners == 1.0)?;
    prometheus.await_value("count(director_real_up == 1)", |up| up == 12.0)?;
    // Those of the start, when nobody was heard yet, are over.
    let alerts = "ALERTS{alertname=~\"Director(Real|Pool|Group|Peer|Config|NotReady).*\",alertname!=\"DirectorGroupMoved\"}";
    prometheus.await_value(&format!("count({alerts}) or vector(0)"), |count| count == 0.0).with_context(
        || {
            let problems = [1, 2].map(|number| pair.status(number).map(|status| status["problems"].clone()));
            format!("{:?}, for {problems:?}", prometheus.query(alerts))
        },
    )?;

    for number in [1, 2] {
        // Every five seconds from the end of its start it looks at what somebody else may have changed: that, too, has found nothing wrong.
        let problems = wait::until("a repair", Duration::from_secs(10), || {
            let status = pair.status(number).context("no status")?;
            Ok((status["uptime_seconds"].as_u64() >= Some(9)).then(|| status["problems"].clone()))
        })?;
        ensure!(problems == serde_json::json!([]), "lb{number}: {problems}");
    }

    for (port, verdict, service) in [(8001, "dropped", "silent"), (8002, "rejected", "refusing")] {
        let url = format!("http://{}:{port}/", DIRECT_VIPS[0]);
        let refused = lab.client().run(&["curl", "-sS", "--max-time", "0.2", &url]);
        ensure!(refused.is_err(), "{service} has no real server");
        let packets =
            format!("max(director_service_no_real_{verdict}_packets_total{{service=\"{service}\"}})");
        prometheus.await_value(&packets, |count| count >= 1.0)?;
    }

    let fault = lab.cut_cable("real3")?;
    let dead = "{service=\"checked\",real=\"192.0.2.23\"}";
    prometheus.await_value(&format!("count(director_real_up{dead} == 0)"), |directors| directors == 2.0)?;
    prometheus.await_value(&format!("sum(director_real_effective_weight{dead})"), |weight| weight == 0.0)?;
    let failures = format!("min(sum by (instance) (director_real_check_failures_total{dead}))");
    prometheus.await_value(&failures, |failures| failures >= 2.0)?;
    prometheus.await_value("max(service:director_real_usable:ratio{service=\"checked\"})", |share| {
        (0.6..0.7).contains(&share)
    })?;
    prometheus
        .await_value("count(ALERTS{alertname=\"DirectorRealDown\",service=\"checked\"})", |alerts| {
            alerts == 1.0
        })?;

    check_rules(prometheus)?;
    check_dashboard(prometheus)?;
    fault.heal()?;
    prometheus.await_value(&format!("sum(director_real_up{dead})"), |directors| directors == 2.0)
}

/// The page as it is served: promtool has nothing to say against it, and the guide describes all that is there.
fn check_page(lab: &Lab, instance: &str) -> Result<()> {
    let page = lab.directory().join("page");
    let url = format!("http://{instance}/metrics");
    lab.client().run(&["curl", "-sSf", "-o", &page.display().to_string(), &url])?;
    let output = Command::new("promtool").args(["check", "metrics"]).stdin(File::open(&page)?).output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "promtool check metrics: {output:?}");
    for line in fs::read_to_string(&page)?.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').context("no help")?;
            let described =
                GUIDE.lines().any(|row| row.starts_with(&format!("| `{name}` |")) && row.contains(help));
            ensure!(described, "docs/guide/metrics.md does not describe {line}");
        }
    }
    Ok(())
}

/// Each rule was evaluated, and none failed.
fn check_rules(prometheus: &Prometheus) -> Result<()> {
    wait::until("every rule to be evaluated", PATIENCE, || {
        let data = prometheus.get("/api/v1/rules", &[])?;
        let groups = data["groups"].as_array().context("no groups")?;
        let rules: Vec<&Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        ensure!(rules.len() > 30, "{} rules", rules.len());
        for rule in &rules {
            ensure!(rule["health"] != "err", "{rule:#}");
        }
        Ok(rules.iter().all(|rule| rule["health"] == "ok").then_some(()))
    })?;
    // Those that have no figure to show would not be needed.
    for line in fs::read_to_string(deployed("director.rules.yml"))?.lines() {
        if let Some(name) = line.trim().strip_prefix("- record: ") {
            ensure!(!prometheus.query(name)?.is_empty(), "{name} has no data");
        }
    }
    Ok(())
}

/// Every query of the dashboard is one, and has data unless it is about what did not happen.
fn check_dashboard(prometheus: &Prometheus) -> Result<()> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    ensure!(queries.len() > 60, "{} queries", queries.len());
    for query in queries {
        let samples = prometheus.query(&filled_in(&query))?;
        ensure!(
            !samples.is_empty() || UNSEEN.iter().any(|unseen| query.contains(unseen)),
            "no data for {query}"
        );
    }
    Ok(())
}

/// The queries of panels and annotations, and what variables choose from.
fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value.as_str()) {
                    ("expr", Some(query)) => queries.push(query.to_owned()),
                    ("definition", Some(choice)) => {
                        let inner = choice.trim_start_matches("label_values(").rsplit_once(',');
                        queries.extend(inner.map(|(query, _)| query.to_owned()));
                    }
                    _ => collect(value, queries),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
        _ => {}
    }
}

/// A query as Grafana sends it with all chosen.
fn filled_in(query: &str) -> String {
    let variables = [("$__rate_interval", "1m"), ("$cluster", ".*"), ("$instance", ".*"), ("$service", ".*")];
    variables.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}
