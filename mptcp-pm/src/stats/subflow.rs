//! One living subflow: its last figures and its windows.
use mptcp_common::path_stats::{Kept, Sample};

use super::account::Account;
use super::clock::{Clock, Turned};
use super::group::{Group, Living, Peaks, Totals};
use super::record::{Identity, Last};
use super::windows::Windows;

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
    pub(super) identity: Identity,
    pub(super) last: Last,
    windows: Windows,
}

impl Subflow {
    /// One that is new to its account. Its windows begin at nothing; where it is older than the program, at what it has
    /// by now.
    pub(super) fn new(sample: &Sample, number: u32, account: &mut Account, heard: u32) -> Self {
        let (identity, last) = (Identity::of(&sample.kept), Last::of(sample));
        let (since_ns, origin, windows) = match identity.adopted {
            true => (last.at_ns, last, Windows::since(&sample.kept.rtt)),
            false => (identity.since_ns, Last::default(), Windows::default()),
        };
        account.begin(&last);
        let mut subflow = Self { heard, account: number, since_ns, identity, last: origin, windows };
        subflow.count_growth(sample, last, account);
        subflow
    }

    /// Takes in a later sample.
    pub(super) fn go_on(&mut self, sample: &Sample, account: &mut Account) {
        let read = Last::of(sample);
        // What is read while a packet arrives leaves out a byte, which may be its FIN.
        let last = Last { received: read.received.max(self.last.received), ..read };
        account.go_on(&self.last, &last);
        self.count_growth(sample, last, account);
    }

    fn count_growth(&mut self, sample: &Sample, last: Last, account: &mut Account) {
        let bytes = [
            last.acknowledged.saturating_sub(self.last.acknowledged),
            last.received.saturating_sub(self.last.received),
        ];
        self.windows.add(bytes);
        account.moved(bytes);
        self.windows.rtt.follow(&sample.kept.rtt, |bucket, grown| account.measured(bucket, grown));
        self.last = last;
    }

    pub(super) fn turn(&mut self, turned: Turned) {
        self.windows.turn(turned);
    }

    /// Whether it is being closed, which the kernel may go on trying for minutes after it has left its connection: from
    /// FIN-WAIT-1 to LAST-ACK, and CLOSING (include/net/tcp_states.h).
    fn is_closing(&self) -> bool {
        matches!(self.last.state, 4..=9 | 11)
    }

    pub(super) fn living(&self) -> Living {
        Living::of(&self.last, self.windows.rtt_samples())
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
        group.totals = group.totals.plus(&Totals::of(&self.last));
        group.living = group.living.plus(&self.living());
        group.peaks = group.peaks.plus(&Peaks::of(&self.last));
        group.windows.add(&self.windows, clock);
    }

    pub(super) fn since_ns(&self) -> u64 {
        self.since_ns
    }
}
