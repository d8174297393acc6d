//! Gathers what the metrics are made of.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::handle::Handle;
use crate::api::server::Refusal;
use crate::logging;
use crate::metrics::{self, Own, Sources};

impl Handle {
    /// The metrics, as text. They are made one after the other and on a thread of their own: many of them are much text.
    pub(super) async fn scrape(&self) -> Result<String, Refusal> {
        let _turn = self.scrapes.lock().await;
        let view = self.view.borrow().clone();
        let pair = self.pair.as_ref();
        let mut sources = Sources {
            status: tokio::task::block_in_place(|| self.status_of(&view)),
            serving: view.taking_flows(),
            active: view
                .config
                .services
                .iter()
                .map(|service| pair.is_none_or(|pair| pair.serves(service.address)))
                .collect(),
            tallies: self.health.tallies(),
            own: None,
            started: self.began,
            reloads: view.reloads,
            map_errors: self.map_errors.counts(),
            log_lines_lost: logging::lost(),
            moves: pair.map(|pair| pair.moves()).unwrap_or_default(),
            takeovers: pair.map(|pair| pair.takeovers()).unwrap_or_default(),
        };
        let made = tokio::task::spawn_blocking(move || {
            sources.own = own();
            metrics::text(&sources)
        });
        made.await.map_err(|error| Refusal::new(false, format!("the metrics could not be made: {error}")))
    }
}

/// What this process takes, if the system tells.
fn own() -> Option<Own> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Own {
        cpu: cpu.try_into().ok()?,
        resident: field(&status, "VmRSS:")? * 1024,
        mapped: field(&status, "VmSize:")? * 1024,
        threads: field(&status, "Threads:")?,
        files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        most_files: getrlimit(Resource::Nofile).current,
    })
}

/// A number of proc(5)'s status; memory is in units of 1,024 bytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let own = own().expect("Linux tells");
        assert!(own.resident > 1 << 20 && own.mapped >= own.resident, "{own:?}");
        assert!(own.threads >= 1 && own.files >= 3 && !own.cpu.is_zero(), "{own:?}");
        assert!(own.most_files.is_none_or(|most| most >= own.files), "{own:?}");
    }
}
