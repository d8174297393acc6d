use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};

use super::page::{Kind, Metric};
use super::*;

const GUIDE: &str = include_str!("../../../docs/guide/metrics.md");

const DEPLOYED: [(&str, &str); 4] = [
    ("director.rules.yml", include_str!("../../../deploy/prometheus/director.rules.yml")),
    ("director.alerts.yml", include_str!("../../../deploy/prometheus/director.alerts.yml")),
    ("director.tests.yml", include_str!("../../../deploy/prometheus/director.tests.yml")),
    ("director.json", include_str!("../../../deploy/grafana/director.json")),
];

fn all() -> Vec<&'static Metric> {
    [process::ALL, services::ALL, dataplane::ALL, cluster::ALL].concat()
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[track_caller]
fn assert_value(text: &str, sample: &str, expected: f64) {
    assert_eq!(value(text, sample), Some(expected), "{sample}");
}

#[test]
fn samples_have_their_labels_and_base_units() {
    let text = text(&example::sources(2, 3));
    for (sample, expected) in [
        ("director_build_info{version=\"0.1.0\"}", 1.0),
        ("director_ready", 0.0),
        ("director_problems", 1.0),
        ("director_config_last_reload_successful", 0.0),
        ("director_config_last_reload_success_timestamp_seconds", 1_700_000_100.0),
        ("director_config_reloads_total{result=\"failure\"}", 1.0),
        ("process_cpu_seconds_total", 1.5),
        ("director_packets_dropped_total{reason=\"drop_truncated\"}", 9.0),
        ("director_packets_rejected_total{reason=\"reject_rst\"}", 18.0),
        ("director_flow_events_total{reason=\"flow_unplaced\"}", 21.0),
        ("director_flow_table_entries{kind=\"embryonic\"}", 4.0),
        ("director_map_errors_total{map=\"DEVICES\",operation=\"write\"}", 2.0),
        ("director_map_errors_total{map=\"GUARD\",operation=\"write\"}", 0.0),
        ("director_interface_info{interface=\"eth0\",mode=\"native\"}", 1.0),
        ("director_program_info{interface=\"eth0\",id=\"17\",tag=\"6b5a0c1d2e3f4051\"}", 1.0),
        ("director_service_active{service=\"service-0\"}", 1.0),
        ("director_service_active{service=\"service-1\"}", 0.0),
        ("director_real_bytes_in_total{service=\"service-0\",real=\"10.0.0.1\"}", 98_765_432_109_876.0),
        ("director_real_bytes_out_total{service=\"service-1\",real=\"10.0.1.0:8080\"}", 5_678.0),
        ("director_real_up{service=\"service-0\",real=\"10.0.0.1\"}", 0.0),
        ("director_real_unknown{service=\"service-0\",real=\"10.0.0.2:8080\"}", 1.0),
        (
            "director_real_check_duration_seconds_bucket{service=\"service-0\",real=\"10.0.0.1\",le=\"0.025\"}",
            2.0,
        ),
        (
            "director_real_check_duration_seconds_bucket{service=\"service-0\",real=\"10.0.0.1\",le=\"+Inf\"}",
            3.0,
        ),
        ("director_real_check_duration_seconds_sum{service=\"service-0\",real=\"10.0.0.1\"}", 3.021),
        (
            "director_real_check_failures_total{service=\"service-0\",real=\"10.0.0.1\",reason=\"closed\"}",
            1.0,
        ),
        ("director_group_role{group=\"default\",role=\"active\"}", 1.0),
        ("director_group_role{group=\"default\",role=\"standby\"}", 0.0),
        ("director_group_last_takeover_duration_seconds{group=\"default\"}", 0.007),
        ("director_peer_config_equal{peer=\"lb2\"}", 0.0),
        ("director_peer_clock_ahead_seconds{peer=\"lb2\"}", -0.25),
        ("director_heartbeat_delay_seconds{peer=\"lb2\",link=\"serial /dev/ttyS0\"}", 0.000_25),
        ("director_heartbeat_refused_total{link=\"serial /dev/ttyS0\",reason=\"replayed\"}", 3.0),
        // Seven in all: one came by a link that is not there any more.
        ("director_heartbeat_refused_total{link=\"gone\",reason=\"replayed\"}", 1.0),
        ("director_heartbeat_refused_total{link=\"gone\",reason=\"no-link\"}", 1.0),
        ("director_heartbeat_lateness_seconds{percentile=\"99.9\"}", 0.000_15),
    ] {
        assert_value(&text, sample, expected);
    }
    // What does not pass here, and what nobody knows, is not there.
    assert!(!text.contains("director_real_bytes_out_total{service=\"service-0\""));
    assert!(!text.contains("director_real_up{service=\"service-0\",real=\"10.0.0.2:8080\""));
}

#[test]
fn who_takes_no_new_flows_has_no_weight() {
    let mut sources = example::sources(1, 2);
    sources.serving[0][1] = false;
    let text = text(&sources);
    assert_value(&text, "director_real_effective_weight{service=\"service-0\",real=\"10.0.0.0:8080\"}", 5.0);
    assert_value(&text, "director_real_effective_weight{service=\"service-0\",real=\"10.0.0.1\"}", 0.0);
    assert_value(&text, "director_real_configured_weight{service=\"service-0\",real=\"10.0.0.1\"}", 10.0);
}

#[test]
fn every_metric_is_written_once_and_with_its_labels() {
    let text = text(&example::sources(2, 3));
    let mut written: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        *written.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    for metric in all() {
        assert_eq!(written.remove(metric.name), Some(1), "{}", metric.name);
        let suffix = if metric.kind == Kind::Histogram { "_count" } else { "" };
        let start = format!("{}{suffix}", metric.name);
        let sample = text
            .lines()
            .find(|line| line.strip_prefix(&start).is_some_and(|rest| rest.starts_with([' ', '{'])));
        let labels = labels_of(sample.unwrap_or_else(|| panic!("no sample of {}", metric.name)));
        assert_eq!(labels, metric.labels, "{}", metric.name);
    }
    assert!(written.is_empty(), "not in a list ALL: {written:?}");
}

/// The labels' names of a sample whose values have no marks in them.
fn labels_of(sample: &str) -> Vec<&str> {
    let Some((_, labels)) = sample.split_once('{') else { return Vec::new() };
    labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name).collect()
}

#[test]
fn the_guide_describes_every_metric_as_it_is() {
    let row = |metric: &&Metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
    };
    let expected: Vec<String> = all().iter().map(row).collect();
    let rows =
        GUIDE.lines().filter(|line| line.starts_with("| `director_") || line.starts_with("| `process_"));
    let found: Vec<&str> = rows.collect();
    assert!(
        found == expected,
        "docs/guide/metrics.md has other rows than these, in this order:\n{}",
        expected.join("\n")
    );
}

/// Words of a text that are names of ours.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':')
        .filter(|word| word.starts_with("director_") && !word.ends_with('_'))
}

#[test]
fn rules_and_dashboard_ask_for_what_there_is() {
    let known: Vec<&str> = all().iter().map(|metric| metric.name).collect();
    for (file, text) in DEPLOYED {
        for name in named(text) {
            let family = name.trim_end_matches("_bucket");
            assert!(known.contains(&family), "{file}: there is no {name}");
        }
    }
}

#[test]
fn a_large_configuration_is_written_in_time() {
    let sources = example::sources(1_000, 10);
    // What others take of the machine meanwhile does not count.
    let start = clock_gettime(ClockId::ThreadCPUTime);
    let text = text(&sources);
    let took: Duration = (clock_gettime(ClockId::ThreadCPUTime) - start).try_into().unwrap();
    println!("{} samples, {} bytes in {took:?}", text.lines().count(), text.len());
    assert_eq!(
        text.lines().filter(|line| line.starts_with("director_real_packets_in_total{")).count(),
        10_000
    );
    // A release build takes a fraction of what others do.
    let most = if cfg!(debug_assertions) { 3_000 } else { 200 };
    assert!(took.as_millis() < most, "it took {took:?}");
}
