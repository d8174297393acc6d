//! Figures: many measurements of one thing, tables for people, JSON for machines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::project;

/// Measurements of one thing, one a round.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; of an even number, the mean of both in the middle. Nothing measured is no number.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// All of it.
    pub fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.min(), "max": self.max(), "rounds": self.0 })
    }
}

/// A table; the first column is text, the others are numbers.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a line of headings.
    pub fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a line.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - cell.chars().count());
                line += &if column == 0 { format!("{cell}{padding}") } else { format!("  {padding}{cell}") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// An aim, and what was reached.
#[derive(Clone, Debug)]
pub struct Aim {
    /// What is measured.
    pub what: String,
    /// What it shall be at most.
    pub at_most: f64,
    /// What it was.
    pub reached: f64,
}

impl Aim {
    /// One line for people.
    pub fn line(&self) -> String {
        let verdict = if self.reached <= self.at_most { "reached" } else { "MISSED" };
        format!("{verdict:<8} {:>6.2}  (at most {:.2})  {}", self.reached, self.at_most, self.what)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let reached = self.reached <= self.at_most;
        json!({ "what": self.what, "at_most": self.at_most, "value": self.reached, "reached": reached })
    }
}

/// On what the figures were measured: they mean nothing without.
pub fn machine() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "kernel": kernel.trim(),
        "cpu": model.map_or("unknown", |(_, name)| name),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "load_average": load.split_whitespace().next().unwrap_or_default(),
    })
}

/// Writes a report; by default to `target/bench/<name>.json`.
pub fn write(name: &str, to: Option<&Path>, report: &Value) -> Result<()> {
    let path: PathBuf = match to {
        Some(path) => path.into(),
        None => project::target_directory()?.join(format!("bench/{name}.json")),
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(&path, serde_json::to_string_pretty(report)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nAll figures are in {}.", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let series = |values: &[f64]| Series(values.to_vec());
        assert_eq!(series(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert!(series(&[]).median().is_nan());
        assert_eq!((series(&[3.0, 1.0]).min(), series(&[3.0, 1.0]).max()), (1.0, 3.0));
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["what", "ns"]);
        table.row(vec!["a packet".into(), "45.5".into()]);
        assert_eq!(table.to_string(), "what        ns\na packet  45.5\n");
    }
}
