//! What one uplink has delivered under one provider, by the subflows that live and those that have ended.
use std::collections::VecDeque;

use mptcp_common::path_stats::RttHistogram;

use super::clock::{Clock, Turned};
use super::group::{Group, Living, Peaks, Totals};
use super::places::Place;
use super::record::Last;
use super::windows::{Sums, Windows};
use crate::view::paths::{Moment, UplinkFigures};

/// So many moments are kept.
const MOMENTS: usize = 120;

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) place: Place,
    totals: Totals,
    peaks: Peaks,
    /// Bytes acknowledged and received since the last reading.
    bytes: [u64; 2],
    /// All round-trip times up to now.
    rtt: RttHistogram,
    windows: Windows,
    history: VecDeque<Moment>,
}

impl Account {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            totals: Totals::default(),
            peaks: Peaks::default(),
            bytes: [0; 2],
            rtt: RttHistogram::default(),
            windows: Windows::default(),
            history: VecDeque::new(),
        }
    }

    /// A subflow is there. What it had before the daemon looked is no news, but it counts.
    pub(super) fn begin(&mut self, last: &Last) {
        self.totals = self.totals.plus(&Totals::of(last));
        self.peaks = self.peaks.plus(&Peaks::of(last));
    }

    /// A subflow has moved on.
    pub(super) fn go_on(&mut self, before: &Last, after: &Last) {
        self.totals = self.totals.plus(&Totals::of(after).since(&Totals::of(before)));
        self.peaks = self.peaks.plus(&Peaks::of(after));
    }

    /// Bytes were acknowledged and received.
    pub(super) fn moved(&mut self, bytes: [u64; 2]) {
        self.bytes.iter_mut().zip(bytes).for_each(|(sum, more)| *sum += more);
    }

    /// So many round-trip times were measured that are of a bucket.
    pub(super) fn measured(&mut self, bucket: usize, number: u32) {
        self.rtt.buckets[bucket] = self.rtt.buckets[bucket].wrapping_add(number);
    }

    /// A subflow has ended.
    pub(super) fn finish(&mut self) {
        self.totals.closed += 1;
    }

    /// A reading has ended.
    pub(super) fn turn(&mut self, turned: Turned, clock: &Clock, living: &Living) {
        self.windows.add(std::mem::take(&mut self.bytes));
        self.windows.rtt.follow(&self.rtt, |_, _| {});
        self.windows.turn(turned);
        let seconds = clock.last_second();
        if turned[0] && seconds > 0.0 {
            let [acknowledged, received] = self.windows.last_second().map(|bytes| bytes as f64 / seconds);
            self.history.truncate(MOMENTS - 1);
            self.history.push_front(Moment {
                acknowledged_bytes_per_second: acknowledged,
                received_bytes_per_second: received,
                rtt_seconds: living.rtt_seconds(),
            });
        }
    }

    pub(super) fn group(&self, clock: &Clock, living: &Living) -> Group {
        let mut windows = Sums::default();
        windows.add(&self.windows, clock);
        Group { totals: self.totals, living: *living, windows, peaks: self.peaks }
    }

    pub(super) fn view(&self, clock: &Clock, living: &Living) -> UplinkFigures {
        UplinkFigures {
            name: self.place.name.clone(),
            provider: self.place.provider.clone(),
            figures: self.group(clock, living).figures(clock, 0),
            history: self.history.iter().rev().copied().collect(),
        }
    }
}
