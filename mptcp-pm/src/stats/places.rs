//! Where a subflow belongs: the uplink that it is bound to, or else that of its local address.
use std::collections::BTreeMap;
use std::net::IpAddr;

use mptcp_common::path_stats::Kept;

use super::ends;
use crate::core::uplink::Uplink;
use crate::core::world::IfIndex;

/// The name of what belongs to no uplink.
const OTHER: &str = "other";

/// An uplink under one provider: what is counted together. A provider that changes leaves behind what it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) provider: Option<String>,
}

/// What belongs where, now.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    uplinks: BTreeMap<IfIndex, Place>,
    addresses: BTreeMap<IpAddr, IfIndex>,
}

impl Places {
    /// Those of the uplinks, also of those that lack something now; and which other addresses their interfaces have.
    pub(super) fn new(uplinks: &[Uplink], others: &[(String, Option<IpAddr>)]) -> Self {
        let mut places = Self::default();
        let is_one = |uplink: &&Uplink| uplink.unused.as_ref().is_none_or(|unused| unused.lost);
        for uplink in uplinks.iter().filter(is_one) {
            let place = Place { name: uplink.name.clone(), provider: uplink.provider.clone() };
            places.uplinks.insert(uplink.ifindex, place);
            let of_it = others.iter().filter(|(name, _)| *name == uplink.name).filter_map(|(_, addr)| *addr);
            let chosen = uplink.families.iter().flat_map(|access| access.addresses.iter().copied());
            // Every interface has one of these, and they say nothing.
            let says = |addr: &IpAddr| !matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
            places.addresses.extend(of_it.chain(chosen).filter(says).map(|addr| (addr, uplink.ifindex)));
        }
        places
    }

    /// Where a subflow belongs.
    pub(super) fn of(&self, kept: &Kept) -> Place {
        let of_address = || self.uplinks.get(self.addresses.get(&ends::local(kept).ip())?);
        let found = self.uplinks.get(&kept.ifindex).or_else(of_address);
        found.cloned().unwrap_or_else(|| Place { name: OTHER.to_owned(), provider: None })
    }
}
