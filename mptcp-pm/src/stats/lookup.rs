//! The living subflows by connection, for those who show connections.
use std::net::SocketAddr;

use super::clock::Clock;
use super::ends;
use super::group::Group;
use super::subflow::Subflow;
use crate::view::figures::Figures;

/// The figures of connections and subflows; those of none where nothing is measured.
#[derive(Clone, Debug, Default)]
pub struct Lookup<'a> {
    clock: Clock,
    /// Sorted by token.
    subflows: Vec<&'a Subflow>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(clock: &Clock, subflows: impl Iterator<Item = &'a Subflow>) -> Self {
        let mut subflows: Vec<&Subflow> = subflows.collect();
        subflows.sort_by_key(|subflow| subflow.sample.kept.token);
        Self { clock: clock.clone(), subflows }
    }

    /// A connection's, over its living subflows, by its local token.
    pub fn connection(&self, token: u32) -> Option<Figures> {
        let subflows = self.of(token);
        let since = subflows.iter().map(|subflow| subflow.since_ns()).min()?;
        Some(self.figures(subflows, since))
    }

    /// A subflow's, by the local token of its connection and by its ends.
    pub fn subflow(&self, token: u32, local: SocketAddr, remote: SocketAddr) -> Option<Figures> {
        let wanted = (ends::canonical(local), ends::canonical(remote));
        let has_them = |subflow: &&&Subflow| {
            (ends::local(&subflow.sample.kept), ends::remote(&subflow.sample.kept)) == wanted
        };
        let found = self.of(token).iter().find(has_them)?;
        Some(self.figures(std::slice::from_ref(found), found.since_ns()))
    }

    fn of(&self, token: u32) -> &[&'a Subflow] {
        let start = self.subflows.partition_point(|subflow| subflow.sample.kept.token < token);
        let end = self.subflows.partition_point(|subflow| subflow.sample.kept.token <= token);
        &self.subflows[start..end]
    }

    fn figures(&self, subflows: &[&Subflow], since_ns: u64) -> Figures {
        let mut group = Group::default();
        subflows.iter().for_each(|subflow| subflow.add_to(&mut group, &self.clock));
        group.figures(&self.clock, since_ns)
    }
}
