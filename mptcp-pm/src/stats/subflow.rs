//! One living subflow: its last figures and its windows.
use mptcp_common::path_stats::{Kept, Sample};

use super::clock::{Clock, Turned};
use super::group::{Group, Living, Peaks, Totals};
use super::windows::{Tally, Windows};

/// Which subflow: a socket that is disconnected and connected again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    cookie: u64,
    since_ns: u64,
}

impl Id {
    pub(super) fn of(kept: &Kept) -> Self {
        Self { cookie: kept.cookie, since_ns: kept.since_ns }
    }

    /// The last one that a socket can have.
    pub(super) fn last(cookie: u64) -> Self {
        Self { cookie, since_ns: u64::MAX }
    }

    pub(super) fn is_of(&self, cookie: u64) -> bool {
        self.cookie == cookie
    }
}

#[derive(Clone, Debug)]
pub(super) struct Subflow {
    /// The number of the reading in which, or after which, it was last heard of.
    pub(super) heard: u32,
    /// Where it belongs: the number of its account.
    pub(super) account: u32,
    /// When its windows begin.
    since_ns: u64,
    pub(super) sample: Sample,
    windows: Windows,
}

impl Subflow {
    pub(super) fn new(sample: &Sample, account: u32, heard: u32) -> Self {
        let since_ns = if sample.kept.adopted == 0 { sample.kept.since_ns } else { sample.live.at_ns };
        let mut windows = Windows::default();
        windows.add(&origin(sample), &Tally::of(sample));
        Self { heard, account, since_ns, sample: *sample, windows }
    }

    /// Takes in a later sample.
    pub(super) fn go_on(&mut self, sample: &Sample) {
        self.windows.add(&Tally::of(&self.sample), &Tally::of(sample));
        self.sample = *sample;
    }

    pub(super) fn turn(&mut self, turned: Turned) {
        self.windows.turn(turned);
    }

    /// Whether it is being closed, which the kernel may go on trying for minutes after it has left its connection: from
    /// FIN-WAIT-1 to LAST-ACK, and CLOSING (include/net/tcp_states.h).
    fn is_closing(&self) -> bool {
        matches!(self.sample.live.state, 4..=9 | 11)
    }

    pub(super) fn living(&self) -> Living {
        Living::of(&self.sample.live, self.windows.rtt_samples())
    }

    /// Adds it to those of its account that live and are not being closed.
    pub(super) fn count(&self, by_account: &mut [Living]) {
        if !self.is_closing() {
            let sum = &mut by_account[self.account as usize];
            *sum = sum.plus(&self.living());
        }
    }

    /// Adds its figures to a group.
    pub(super) fn add_to(&self, group: &mut Group, clock: &Clock) {
        group.totals = group.totals.plus(&Totals::of(&self.sample));
        group.living = group.living.plus(&self.living());
        group.peaks = group.peaks.plus(&Peaks::of(&self.sample));
        group.windows.add(&self.windows, clock);
    }

    pub(super) fn since_ns(&self) -> u64 {
        self.since_ns
    }
}

/// Where the windows of a subflow begin to count: at nothing, but for one that is older than the program.
pub(super) fn origin(sample: &Sample) -> Tally {
    if sample.kept.adopted == 0 { Tally::default() } else { Tally::of(sample) }
}
