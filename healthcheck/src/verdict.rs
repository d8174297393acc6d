//! From outcomes to a verdict: up after `rise` successes in a row, down after `fall` failures in a row. Pure.

/// How many in a row change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Successes, to go up.
    pub rise: u32,
    /// Failures, to go down.
    pub fall: u32,
}

/// What is known of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing yet.
    Unknown,
    /// It passes.
    Up,
    /// It does not.
    Down,
}

/// A verdict, and how far it is from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    state: State,
    /// Outcomes in a row that speak against `state`.
    against: u32,
    /// Whether those are successes (where `state` is Unknown they may be either).
    good: bool,
}

impl Verdict {
    /// Begins with what is assumed.
    pub fn new(state: State) -> Verdict {
        Verdict { state, against: 0, good: false }
    }

    /// What it is now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether outcomes speak against it: then it is worth asking again sooner.
    pub fn is_changing(&self) -> bool {
        self.against > 0
    }

    /// Takes an outcome; the new state, if it changed.
    pub fn take(&mut self, good: bool, limits: Limits) -> Option<State> {
        let (says, needed) = if good { (State::Up, limits.rise) } else { (State::Down, limits.fall) };
        if says == self.state {
            self.against = 0;
            return None;
        }
        self.against = if good == self.good { self.against.saturating_add(1) } else { 1 };
        self.good = good;
        if self.against < needed {
            return None;
        }
        *self = Verdict::new(says);
        Some(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rise: 2, fall: 3 };

    /// `+` for a success, `-` for a failure; the states afterwards: `?`, `u`, `d`.
    fn states(start: State, outcomes: &str) -> String {
        let mut verdict = Verdict::new(start);
        let letter = |outcome| {
            let before = verdict.state();
            let changed = verdict.take(outcome == '+', LIMITS);
            assert_eq!(changed.is_some(), before != verdict.state());
            match verdict.state() {
                State::Unknown => '?',
                State::Up => 'u',
                State::Down => 'd',
            }
        };
        outcomes.chars().map(letter).collect()
    }

    #[test]
    fn only_outcomes_in_a_row_count() {
        for (start, outcomes, after) in [
            (State::Unknown, "++", "?u"),
            (State::Unknown, "---", "??d"),
            (State::Unknown, "+--+-++", "??????u"),
            (State::Up, "--+---", "uuuuud"),
            (State::Down, "+-+-++", "dddddu"),
            (State::Up, "+++", "uuu"),
        ] {
            assert_eq!(states(start, outcomes), after, "{start:?} {outcomes}");
        }
    }

    #[test]
    fn it_is_changing_while_something_speaks_against_it() {
        let mut verdict = Verdict::new(State::Up);
        assert!(!verdict.is_changing());
        verdict.take(false, LIMITS);
        assert!(verdict.is_changing());
        verdict.take(true, LIMITS);
        assert!(!verdict.is_changing());
    }
}
