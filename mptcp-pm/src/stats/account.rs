//! What one uplink has delivered under one provider, by the subflows that live and those that have ended.
use std::collections::VecDeque;

use mptcp_common::path_stats::Sample;

use super::clock::{Clock, Turned};
use super::group::{Group, Living, Peaks, Totals};
use super::places::Place;
use super::windows::{Sums, Tally, Windows};
use crate::view::paths::{Moment, UplinkFigures};

/// So many moments are kept.
const MOMENTS: usize = 120;

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) place: Place,
    totals: Totals,
    peaks: Peaks,
    /// What the windows are made of, up to now.
    tally: Tally,
    /// Up to the last reading.
    counted: Tally,
    windows: Windows,
    history: VecDeque<Moment>,
}

impl Account {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            totals: Totals::default(),
            peaks: Peaks::default(),
            tally: Tally::default(),
            counted: Tally::default(),
            windows: Windows::default(),
            history: VecDeque::new(),
        }
    }

    /// A subflow is there. What it had before the daemon looked is no news, but it counts.
    pub(super) fn begin(&mut self, sample: &Sample) {
        self.totals = self.totals.plus(&Totals::of(sample));
        self.peaks = self.peaks.plus(&Peaks::of(sample));
        self.tally.add(&super::subflow::origin(sample), &Tally::of(sample));
    }

    /// A subflow has moved on.
    pub(super) fn go_on(&mut self, before: &Sample, after: &Sample) {
        self.totals = self.totals.plus(&Totals::of(after).since(&Totals::of(before)));
        self.peaks = self.peaks.plus(&Peaks::of(after));
        self.tally.add(&Tally::of(before), &Tally::of(after));
    }

    /// A subflow has ended.
    pub(super) fn finish(&mut self) {
        self.totals.closed += 1;
    }

    /// A reading has ended.
    pub(super) fn turn(&mut self, turned: Turned, clock: &Clock, living: &Living) {
        self.windows.add(&self.counted, &self.tally);
        self.counted = self.tally;
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
