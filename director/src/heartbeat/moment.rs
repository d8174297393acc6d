//! A point in time on this machine's clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since this machine started, also that in which it was suspended (CLOCK_BOOTTIME; in the simulator, what each machine's
/// own clock says). Only this machine's moments can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment so long after the machine's start.
    pub const fn from_start(since: Duration) -> Moment {
        Moment(since)
    }

    /// How long after the machine's start it is.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier` it is; nothing if it is before.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(duration))
    }
}
