//! What this daemon put into the kernel where the kernel keeps no author: endpoints, limits, sysctls.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::NewEndpoint;
use super::world::{Endpoint, EndpointFlags, Limits, Sysctl};

/// The content of the state file. Routes and rules are not here: they carry our protocol number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// The endpoints that we added, or were about to add.
    pub endpoints: Vec<NewEndpoint>,
    /// The limits that were there before us.
    pub limits: Option<Replaced<Limits>>,
    /// The sysctls that were there before us.
    pub sysctls: BTreeMap<Sysctl, Replaced<String>>,
}

/// A value that we replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced<T> {
    /// What was there.
    pub before: T,
    /// What we wrote last, and what we were about to write: when something else is there at the end, it is somebody
    /// else's and stays.
    pub ours: Vec<T>,
}

/// Flags that the kernel lets anybody change on a living endpoint: they say nothing about its author.
pub const CHANGEABLE: EndpointFlags = EndpointFlags::BACKUP.union(EndpointFlags::FULLMESH);

impl Owned {
    /// Whether an endpoint is ours.
    pub fn has(&self, endpoint: &Endpoint) -> bool {
        self.claims_on(endpoint).next().is_some()
    }

    /// Our claims on an endpoint.
    pub fn claims_on(&self, endpoint: &Endpoint) -> impl Iterator<Item = &NewEndpoint> {
        self.endpoints.iter().filter(move |claim| claim.is_claim_on(endpoint))
    }

    /// Interfaces have other names now, and their sysctls with them.
    pub fn rename(&mut self, renamed: &BTreeMap<String, String>) {
        let moved = |key| match key {
            Sysctl::ReversePathFilter(old) => {
                Sysctl::ReversePathFilter(renamed.get(&old).cloned().unwrap_or(old))
            }
            other => other,
        };
        self.sysctls =
            std::mem::take(&mut self.sysctls).into_iter().map(|(key, value)| (moved(key), value)).collect();
    }
}

impl NewEndpoint {
    /// Whether this is the claim on an endpoint: its address, its interface and the flags that cannot be changed.
    /// Kernels drop flags that they do not know (`laminar` before 6.18).
    pub fn is_claim_on(&self, endpoint: &Endpoint) -> bool {
        let lacking = self.flags.difference(endpoint.flags).difference(CHANGEABLE);
        let foreign = endpoint.flags.difference(self.flags).difference(CHANGEABLE);
        endpoint.port == 0
            && self.addr == endpoint.addr
            && endpoint.ifindex == Some(self.ifindex)
            && foreign.is_empty()
            && EndpointFlags::LAMINAR.contains(lacking)
    }

    /// Whether two claims are on the same endpoint.
    pub fn is_same_claim(&self, other: &Self) -> bool {
        self.addr == other.addr
            && self.ifindex == other.ifindex
            && self.flags.difference(CHANGEABLE) == other.flags.difference(CHANGEABLE)
    }
}
