//! The process: what it is, what it takes, whether it is well.

use std::time::{Duration, SystemTime};

use super::page::{Metric, Page, counter, flag, gauge};
use super::{Sources, unix};

/// What a process takes of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Time of all CPUs.
    pub cpu: Duration,
    /// Bytes of memory: resident, and all that is mapped.
    pub resident: u64,
    /// All that is mapped.
    pub mapped: u64,
    /// Threads.
    pub threads: u64,
    /// Open files.
    pub files: u64,
    /// The most of those; none: no limit.
    pub most_files: Option<u64>,
}

/// What came of reloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    succeeded: u64,
    failed: u64,
    last_failed: bool,
    /// The last one that succeeded.
    at: Option<SystemTime>,
}

impl Reloads {
    /// Counts one.
    pub fn take(&mut self, well: bool, now: SystemTime) {
        self.last_failed = !well;
        if well {
            self.succeeded += 1;
            self.at = Some(now);
        } else {
            self.failed += 1;
        }
    }
}

const BUILD: Metric = gauge("director_build_info", &["version"], "Always 1; the version is its label.");
const READY: Metric = gauge(
    "director_ready",
    &[],
    "1 if the director does what it is configured to, 0 if it has problems: `/readyz` and `director status` say which.",
);
const PROBLEMS: Metric = gauge(
    "director_problems",
    &[],
    "What is wrong at the moment: how many problems `director status` shows.",
);
const RELOAD_WELL: Metric = gauge(
    "director_config_last_reload_successful",
    &[],
    "1 if the last reload succeeded or there was none since the start, 0 if it failed: the configuration before it is in force.",
);
const RELOAD_AT: Metric = gauge(
    "director_config_last_reload_success_timestamp_seconds",
    &[],
    "When the configuration in force was read, in seconds since 1970.",
);
const RELOADS: Metric =
    counter("director_config_reloads_total", &["result"], "Reloads since the start: `success`, `failure`.");
const LINES_LOST: Metric = counter(
    "director_log_lines_lost_total",
    &[],
    "Lines of the log that were lost: nobody reads it fast enough, or its disk is full.",
);
const START: Metric =
    gauge("process_start_time_seconds", &[], "When the process started, in seconds since 1970.");
const CPU: Metric = counter("process_cpu_seconds_total", &[], "Time of CPUs that the process took.");
const RESIDENT: Metric = gauge(
    "process_resident_memory_bytes",
    &[],
    "Memory that the process has resident, the data plane's maps that it has mapped included.",
);
const MAPPED: Metric = gauge("process_virtual_memory_bytes", &[], "Memory that the process has mapped.");
const THREADS: Metric = gauge("process_threads", &[], "Threads of the process.");
const FILES: Metric = gauge("process_open_fds", &[], "Files that the process has open.");
const MOST_FILES: Metric = gauge("process_max_fds", &[], "The most files that the process may have open.");

#[cfg(test)]
pub(super) const ALL: &[&Metric] = &[
    &BUILD,
    &READY,
    &PROBLEMS,
    &RELOAD_WELL,
    &RELOAD_AT,
    &RELOADS,
    &LINES_LOST,
    &START,
    &CPU,
    &RESIDENT,
    &MAPPED,
    &THREADS,
    &FILES,
    &MOST_FILES,
];

pub(super) fn write(page: &mut Page, sources: &Sources) {
    let (status, reloads) = (&sources.status, &sources.reloads);
    page.write(&BUILD, [([status.version.as_str()], 1.0)]);
    page.value(&READY, flag(status.problems.is_empty()));
    page.value(&PROBLEMS, status.problems.len() as f64);
    page.value(&RELOAD_WELL, flag(!reloads.last_failed));
    page.value(&RELOAD_AT, unix(reloads.at.unwrap_or(sources.started)));
    page.write(&RELOADS, [(["success"], reloads.succeeded as f64), (["failure"], reloads.failed as f64)]);
    page.value(&LINES_LOST, sources.log_lines_lost as f64);
    page.value(&START, unix(sources.started));
    if let Some(own) = &sources.own {
        page.value(&CPU, own.cpu.as_secs_f64());
        page.value(&RESIDENT, own.resident as f64);
        page.value(&MAPPED, own.mapped as f64);
        page.value(&THREADS, own.threads as f64);
        page.value(&FILES, own.files as f64);
        page.write(&MOST_FILES, own.most_files.map(|most| ([], most as f64)));
    }
}
