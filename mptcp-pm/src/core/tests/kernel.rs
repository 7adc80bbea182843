//! A model of the kernel with its quirks, as far as the core depends on them (measured ones: see ARCHITECTURE.md).
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::core::action::{Action, NewEndpoint};
use crate::core::event::{Failure, FailureKind};
use crate::core::hints::Desktop;
use crate::core::owned::CHANGEABLE;
use crate::core::world::{
    Address, Change, Endpoint, EndpointFlags, Family, Hop, IfIndex, Limits, Link, MAIN_TABLE, Observation,
    Route, RouteKind, Rule, Snapshot, Sysctl,
};

/// Which release is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// One answer for every refusal of an endpoint, no `laminar`.
    V6_1,
    /// 8 endpoints, limits up to 8.
    V6_18,
    /// 255 endpoints, limits up to 64.
    V7_3,
}

#[derive(Clone, Debug)]
pub struct Kernel {
    pub release: Release,
    pub links: BTreeMap<IfIndex, Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    pub endpoints: Vec<Endpoint>,
    pub limits: Limits,
    pub sysctls: BTreeMap<Sysctl, String>,
    /// The ids of the endpoints that the daemon made.
    pub ours: BTreeSet<u8>,
    /// Local addresses from which a subflow lives.
    pub in_use: BTreeSet<IpAddr>,
    /// What the desktop's services say of this machine.
    pub desktop: Desktop,
    /// What was told and not read yet.
    pub told: VecDeque<Change>,
    next_id: u8,
}

/// `RTPROT_KERNEL`.
const BY_KERNEL: u8 = 2;

impl Kernel {
    pub fn new(release: Release) -> Self {
        let sysctls = [
            (Sysctl::Enabled, "1"),
            (Sysctl::PathManagerType, "0"),
            (Sysctl::ReceiveBuffer, RECEIVE_BUFFER),
            (strict("all"), "0"),
        ];
        let mut sysctls: BTreeMap<_, _> =
            sysctls.into_iter().map(|(key, value)| (key, value.to_owned())).collect();
        if release != Release::V6_1 {
            sysctls.insert(Sysctl::PathManager, "kernel".into());
        }
        Self {
            release,
            links: BTreeMap::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            endpoints: Vec::new(),
            limits: Limits { subflows: 2, add_addr_accepted: 0 },
            sysctls,
            ours: BTreeSet::new(),
            in_use: BTreeSet::new(),
            desktop: Desktop::default(),
            told: VecDeque::new(),
            next_id: 1,
        }
    }

    pub fn capacity(&self) -> usize {
        if self.release == Release::V7_3 { 255 } else { 8 }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            links: self.links.values().cloned().collect(),
            addresses: self.addresses.clone(),
            routes: self.routes.clone(),
            rules: self.rules.clone(),
        }
    }

    pub fn observation(&self, keys: &[Sysctl]) -> Observation {
        let value = |key: &Sysctl| Some((key.clone(), self.sysctls.get(key)?.clone()));
        Observation {
            endpoints: self.endpoints.clone(),
            limits: Some(self.limits),
            sysctls: keys.iter().filter_map(value).collect(),
        }
    }

    /// Carries out an action as the daemon's executor does.
    pub fn perform(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Resync
            | Action::Observe(_)
            | Action::Save(_)
            | Action::CloseInitial(_)
            | Action::LookAtConnections
            | Action::Manage(..)
            | Action::Ask(_)
            | Action::Bear(..) => Ok(()),
            Action::WriteSysctl(key, value) => match self.sysctls.get_mut(key) {
                Some(present) => {
                    present.clone_from(value);
                    Ok(())
                }
                None => failure(FailureKind::Other, "no such file"),
            },
            Action::SetLimits(limits) => self.set_limits(*limits),
            Action::AddRoute(route) => self.add_route(route.clone()),
            Action::ChangeRoute(route) => self.change_route(route.clone()),
            Action::DeleteRoute(route) => {
                assert_eq!(route.protocol, crate::core::world::OUR_PROTOCOL, "deletes a foreign route");
                self.delete_route(route);
                Ok(())
            }
            Action::AddRule(rule) => self.add_rule(rule.clone()),
            Action::DeleteRule(rule) => {
                assert_eq!(rule.protocol, crate::core::world::OUR_PROTOCOL, "deletes a foreign rule");
                self.delete_rule(rule);
                Ok(())
            }
            Action::AddEndpoint(new) => self.add_endpoint(new).map(|id| {
                self.ours.insert(id);
            }),
            Action::DeleteEndpoint(old) => {
                if self.is_still(old) {
                    assert!(self.ours.contains(&old.id), "deletes a foreign endpoint: {old:?}");
                    self.delete_endpoint(old.id);
                }
                Ok(())
            }
            Action::RetireEndpoint(old) => {
                if !self.is_still(old) {
                    return Ok(());
                }
                assert!(self.ours.contains(&old.id), "retires a foreign endpoint: {old:?}");
                if self.in_use.contains(&old.addr) {
                    return failure(FailureKind::Other, "needed");
                }
                self.delete_endpoint(old.id);
                Ok(())
            }
            Action::RetrySubflows(old) => {
                if !self.is_still(old) {
                    return Ok(());
                }
                assert!(self.ours.contains(&old.id), "renews a foreign endpoint: {old:?}");
                if self.in_use.contains(&old.addr) {
                    return failure(FailureKind::Other, "in use");
                }
                self.delete_endpoint(old.id);
                Ok(())
            }
            Action::SetBackup(endpoint, on) => {
                if self.is_still(endpoint) {
                    assert!(self.ours.contains(&endpoint.id), "changes a foreign endpoint: {endpoint:?}");
                    let there = self.endpoints.iter_mut().find(|there| there.id == endpoint.id);
                    there.expect("is there").flags.set(EndpointFlags::BACKUP, *on);
                }
                Ok(())
            }
        }
    }

    /// Adds an endpoint without an id. An address is taken whatever the interface; a full table says so, in 6.1 not
    /// in so many words; unknown flags are dropped.
    pub fn add_endpoint(&mut self, new: &NewEndpoint) -> Result<u8, Failure> {
        let kind = |kind| if self.release == Release::V6_1 { FailureKind::Invalid } else { kind };
        let alike = self.endpoints.iter().position(|there| there.addr == new.addr && there.port == 0);
        if let Some(there) = alike {
            if !self.endpoints[there].flags.contains(EndpointFlags::IMPLICIT) {
                return failure(kind(FailureKind::Exists), "exists").map(|()| 0);
            }
            self.endpoints.remove(there);
        }
        if self.endpoints.len() >= self.capacity() {
            return failure(kind(FailureKind::Full), "full").map(|()| 0);
        }
        while self.endpoints.iter().any(|there| there.id == self.next_id) {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(1);
        let known = if self.release == Release::V6_1 {
            EndpointFlags::LAMINAR.complement()
        } else {
            EndpointFlags::all()
        };
        let flags = new.flags & known;
        self.ours.remove(&id);
        self.endpoints.push(Endpoint { id, addr: new.addr, port: 0, ifindex: Some(new.ifindex), flags });
        Ok(id)
    }

    /// By id; the address does not matter, and what is not there is deleted successfully.
    pub fn delete_endpoint(&mut self, id: u8) {
        self.endpoints.retain(|there| there.id != id);
        self.ours.remove(&id);
    }

    /// What the executor compares before it names an id.
    fn is_still(&self, endpoint: &Endpoint) -> bool {
        let fixed = |endpoint: &Endpoint| Endpoint {
            flags: endpoint.flags.difference(CHANGEABLE),
            ..endpoint.clone()
        };
        self.endpoints.iter().any(|there| fixed(there) == fixed(endpoint))
    }

    fn set_limits(&mut self, limits: Limits) -> Result<(), Failure> {
        let most = if self.release == Release::V7_3 { 64 } else { 8 };
        if limits.subflows.max(limits.add_addr_accepted) > most {
            return failure(FailureKind::Invalid, "limit greater than maximum");
        }
        self.limits = limits;
        Ok(())
    }

    pub fn add_route(&mut self, route: Route) -> Result<(), Failure> {
        if self.routes.iter().any(|there| same_key(there, &route)) {
            return failure(FailureKind::Exists, "route exists");
        }
        if !route.hops.iter().all(|hop| self.is_reachable(hop)) {
            return failure(FailureKind::Other, "network is unreachable");
        }
        self.told.push_back(Change::Route(route.clone()));
        self.routes.push(route);
        Ok(())
    }

    /// The watch does not tell of the one that was there.
    fn change_route(&mut self, route: Route) -> Result<(), Failure> {
        let Some(there) = self.routes.iter_mut().find(|there| same_key(there, &route)) else {
            return failure(FailureKind::Other, "no such route");
        };
        assert!(there.is_way_of(&route), "changes more than the window of {there:?}");
        there.clone_from(&route);
        self.told.push_back(Change::Route(route));
        Ok(())
    }

    /// `ip route replace`: the watch tells of both.
    pub fn replace_route(&mut self, route: Route) {
        let old: Vec<Route> = self.routes.iter().filter(|there| same_key(there, &route)).cloned().collect();
        if !route.hops.iter().all(|hop| self.is_reachable(hop)) {
            return;
        }
        old.iter().for_each(|old| self.delete_route(old));
        let _ = self.add_route(route);
    }

    pub fn delete_route(&mut self, route: &Route) {
        if self.routes.contains(route) {
            self.routes.retain(|there| there != route);
            self.told.push_back(Change::RouteGone(route.clone()));
        }
    }

    pub fn add_rule(&mut self, rule: Rule) -> Result<(), Failure> {
        if self.rules.contains(&rule) {
            return failure(FailureKind::Exists, "rule exists");
        }
        self.told.push_back(Change::Rule(rule.clone()));
        self.rules.push(rule);
        Ok(())
    }

    pub fn delete_rule(&mut self, rule: &Rule) {
        if self.rules.contains(rule) {
            self.rules.retain(|there| there != rule);
            self.told.push_back(Change::RuleGone(rule.clone()));
        }
    }

    pub fn is_reachable(&self, hop: &Hop) -> bool {
        let up = self.links.get(&hop.ifindex).is_some_and(|link| link.up);
        let on_link = |gateway: &IpAddr| {
            let on = self.addresses.iter().filter(|address| address.ifindex == hop.ifindex);
            let link_local = matches!(gateway, IpAddr::V6(addr) if addr.is_unicast_link_local());
            hop.onlink || link_local || on.filter_map(Address::network).any(|net| net.contains(gateway))
        };
        up && hop.gateway.as_ref().is_none_or(on_link)
    }

    pub fn add_link(&mut self, link: Link) {
        self.sysctls.insert(strict(&link.name), "1".into());
        self.told.push_back(Change::Link(link.clone()));
        self.links.insert(link.index, link);
    }

    pub fn delete_link(&mut self, index: IfIndex) {
        self.set_up(index, false);
        let Some(link) = self.links.remove(&index) else { return };
        self.sysctls.remove(&strict(&link.name));
        self.addresses.retain(|address| address.ifindex != index);
        self.told.push_back(Change::LinkGone(index));
        self.flush(|route| over(route, index));
    }

    /// Its sysctls keep their values under the new name.
    pub fn rename(&mut self, index: IfIndex, name: &str) {
        let taken = self.links.values().any(|link| link.name == name);
        let Some(link) = self.links.get_mut(&index).filter(|_| !taken) else { return };
        let value = self.sysctls.remove(&strict(&link.name)).unwrap_or_default();
        self.sysctls.insert(strict(name), value);
        name.clone_into(&mut link.name);
        self.told.push_back(Change::Link(link.clone()));
    }

    pub fn set_carrier(&mut self, index: IfIndex, carrier: bool) {
        let Some(link) = self.links.get_mut(&index).filter(|link| link.carrier != carrier) else { return };
        link.carrier = carrier;
        self.told.push_back(Change::Link(link.clone()));
    }

    /// Down: IPv4 routes vanish, IPv6 ones and addresses too. Up: the networks return.
    pub fn set_up(&mut self, index: IfIndex, up: bool) {
        let Some(link) = self.links.get_mut(&index).filter(|link| link.up != up) else { return };
        (link.up, link.carrier) = (up, up);
        self.told.push_back(Change::Link(link.clone()));
        if up {
            let addresses = self.addresses.iter().filter(|address| address.ifindex == index);
            for route in addresses.filter_map(connected).collect::<Vec<_>>() {
                let _ = self.add_route(route);
            }
            return;
        }
        self.flush_v4(index);
        self.flush(|route| route.family() == Family::V6 && over(route, index));
        for addr in self.addrs(index, Family::V6) {
            self.delete_address(index, addr);
        }
    }

    fn flush_v4(&mut self, index: IfIndex) {
        self.flush(|route| route.family() == Family::V4 && route.hops.len() == 1 && over(route, index));
    }

    /// What the kernel says nothing of, the watch knows and tells.
    fn flush(&mut self, goes: impl Fn(&Route) -> bool) {
        for route in self.routes.iter().filter(|route| goes(route)).cloned().collect::<Vec<_>>() {
            self.delete_route(&route);
        }
    }

    fn addrs(&self, index: IfIndex, family: Family) -> Vec<IpAddr> {
        let on = self.addresses.iter().filter(|address| address.ifindex == index);
        on.map(|address| address.addr).filter(|addr| Family::of(addr) == family).collect()
    }

    pub fn add_address(&mut self, address: Address) {
        let up = self.links.get(&address.ifindex).is_some_and(|link| link.up);
        let v4 = Family::of(&address.addr) == Family::V4;
        if self.addrs(address.ifindex, Family::of(&address.addr)).contains(&address.addr) || !(up || v4) {
            return;
        }
        self.told.push_back(Change::Address(address.clone()));
        let route = connected(&address).filter(|_| up && self.links.contains_key(&address.ifindex));
        self.addresses.push(address);
        if let Some(route) = route {
            let _ = self.add_route(route);
        }
    }

    /// Changes what is known of an address: detection is finished, or its lifetime.
    pub fn change_address(&mut self, index: IfIndex, addr: IpAddr, change: impl FnOnce(&mut Address)) {
        let same = |there: &&mut Address| there.ifindex == index && there.addr == addr;
        let Some(address) = self.addresses.iter_mut().find(same) else { return };
        change(address);
        self.told.push_back(Change::Address(address.clone()));
    }

    /// The network's route goes with its last address; so do IPv4 routes that suggest the address, or that are left on a
    /// link without an address.
    pub fn delete_address(&mut self, index: IfIndex, addr: IpAddr) {
        let same = |there: &Address| there.ifindex == index && there.addr == addr;
        let Some(at) = self.addresses.iter().position(same) else { return };
        let gone = self.addresses.remove(at);
        self.told.push_back(Change::AddressGone(index, addr));
        let on_link = self.addresses.iter().filter(|address| address.ifindex == index);
        let shared = on_link.clone().any(|other| other.network() == gone.network());
        if let Some(route) = connected(&gone).filter(|_| !shared) {
            self.delete_route(&route);
        }
        if Family::of(&addr) == Family::V4 {
            self.flush(|route| route.source == Some(addr) && over(route, index));
            if self.addrs(index, Family::V4).is_empty() {
                self.flush_v4(index);
            }
        }
    }
}

/// The reverse path filter of an interface.
/// What `net.ipv4.tcp_rmem` is on most machines.
pub const RECEIVE_BUFFER: &str = "4096\t131072\t6291456";

pub fn strict(name: &str) -> Sysctl {
    Sysctl::ReversePathFilter(name.to_owned())
}

fn over(route: &Route, index: IfIndex) -> bool {
    route.hops.iter().any(|hop| hop.ifindex == index)
}

fn same_key(a: &Route, b: &Route) -> bool {
    (a.table, a.dst, a.metric) == (b.table, b.dst, b.metric)
}

fn connected(address: &Address) -> Option<Route> {
    let metric = if Family::of(&address.addr) == Family::V4 { 0 } else { 256 };
    let dst: IpNet = address.network().filter(|net| net.prefix_len() < net.max_prefix_len())?;
    let hops = vec![Hop { ifindex: address.ifindex, gateway: None, onlink: false }];
    // Two links in one network: a metric of its own keeps the keys apart.
    let metric = metric + address.ifindex;
    let (table, protocol, kind) = (MAIN_TABLE, BY_KERNEL, RouteKind::Unicast);
    Some(Route { table, dst, metric, protocol, kind, hops, source: None, initial_window: None })
}

fn failure(kind: FailureKind, text: &str) -> Result<(), Failure> {
    Err(Failure { kind, text: text.to_owned() })
}
