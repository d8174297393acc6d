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
