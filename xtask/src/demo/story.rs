//! How the demo speaks, and keeps count of what did not hold.

use ::tests::clients::Answers;
use anyhow::{Result, bail};

/// The story so far.
#[derive(Default)]
pub struct Story {
    held: u32,
    broken: Vec<String>,
}

impl Story {
    /// Begins a chapter.
    pub fn chapter(&self, title: &str) {
        println!("\n{title}\n{}", "─".repeat(title.chars().count()));
    }

    /// Tells something.
    pub fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Shows what a program printed.
    pub fn show(&self, text: &str) {
        text.lines().for_each(|line| println!("    {line}"));
    }

    /// A promise: says whether it held.
    pub fn expect(&mut self, held: bool, text: &str) {
        println!("  {} {text}", if held { "✓" } else { "✗" });
        if held {
            self.held += 1;
        } else {
            self.broken.push(text.to_owned());
        }
    }

    /// The promise that the answers are spread as `shares` has it, each real server's count within `tolerance`, and
    /// that none failed.
    pub fn expect_spread(&mut self, answers: &Answers, shares: &[(&str, u64)], tolerance: u64) {
        self.expect(is_spread(answers, shares, tolerance), &answers.to_string());
    }

    /// Says how it went.
    pub fn end(self) -> Result<()> {
        if self.broken.is_empty() {
            println!("\nAll {} promises held.", self.held);
            return Ok(());
        }
        bail!("{} of {} promises did not hold", self.broken.len(), self.held + self.broken.len() as u32)
    }
}

fn is_spread(answers: &Answers, shares: &[(&str, u64)], tolerance: u64) -> bool {
    let near = |(real, share): &(&str, u64)| answers.of(real).abs_diff(*share) <= tolerance;
    answers.failed == 0 && shares.iter().all(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_a_tolerance_for_counts_and_none_for_failures() {
        let mut answers = Answers::default();
        answers.by_real.insert("real1".into(), 48);
        answers.by_real.insert("real2".into(), 52);
        assert!(is_spread(&answers, &[("real1", 50), ("real2", 50)], 2));
        assert!(!is_spread(&answers, &[("real1", 50), ("real2", 50)], 1));
        assert!(!is_spread(&answers, &[("real1", 50), ("real3", 50)], 2));
        answers.failed = 1;
        assert!(!is_spread(&answers, &[("real1", 50), ("real2", 50)], 2));
    }

    #[test]
    fn one_broken_promise_fails_the_demo() {
        let mut story = Story::default();
        story.expect(true, "held");
        story.expect(false, "broken");
        assert_eq!(story.end().unwrap_err().to_string(), "1 of 2 promises did not hold");
    }
}
