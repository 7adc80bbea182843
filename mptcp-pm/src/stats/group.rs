//! The figures of several subflows together: one, those of a connection, of an uplink, of a provider.
use super::clock::{Clock, seconds};
use super::record::Last;
use super::windows::Sums;
use crate::view::figures::Figures;

/// What only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    sent: u64,
    acknowledged: u64,
    received: u64,
    retransmitted: u64,
    segments_sent: u64,
    segments_received: u64,
    segments_retransmitted: u64,
    timeouts: u64,
    opened: u64,
    pub(super) closed: u64,
}

impl Totals {
    /// Those of a living subflow.
    pub(super) fn of(last: &Last) -> Self {
        Self {
            sent: last.sent,
            acknowledged: last.acknowledged,
            received: last.received,
            retransmitted: last.retransmitted,
            segments_sent: last.segments_sent.into(),
            segments_received: last.segments_received.into(),
            segments_retransmitted: last.segments_retransmitted.into(),
            timeouts: last.timeouts.into(),
            opened: 1,
            closed: 0,
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        self.each_with(other, u64::saturating_add)
    }

    /// What they grew by since an earlier time. What shrinks, as a count of 32 bits does that wraps, counts as nothing.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        self.each_with(earlier, u64::saturating_sub)
    }

    fn each_with(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            sent: f(self.sent, other.sent),
            acknowledged: f(self.acknowledged, other.acknowledged),
            received: f(self.received, other.received),
            retransmitted: f(self.retransmitted, other.retransmitted),
            segments_sent: f(self.segments_sent, other.segments_sent),
            segments_received: f(self.segments_received, other.segments_received),
            segments_retransmitted: f(self.segments_retransmitted, other.segments_retransmitted),
            timeouts: f(self.timeouts, other.timeouts),
            opened: f(self.opened, other.opened),
            closed: f(self.closed, other.closed),
        }
    }
}

/// What is true of living subflows now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Living {
    subflows: u64,
    backup: u64,
    rtt: Mean,
    rtt_deviation: Mean,
    rtt_min_us: Option<u32>,
    delivery_rate: Option<u64>,
    congestion_window: Option<u64>,
    in_flight: Option<u64>,
}

impl Living {
    /// One subflow, of which so many round-trip times were measured of late.
    pub(super) fn of(last: &Last, rtt_samples: u64) -> Self {
        let weight = (1 + rtt_samples) as f64;
        let bytes = |segments: u32| (last.mss > 0).then(|| u64::from(segments) * u64::from(last.mss));
        Self {
            subflows: 1,
            backup: u64::from(last.backup),
            rtt: Mean::of(last.rtt_us, weight),
            // Without a round-trip time the kernel has only an initial value.
            rtt_deviation: if last.rtt_us > 0 {
                Mean::of(last.rtt_deviation_us, weight)
            } else {
                Mean::default()
            },
            rtt_min_us: Some(last.rtt_min_us).filter(|rtt| ![0, u32::MAX].contains(rtt)),
            delivery_rate: Some(last.delivery_rate).filter(|rate| *rate > 0),
            congestion_window: bytes(last.cwnd),
            in_flight: bytes(last.in_flight),
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            subflows: self.subflows + other.subflows,
            backup: self.backup + other.backup,
            rtt: self.rtt.plus(other.rtt),
            rtt_deviation: self.rtt_deviation.plus(other.rtt_deviation),
            rtt_min_us: self.rtt_min_us.into_iter().chain(other.rtt_min_us).min(),
            delivery_rate: sum(self.delivery_rate, other.delivery_rate),
            congestion_window: sum(self.congestion_window, other.congestion_window),
            in_flight: sum(self.in_flight, other.in_flight),
        }
    }

    /// The mean smoothed round-trip time.
    pub(super) fn rtt_seconds(&self) -> Option<f64> {
        self.rtt.seconds()
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).reduce(u64::saturating_add)
}

/// A weighted mean of microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Of one value; 0 is none.
    fn of(us: u32, weight: f64) -> Self {
        if us == 0 { Self::default() } else { Self { sum: f64::from(us) * weight, weight } }
    }

    fn plus(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, weight: self.weight + other.weight }
    }

    fn seconds(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight / 1e6)
    }
}

/// All that the figures of a group are made from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) totals: Totals,
    pub(super) living: Living,
    pub(super) windows: Sums,
    pub(super) peaks: Peaks,
}

/// The greatest of what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peaks {
    delivery_rate: u64,
    /// When data last got through; 0 for never.
    progress_ns: u64,
}

impl Peaks {
    pub(super) fn of(last: &Last) -> Self {
        Self { delivery_rate: last.delivery_rate_max, progress_ns: last.progress_ns }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            delivery_rate: self.delivery_rate.max(other.delivery_rate),
            progress_ns: self.progress_ns.max(other.progress_ns),
        }
    }
}

impl Group {
    pub(super) fn add(&mut self, other: &Self) {
        self.totals = self.totals.plus(&other.totals);
        self.living = self.living.plus(&other.living);
        self.windows.plus(&other.windows);
        self.peaks = self.peaks.plus(&other.peaks);
    }

    /// As they are shown, for what began at a time.
    pub(super) fn figures(&self, clock: &Clock, since_ns: u64) -> Figures {
        let (totals, living, peaks) = (&self.totals, &self.living, &self.peaks);
        let float = |number: u64| number as f64;
        let idle = || seconds(clock.now_ns().saturating_sub(peaks.progress_ns));
        Figures {
            sent_bytes: totals.sent,
            acknowledged_bytes: totals.acknowledged,
            received_bytes: totals.received,
            retransmitted_bytes: totals.retransmitted,
            sent_segments: totals.segments_sent,
            received_segments: totals.segments_received,
            retransmitted_segments: totals.segments_retransmitted,
            retransmission_timeouts: totals.timeouts,
            opened_subflows: totals.opened,
            closed_subflows: totals.closed,
            subflows: living.subflows,
            backup_subflows: living.backup,
            rtt_seconds: living.rtt_seconds(),
            rtt_deviation_seconds: living.rtt_deviation.seconds(),
            rtt_min_seconds: living.rtt_min_us.map(|rtt| f64::from(rtt) / 1e6),
            delivery_rate_bytes_per_second: living.delivery_rate.map(float),
            delivery_rate_max_bytes_per_second: (peaks.delivery_rate > 0).then(|| float(peaks.delivery_rate)),
            congestion_window_bytes: living.congestion_window.map(float),
            in_flight_bytes: living.in_flight.map(float),
            idle_seconds: (peaks.progress_ns > 0).then(idle),
            // Of connections alone, which know it.
            coupled_growth_ratio: None,
            windows: self.windows.view(clock, since_ns),
        }
    }
}
