//! One subflow that is known, for those who tell of it.
use mptcp_common::path_stats::Sample;

use super::clock::{Clock, seconds};
use super::group::Group;
use super::places::Place;
use super::subflow::Subflow;
use crate::view::figures::{Figures, Windows};

/// A subflow with all that is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub(super) clock: &'a Clock,
    pub(super) place: &'a Place,
    pub(super) subflow: &'a Subflow,
}

impl<'a> Known<'a> {
    /// What was last heard of it.
    pub fn sample(&self) -> &'a Sample {
        &self.subflow.sample
    }

    /// The name of its uplink; `other` where it has none.
    pub fn uplink(&self) -> &'a str {
        &self.place.name
    }

    /// The provider of that uplink, as the configuration names it.
    pub fn provider(&self) -> Option<&'a str> {
        self.place.provider.as_deref()
    }

    /// Its figures when it has ended, of which the last sample tells.
    pub fn last_figures(&self) -> Figures {
        let live = &self.sample().live;
        let progress_ns = live.delivered_ns.max(live.received_ns);
        let idle = || seconds(live.at_ns.saturating_sub(progress_ns));
        let mut group = Group::default();
        self.subflow.add_to(&mut group, self.clock);
        Figures {
            closed_subflows: 1,
            subflows: 0,
            backup_subflows: 0,
            // Up to its end, not to the last reading, which may be long ago.
            idle_seconds: (progress_ns > 0).then(idle),
            // They end with readings, and no reading ended with it.
            windows: Windows::default(),
            ..group.figures(self.clock, self.subflow.since_ns())
        }
    }
}
