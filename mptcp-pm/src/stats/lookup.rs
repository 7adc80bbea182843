//! The living subflows by connection, for those who show connections.
use std::collections::BTreeMap;
use std::net::SocketAddr;

use mptcp_common::coupled;
use mptcp_common::path_stats::Established;

use super::account::Account;
use super::clock::Clock;
use super::coupling;
use super::ends;
use super::group::Group;
use super::subflow::Subflow;
use crate::view::figures::Figures;
use crate::view::paths::{ConnectionFigures, SubflowFigures};

/// The figures of connections and subflows; those of none where nothing is measured.
#[derive(Clone, Debug, Default)]
pub struct Lookup<'a> {
    clock: Clock,
    accounts: &'a [Account],
    /// By token; none where nothing is coupled.
    coupled: Option<&'a BTreeMap<u32, Vec<coupled::Figures>>>,
    /// Sorted by token.
    subflows: Vec<&'a Subflow>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(
        clock: &Clock,
        accounts: &'a [Account],
        coupled: &'a BTreeMap<u32, Vec<coupled::Figures>>,
        subflows: impl Iterator<Item = &'a Subflow>,
    ) -> Self {
        let mut subflows: Vec<&Subflow> = subflows.collect();
        subflows.sort_by_key(|subflow| subflow.identity.token);
        Self { clock: clock.clone(), accounts, coupled: Some(coupled), subflows }
    }

    /// A connection's, over its living subflows, by its local token.
    pub fn connection(&self, token: u32) -> Option<Figures> {
        self.together(self.of(token))
    }

    /// The figures of the subflows of one connection; none without any.
    fn together(&self, subflows: &[&Subflow]) -> Option<Figures> {
        let since = subflows.iter().map(|subflow| subflow.since_ns()).min()?;
        Some(Figures { coupled_growth_ratio: self.growth(subflows), ..self.figures(subflows, since) })
    }

    fn growth(&self, subflows: &[&Subflow]) -> Option<f64> {
        let algorithm = subflows.iter().find_map(|subflow| subflow.last.algorithm)?;
        let told = self.coupled?.get(&subflows.first()?.identity.token)?;
        coupling::growth(algorithm, told)
    }

    /// A subflow's, by the local token of its connection and by its ends.
    pub fn subflow(&self, token: u32, local: SocketAddr, remote: SocketAddr) -> Option<Figures> {
        let wanted = (ends::canonical(local), ends::canonical(remote));
        let has_them = |subflow: &&&Subflow| (subflow.identity.local(), subflow.identity.remote()) == wanted;
        let found = self.of(token).iter().find(has_them)?;
        Some(self.figures(std::slice::from_ref(found), found.since_ns()))
    }

    /// All connections with all their living subflows, by token.
    pub fn each(&self) -> Vec<ConnectionFigures> {
        let of_one_connection = |a: &&Subflow, b: &&Subflow| a.identity.token == b.identity.token;
        self.subflows.chunk_by(of_one_connection).filter_map(|subflows| self.exposed(subflows)).collect()
    }

    /// A connection by its subflows, of which the initial one, or else the oldest, says where it leads.
    fn exposed(&self, subflows: &[&Subflow]) -> Option<ConnectionFigures> {
        let is_join = |subflow: &&&Subflow| !subflow.identity.way.is_some_and(Established::is_initial);
        let first = subflows.iter().min_by_key(|subflow| (is_join(subflow), subflow.since_ns()))?;
        let identity = &first.identity;
        let subflow = |subflow: &&Subflow| SubflowFigures {
            uplink: self.accounts.get(subflow.account as usize).map(|account| account.place.name.clone()),
            local: subflow.identity.local(),
            remote: subflow.identity.remote(),
            figures: self.figures(std::slice::from_ref(subflow), subflow.since_ns()),
        };
        Some(ConnectionFigures {
            token: identity.token,
            remote: identity.remote(),
            figures: self.together(subflows)?,
            subflows: subflows.iter().map(subflow).collect(),
        })
    }

    fn of(&self, token: u32) -> &[&'a Subflow] {
        let start = self.subflows.partition_point(|subflow| subflow.identity.token < token);
        let end = self.subflows.partition_point(|subflow| subflow.identity.token <= token);
        &self.subflows[start..end]
    }

    fn figures(&self, subflows: &[&Subflow], since_ns: u64) -> Figures {
        let mut group = Group::default();
        subflows.iter().for_each(|subflow| subflow.add_to(&mut group, &self.clock));
        group.figures(&self.clock, since_ns)
    }
}
