//! What happened of late, in two slots for each window; and the sums of several, as they are shown.
use mptcp_common::path_stats::RttHistogram;

use super::clock::{Clock, LATELY, Turned, WINDOWS};
use super::histogram::{BUCKETS, Recent, quantile};
use crate::view::figures;

pub(super) const CURRENT: usize = 0;
pub(super) const PREVIOUS: usize = 1;

/// The slots of all windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// Bytes acknowledged and received.
    bytes: [[[u64; 2]; 2]; WINDOWS],
    pub(super) rtt: Recent,
}

impl Windows {
    /// Begins to count round-trip times where a histogram stands.
    pub(super) fn since(origin: &RttHistogram) -> Self {
        Self { rtt: Recent::since(origin), ..Self::default() }
    }

    /// Counts bytes that were acknowledged and received.
    pub(super) fn add(&mut self, bytes: [u64; 2]) {
        for slots in &mut self.bytes {
            slots[CURRENT].iter_mut().zip(bytes).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Begins new slots.
    pub(super) fn turn(&mut self, turned: Turned) {
        for window in (0..WINDOWS).filter(|window| turned[*window]) {
            self.bytes[window] = [[0; 2], self.bytes[window][CURRENT]];
            self.rtt.turn(window);
        }
    }

    /// What the last full slot of the shortest window has: bytes acknowledged and received.
    pub(super) fn last_second(&self) -> [u64; 2] {
        self.bytes[0][PREVIOUS]
    }

    /// How many round-trip times were measured of late.
    pub(super) fn rtt_samples(&self) -> u64 {
        self.rtt.total(LATELY)
    }
}

/// The windows of several, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums([Sum; WINDOWS]);

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: [u64; 2],
    rtt: [u64; BUCKETS],
}

impl Sums {
    /// Adds what belongs to the windows now.
    pub(super) fn add(&mut self, windows: &Windows, clock: &Clock) {
        for (window, sum) in self.0.iter_mut().enumerate() {
            sum.add(windows.bytes[window][CURRENT], windows.rtt.each(window, CURRENT));
            if clock.takes_previous(window) {
                sum.add(windows.bytes[window][PREVIOUS], windows.rtt.each(window, PREVIOUS));
            }
        }
    }

    /// Adds other sums.
    pub(super) fn plus(&mut self, other: &Self) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(sum, other)| sum.add(other.bytes, other.rtt.into_iter().enumerate()));
    }

    /// As it is shown, for what began at a time.
    pub(super) fn view(&self, clock: &Clock, since_ns: u64) -> figures::Windows {
        let [second, ten_seconds, minute, ten_minutes] =
            std::array::from_fn(|window| self.0[window].view(clock.seconds(window, since_ns)));
        figures::Windows { second, ten_seconds, minute, ten_minutes }
    }
}

impl Sum {
    fn add(&mut self, bytes: [u64; 2], rtt: impl Iterator<Item = (usize, u64)>) {
        self.bytes.iter_mut().zip(bytes).for_each(|(sum, more)| *sum += more);
        rtt.for_each(|(bucket, more)| self.rtt[bucket] += more);
    }

    fn view(&self, seconds: f64) -> figures::Window {
        let rate = |bytes: u64| (seconds > 0.0).then(|| bytes as f64 / seconds);
        figures::Window {
            seconds,
            acknowledged_bytes_per_second: rate(self.bytes[0]),
            received_bytes_per_second: rate(self.bytes[1]),
            rtt_p50_seconds: quantile(&self.rtt, 0.5),
            rtt_p95_seconds: quantile(&self.rtt, 0.95),
            rtt_p99_seconds: quantile(&self.rtt, 0.99),
        }
    }
}
