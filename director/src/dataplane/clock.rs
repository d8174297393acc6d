//! The data plane's clock: jiffies, shifted so that a tick is about a second. Only a BPF program can read them, so one does.

use std::time::{Duration, Instant};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};

/// The values of the kernel's CONFIG_HZ.
const KNOWN_HZ: [u32; 6] = [100, 200, 250, 300, 500, 1000];

/// How long the kernel's HZ is measured: 250 and 300 are three jiffies apart then.
const MEASURED_FOR: Duration = Duration::from_millis(60);

/// What a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Jiffies a second.
    pub hz: u32,
    /// `jiffies >> shift` is a tick.
    pub shift: u32,
}

impl Tick {
    /// The tick for a kernel's HZ: the power of two of jiffies that is nearest to a second.
    pub fn of(hz: u32) -> Tick {
        let below = hz.max(1).ilog2();
        let shift =
            if f64::from(hz) / f64::from(1 << below) > std::f64::consts::SQRT_2 { below + 1 } else { below };
        Tick { hz, shift }
    }

    /// How long it is.
    pub fn length(self) -> Duration {
        Duration::from_secs(1) * (1 << self.shift) / self.hz
    }
}

/// What the `clock` program says: jiffies shifted by the constant it was loaded with, modulo 2^32.
pub fn read(program: &Xdp) -> Result<u32, ProgramError> {
    let frame = [0u8; 64];
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
    Ok(program.test_run(options)?.return_value)
}

/// Measures the kernel's HZ with a `clock` program that does not shift.
pub fn measure_hz(program: &Xdp) -> Result<u32, ProgramError> {
    let (start, first) = (Instant::now(), read(program)?);
    std::thread::sleep(MEASURED_FOR);
    let (end, last) = (Instant::now(), read(program)?);
    Ok(nearest(f64::from(last.wrapping_sub(first)) / (end - start).as_secs_f64()))
}

fn nearest(measured: f64) -> u32 {
    let distance = |hz: u32| (f64::from(hz) / measured.max(1.0)).ln().abs();
    KNOWN_HZ.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(KNOWN_HZ[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_about_a_second_at_every_hz() {
        for hz in KNOWN_HZ {
            let length = Tick::of(hz).length();
            assert!((700..1450).contains(&length.as_millis()), "{hz}: {length:?}");
        }
        assert_eq!(Tick::of(250), Tick { hz: 250, shift: 8 });
        assert_eq!(Tick::of(1000).shift, 10);
    }

    #[test]
    fn a_coarse_measurement_is_enough() {
        // Sixty milliseconds, one jiffy too many or too few.
        for (jiffies, hz) in [(6.0, 100), (14.0, 250), (15.0, 250), (18.0, 300), (60.0, 1000)] {
            assert_eq!(nearest(jiffies / 0.06), hz);
        }
    }
}
