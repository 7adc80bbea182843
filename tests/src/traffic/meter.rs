//! Progress of a transfer as the application sees it, readable while it goes on.

use anyhow::{Result, bail, ensure};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Progress is recorded no finer than this.
const RESOLUTION: Duration = Duration::from_millis(1);

/// A moment of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Since the transfer was started.
    pub at: Duration,
    /// Bytes of content that had arrived.
    pub bytes: u64,
}

/// A time without progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// When it began, since the transfer was started.
    pub at: Duration,
    /// How long it was.
    pub length: Duration,
}

/// Bytes that had arrived, over time, to the millisecond.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress(Vec<Sample>);

impl Progress {
    /// Every recorded moment, in order.
    pub fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// Bytes that had arrived by then.
    pub fn bytes_at(&self, at: Duration) -> u64 {
        let after = self.0.partition_point(|sample| sample.at <= at);
        after.checked_sub(1).map_or(0, |index| self.0[index].bytes)
    }

    /// The longest time without progress of which a part lies between two moments; without any since `from`, as far
    /// as `to`.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Stall {
        let begins = self.0.iter().map(|sample| sample.at);
        let ends = begins.clone().skip(1).chain([to]);
        let gaps = begins.zip(ends).filter(|(begin, end)| *begin < to && *end > from);
        let stalls = gaps.map(|(at, end)| Stall { at, length: end - at });
        stalls.max_by_key(|stall| stall.length).unwrap_or_default()
    }

    /// Mean rate between two moments, in bit/s.
    pub fn rate(&self, from: Duration, to: Duration) -> f64 {
        let bytes = self.bytes_at(to) - self.bytes_at(from);
        bytes as f64 * 8.0 / (to - from).as_secs_f64()
    }
}

/// Where a receiver notes what arrives.
pub(super) struct Meter {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: u64,
    last: Option<Duration>,
    stall: Stall,
    samples: Vec<Sample>,
    over: Option<Result<(), String>>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Since the transfer was started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes content that has just arrived.
    pub(super) fn add(&self, bytes: usize) {
        let at = self.elapsed();
        let mut state = self.lock();
        state.bytes += bytes as u64;
        let sample = Sample { at, bytes: state.bytes };
        if let Some(last) = state.last.replace(at) {
            state.note_stall(Stall { at: last, length: at - last });
        }
        match state.samples.last_mut() {
            Some(last) if at - last.at < RESOLUTION => last.bytes = sample.bytes,
            _ => state.samples.push(sample),
        }
        self.changed.notify_all();
    }

    /// The transfer has ended; the first word counts.
    pub(super) fn end(&self, result: Result<(), String>) {
        self.lock().over.get_or_insert(result);
        self.changed.notify_all();
    }

    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().over.clone()?.err()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Waits until this many bytes have arrived.
    pub(super) fn wait_for(&self, bytes: u64, timeout: Duration) -> Result<()> {
        let waiting = |state: &mut State| state.bytes < bytes && state.over.is_none();
        let result = self.changed.wait_timeout_while(self.lock(), timeout, waiting);
        let (state, _) = result.unwrap_or_else(PoisonError::into_inner);
        match &state.over {
            _ if state.bytes >= bytes => Ok(()),
            Some(over) => bail!("the transfer ended at {} of {bytes} bytes: {over:?}", state.bytes),
            None => bail!("only {} of {bytes} bytes arrived in {timeout:?}", state.bytes),
        }
    }

    pub(super) fn stall(&self) -> Stall {
        self.lock().stall
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.lock().samples.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note_stall(&mut self, stall: Stall) {
        if stall.length > self.stall.length {
            self.stall = stall;
        }
    }
}

/// The longest of some response times, as a stall.
pub(super) fn slowest(exchanges: &[(Duration, Duration)]) -> Result<Stall> {
    let longest = exchanges.iter().max_by_key(|(_, length)| *length);
    ensure!(longest.is_some(), "no message was exchanged");
    Ok(longest.map(|(at, length)| Stall { at: *at, length: *length }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_what_had_arrived() {
        let sample = |ms, bytes| Sample { at: Duration::from_millis(ms), bytes };
        let progress = Progress(vec![sample(100, 1000), sample(200, 3000), sample(400, 5000)]);
        assert_eq!(
            [0, 100, 399, 999].map(|ms| progress.bytes_at(Duration::from_millis(ms))),
            [0, 1000, 3000, 5000]
        );
        assert_eq!(progress.rate(Duration::from_millis(100), Duration::from_millis(400)).round(), 106_667.0);
    }

    #[test]
    fn gaps_count_where_a_part_of_them_lies_between() {
        let ms = Duration::from_millis;
        let progress =
            Progress([100, 200, 500, 520, 700].map(|at| Sample { at: ms(at), bytes: at }).to_vec());
        let gap = |from, to| {
            let stall = progress.longest_gap(ms(from), ms(to));
            (stall.at.as_millis(), stall.length.as_millis())
        };
        assert_eq!(
            [gap(0, 150), gap(210, 510), gap(505, 900), gap(710, 760)],
            [(100, 100), (200, 300), (700, 200), (700, 60)]
        );
    }

    #[test]
    fn waiting_ends_with_the_bytes_the_transfer_or_the_time() {
        let meter = Meter::new();
        meter.add(10);
        meter.wait_for(10, Duration::ZERO).unwrap();
        assert!(meter.wait_for(11, Duration::ZERO).unwrap_err().to_string().starts_with("only 10 of 11"));
        meter.end(Err("cut".into()));
        assert!(meter.wait_for(11, Duration::MAX).unwrap_err().to_string().contains("cut"));
    }
}
