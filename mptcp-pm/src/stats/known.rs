//! One subflow that is known, for those who tell of it.
use super::clock::{Clock, seconds};
use super::group::Group;
use super::places::Place;
use super::record::Identity;
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
    /// Who it is.
    pub fn identity(&self) -> &'a Identity {
        &self.subflow.identity
    }

    /// Whether one of the two ends asked for backup.
    pub fn is_backup(&self) -> bool {
        self.subflow.last.backup
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
        let last = &self.subflow.last;
        let idle = || seconds(last.at_ns.saturating_sub(last.progress_ns));
        let mut group = Group::default();
        self.subflow.add_to(&mut group, self.clock);
        Figures {
            closed_subflows: 1,
            subflows: 0,
            backup_subflows: 0,
            // Up to its end, not to the last reading, which may be long ago.
            idle_seconds: (last.progress_ns > 0).then(idle),
            // They end with readings, and no reading ended with it.
            windows: Windows::default(),
            ..group.figures(self.clock, self.subflow.since_ns())
        }
    }
}
