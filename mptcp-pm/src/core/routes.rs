//! The routes of all tables, found by destination without looking at all of them: a router has very many.
use std::collections::BTreeMap;

use ipnet::IpNet;

use super::world::{Family, IfIndex, Route};

/// The routes of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    by_key: BTreeMap<Key, Vec<Route>>,
}

/// What tells a route from those that it may replace: destination, table, metric.
type Key = (IpNet, u32, u32);

impl Routes {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_key.values().flatten()
    }

    /// Those to one destination, of all tables.
    pub fn to(&self, dst: IpNet) -> impl Iterator<Item = &Route> {
        self.by_key.range((dst, 0, 0)..=(dst, u32::MAX, u32::MAX)).flat_map(|(_, routes)| routes)
    }

    /// Those with the destination, table and metric of another one.
    fn like(&self, route: &Route) -> &[Route] {
        self.by_key.get(&key(route)).map_or(&[], Vec::as_slice)
    }

    /// Whether this one is there.
    pub fn contains(&self, route: &Route) -> bool {
        self.like(route).contains(route)
    }

    /// Takes one in, in place of one that differs only in what does not make it another. Says whether it is new.
    pub fn insert(&mut self, route: Route) -> bool {
        let alike = self.by_key.entry(key(&route)).or_default();
        if alike.contains(&route) {
            return false;
        }
        alike.retain(|known| !same_hops(known, &route));
        alike.push(route);
        true
    }

    /// Removes one. Says whether it was there.
    pub fn remove(&mut self, route: &Route) -> bool {
        let Some(alike) = self.by_key.get_mut(&key(route)) else { return false };
        let before = alike.len();
        alike.retain(|known| !same_hops(known, route));
        let removed = alike.len() < before;
        if alike.is_empty() {
            self.by_key.remove(&key(route));
        }
        removed
    }
}

impl FromIterator<Route> for Routes {
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Self {
        let mut all = Self::default();
        for route in routes {
            all.insert(route);
        }
        all
    }
}

/// The destination of everything.
pub fn default_net(family: Family) -> IpNet {
    let unspecified = match family {
        Family::V4 => std::net::IpAddr::from([0_u8; 4]),
        Family::V6 => std::net::IpAddr::from([0_u16; 8]),
    };
    // A prefix length of 0 is valid for both families.
    IpNet::new_assert(unspecified, 0)
}

/// Whether one of the next hops of a route is on a link.
pub fn leaves_by(route: &Route, ifindex: IfIndex) -> bool {
    route.hops.iter().any(|hop| hop.ifindex == ifindex)
}

fn key(route: &Route) -> Key {
    (route.dst, route.table, route.metric)
}

fn same_hops(a: &Route, b: &Route) -> bool {
    a.hops.len() == b.hops.len()
        && a.hops.iter().zip(&b.hops).all(|(a, b)| a.ifindex == b.ifindex && a.gateway == b.gateway)
}
