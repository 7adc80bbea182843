//! The difference between what is wanted and what is there, as actions in a safe order; and what is ours then.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::action::{Action, NewEndpoint, Subject};
use super::observed::World;
use super::owned::{CHANGEABLE, Owned, Replaced};
use super::policy::{self, Desired};
use super::uplink::Uplink;
use super::world::{
    Endpoint, EndpointFlags, Family, Limits, MAIN_TABLE, OUR_PROTOCOL, Route, RouteKind, Rule, Sysctl,
};

/// What to do.
///
/// The order: a subflow's way exists before its endpoint, in the main table or in its own; a new path is offered before
/// an old one is closed; a way goes after the endpoint that used it.
pub fn plan(desired: &Desired, world: &World, owned: &Owned) -> Vec<Action> {
    let (early_routes, late_routes) = stale_routes(desired, world);
    let mut endpoints = Endpoints::compare(desired, world, owned).into_actions();
    let have_a_way =
        |action: &&Action| matches!(action, Action::AddEndpoint(new) if has_way(new, desired, world));
    let rest = endpoints.split_off(endpoints.iter().take_while(have_a_way).count());
    let mut actions = Vec::new();
    // New connections become the daemon's when all is there that they would need without it. The sizes of buffers, too,
    // are for connections that begin: those that live are not kept waiting for another path.
    let (buffers, others): (Vec<_>, Vec<_>) =
        sysctls(desired, world).partition(|(key, _)| *key == Sysctl::ReceiveBuffer);
    let (last, first): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(key, value)| policy::entrusts(key, value));
    let write = |(key, value)| Action::WriteSysctl(key, value);
    actions.extend(first.into_iter().map(write));
    actions.extend(limits(desired, world).map(Action::SetLimits));
    actions.extend(endpoints);
    actions.extend(early_routes.into_iter().map(Action::DeleteRoute));
    actions.extend(missing_routes(desired, world).map(|route| match world.has_way_of(&route) {
        true => Action::ChangeRoute(route),
        false => Action::AddRoute(route),
    }));
    actions.extend(missing_rules(desired, world).map(Action::AddRule));
    actions.extend(rest);
    actions.extend(stale_rules(desired, world).map(Action::DeleteRule));
    actions.extend(late_routes.into_iter().map(Action::DeleteRoute));
    actions.extend(desired.retiring.iter().cloned().map(Action::RetireEndpoint));
    actions.extend(buffers.into_iter().map(write));
    actions.extend(last.into_iter().map(write));
    actions
}

/// Whether the subflows of an endpoint have a way before its rules and routes are made. They are bound to its interface:
/// the main table's default route over it leads them where the uplink's own table will, unless that refuses something.
fn has_way(new: &NewEndpoint, desired: &Desired, world: &World) -> bool {
    let (family, table) = (Family::of(&new.addr), policy::table_of(new.ifindex));
    let mut own = desired.routes.iter().filter(|route| route.table == table && route.family() == family);
    let defaults = world.default_routes(new.ifindex, family);
    defaults.first().is_some_and(|best| best.table == MAIN_TABLE)
        && own.all(|route| route.kind == RouteKind::Unicast)
}

/// Another attempt at the subflows that `failed`, by local address. An endpoint that something else is done to waits.
pub fn second_attempts(
    desired: &Desired,
    world: &World,
    owned: &Owned,
    failed: &BTreeSet<IpAddr>,
    actions: &[Action],
) -> Vec<Action> {
    let seen = world.observation.iter().flat_map(|seen| &seen.endpoints);
    let ours = seen.filter(|endpoint| failed.contains(&endpoint.addr) && owned.has(endpoint));
    ours.filter(|endpoint| !actions.iter().any(|other| other.subject() == Subject::Endpoint(endpoint.addr)))
        .filter(|endpoint| desired.endpoints.iter().any(|wanted| wanted.addr == endpoint.addr))
        .map(|endpoint| Action::RetrySubflows(endpoint.clone()))
        .collect()
}

/// What is ours while these actions are carried out, to be written down before the first of them; without endpoints.
pub fn ownership(
    desired: &Desired,
    world: &World,
    owned: &Owned,
    actions: &[Action],
    stopping: bool,
) -> Owned {
    Owned {
        endpoints: Vec::new(),
        limits: owned_limits(desired, world, owned, actions, stopping),
        sysctls: owned_sysctls(desired, world, owned, actions, stopping),
    }
}

/// The claims that the kernel shows: the others have ended.
pub fn remaining_claims(world: &World, owned: &Owned) -> Vec<NewEndpoint> {
    let seen = world.observation.as_ref();
    let still_there = |claim: &&NewEndpoint| {
        seen.is_some_and(|seen| seen.endpoints.iter().any(|endpoint| claim.is_claim_on(endpoint)))
    };
    owned.endpoints.iter().filter(still_there).cloned().collect()
}

/// What is ours, with the claims on the endpoints that are about to be made.
pub fn with_claims(owned: &Owned, actions: &[Action]) -> Owned {
    let mut endpoints: Vec<NewEndpoint> = actions
        .iter()
        .filter_map(|action| match action {
            Action::AddEndpoint(new) => Some(new.clone()),
            _ => None,
        })
        .collect();
    for claim in &owned.endpoints {
        if !endpoints.iter().any(|new| new.is_same_claim(claim)) {
            endpoints.push(claim.clone());
        }
    }
    endpoints.sort_by_key(|claim| (claim.addr, claim.ifindex, claim.flags));
    Owned { endpoints, ..owned.clone() }
}

/// The state that is wanted at the end: nothing of ours, and what we replaced put back.
pub fn farewell(uplinks: Vec<Uplink>, world: &World, owned: &Owned) -> Desired {
    let seen = world.observation.as_ref();
    let limits = owned
        .limits
        .as_ref()
        .filter(|replaced| seen.and_then(|seen| seen.limits).is_some_and(|l| replaced.ours.contains(&l)))
        .map(|replaced| replaced.before);
    let sysctls = owned
        .sysctls
        .iter()
        .filter(|(key, replaced)| world.sysctl(key).is_some_and(|v| replaced.ours.iter().any(|our| our == v)))
        .map(|(key, replaced)| (key.clone(), replaced.before.clone()))
        .collect();
    Desired { uplinks, limits, sysctls, ..Desired::default() }
}

/// The state that is wanted while a successor is awaited: all stays, and new connections are the kernel's.
pub fn interim(desired: Desired, world: &World, owned: &Owned) -> Desired {
    let mut sysctls = farewell(Vec::new(), world, owned).sysctls;
    sysctls.retain(|key, value| policy::is_in_charge(key) && !policy::entrusts(key, value));
    Desired { sysctls, ..desired }
}

fn sysctls(desired: &Desired, world: &World) -> impl Iterator<Item = (Sysctl, String)> {
    let differs = |key: &Sysctl, value: &str| world.sysctl(key).is_some_and(|seen| seen != value);
    desired
        .sysctls
        .iter()
        .filter(move |(key, value)| differs(key, value))
        .map(|(key, value)| (key.clone(), value.clone()))
}

fn limits(desired: &Desired, world: &World) -> Option<Limits> {
    let seen = world.observation.as_ref()?.limits?;
    desired.limits.filter(|wanted| *wanted != seen)
}

/// How our endpoints differ from what is wanted.
#[derive(Default)]
struct Endpoints {
    add: Vec<NewEndpoint>,
    replace: Vec<(Endpoint, NewEndpoint)>,
    backup: Vec<(Endpoint, bool)>,
    delete: Vec<Endpoint>,
    /// There is not room for all of both.
    crowded: bool,
    /// Connections go on without what is deleted.
    leaving: bool,
}

impl Endpoints {
    fn compare(desired: &Desired, world: &World, owned: &Owned) -> Self {
        let seen: Vec<&Endpoint> = world.observation.iter().flat_map(|seen| &seen.endpoints).collect();
        let ours: Vec<&Endpoint> = seen.iter().copied().filter(|endpoint| owned.has(endpoint)).collect();
        let mut difference = Self { leaving: !desired.endpoints.is_empty(), ..Self::default() };
        for wanted in &desired.endpoints {
            match ours.iter().find(|endpoint| endpoint.addr == wanted.addr) {
                None => difference.add.push(wanted.clone()),
                Some(endpoint) => difference.adjust(endpoint, wanted, owned),
            }
        }
        let stays = |endpoint: &Endpoint| {
            desired.endpoints.iter().any(|wanted| wanted.addr == endpoint.addr)
                || desired.stranded.contains(endpoint)
                || desired.retiring.contains(endpoint)
        };
        difference.delete = ours.into_iter().filter(|endpoint| !stays(endpoint)).cloned().collect();
        difference.crowded = seen.len() + difference.add.len() > desired.room;
        difference
    }

    /// An endpoint with the right address: only its backup flag can be changed where it stands, and doing so spares
    /// its subflows. Flags that the kernel dropped when it was made are not asked for again.
    fn adjust(&mut self, endpoint: &Endpoint, wanted: &NewEndpoint, owned: &Owned) {
        let made_so = owned.claims_on(endpoint).any(|claim| claim.is_same_claim(wanted));
        let different = endpoint.flags.symmetric_difference(wanted.flags).intersection(CHANGEABLE);
        if !made_so || !EndpointFlags::BACKUP.contains(different) {
            self.replace.push((endpoint.clone(), wanted.clone()));
        } else if !different.is_empty() {
            self.backup.push((endpoint.clone(), wanted.flags.contains(EndpointFlags::BACKUP)));
        }
    }

    fn into_actions(mut self) -> Vec<Action> {
        // What is to carry data is raised before what carried it stands by.
        self.backup.sort_by_key(|(_, on)| *on);
        let add = self.add.into_iter().map(Action::AddEndpoint);
        let replace = self
            .replace
            .into_iter()
            .flat_map(|(old, new)| [Action::DeleteEndpoint(old), Action::AddEndpoint(new)]);
        let backup = self.backup.into_iter().map(|(endpoint, on)| Action::SetBackup(endpoint, on));
        let delete = self.delete.into_iter().flat_map(|old| {
            // Not at the very end: there every subflow is closed by the deletion of its endpoint.
            let initial = self.leaving.then_some(Action::CloseInitial(old.addr));
            std::iter::once(Action::DeleteEndpoint(old)).chain(initial)
        });
        if self.crowded {
            delete.chain(add).chain(replace).chain(backup).collect()
        } else {
            add.chain(replace).chain(backup).chain(delete).collect()
        }
    }
}

fn missing_routes(desired: &Desired, world: &World) -> impl Iterator<Item = Route> {
    desired.routes.iter().filter(|wanted| !world.routes.contains(wanted)).cloned()
}

/// Our routes that are not wanted: those that stand where a wanted one has to go, and the others. What is wanted with another
/// window is changed where it is.
fn stale_routes(desired: &Desired, world: &World) -> (Vec<Route>, Vec<Route>) {
    let place = |route: &Route| (route.table, route.dst, route.metric);
    let places: BTreeSet<_> = desired.routes.iter().map(place).collect();
    let wanted = |seen: &Route| places.contains(&place(seen)) && desired.routes.contains(seen);
    let ours = world.routes.iter().filter(|route| route.protocol == OUR_PROTOCOL);
    let is_changed = |seen: &Route| desired.routes.iter().any(|wanted| seen.is_way_of(wanted));
    let stale = ours.filter(|seen| !wanted(seen) && !is_changed(seen)).cloned();
    stale.partition(|stale| places.contains(&place(stale)))
}

fn missing_rules(desired: &Desired, world: &World) -> impl Iterator<Item = Rule> {
    desired.rules.iter().filter(|wanted| !world.rules.contains(wanted)).cloned()
}

fn stale_rules(desired: &Desired, world: &World) -> impl Iterator<Item = Rule> {
    let ours = world.rules.iter().filter(|rule| rule.protocol == OUR_PROTOCOL && !rule.foreign_selectors);
    ours.filter(|seen| !desired.rules.contains(seen)).cloned()
}

fn owned_limits(
    desired: &Desired,
    world: &World,
    owned: &Owned,
    actions: &[Action],
    stopping: bool,
) -> Option<Replaced<Limits>> {
    Record {
        before: owned.limits.as_ref(),
        seen: world.observation.as_ref().and_then(|seen| seen.limits.as_ref()),
        wanted: desired.limits.as_ref(),
        pending: actions.iter().any(|action| matches!(action, Action::SetLimits(_))),
    }
    .next(stopping)
}

fn owned_sysctls(
    desired: &Desired,
    world: &World,
    owned: &Owned,
    actions: &[Action],
    stopping: bool,
) -> std::collections::BTreeMap<Sysctl, Replaced<String>> {
    let pending: BTreeSet<&Sysctl> = actions
        .iter()
        .filter_map(|action| match action {
            Action::WriteSysctl(key, _) => Some(key),
            _ => None,
        })
        .collect();
    let seen = |key| world.observation.as_ref().and_then(|seen| seen.sysctls.get(key));
    let is_there = |key: &Sysctl| match key {
        Sysctl::ReversePathFilter(name) => world.links.values().any(|link| link.name == *name),
        _ => true,
    };
    let keys: BTreeSet<&Sysctl> = owned.sysctls.keys().chain(pending.iter().copied()).collect();
    keys.into_iter()
        .filter(|key| is_there(key))
        .filter_map(|key| {
            let record = Record {
                before: owned.sysctls.get(key),
                seen: seen(key),
                wanted: desired.sysctls.get(key),
                pending: pending.contains(key),
            };
            Some((key.clone(), record.next(stopping)?))
        })
        .collect()
}

/// What is known of a value that we may have replaced.
struct Record<'a, T> {
    /// The record up to now.
    before: Option<&'a Replaced<T>>,
    /// The value that is there.
    seen: Option<&'a T>,
    /// The one that is wanted.
    wanted: Option<&'a T>,
    /// It is about to be written.
    pending: bool,
}

impl<T: Clone + PartialEq> Record<'_, T> {
    /// The record from now on. While the daemon lives it lasts until the value from before is back; at the end, as
    /// long as there is something to restore.
    fn next(&self, stopping: bool) -> Option<Replaced<T>> {
        let record = self.before.cloned();
        if self.pending {
            let (seen, wanted) = (self.seen?, self.wanted?);
            let Replaced { before, ours } =
                record.unwrap_or_else(|| Replaced { before: seen.clone(), ours: Vec::new() });
            let mut ours: Vec<T> =
                ours.into_iter().filter(|value| value == seen && value != wanted).collect();
            // On the way back, what is there has to be known until it is gone.
            ours.extend((*wanted != before).then(|| wanted.clone()));
            return (!ours.is_empty()).then_some(Replaced { before, ours });
        }
        let record = record.filter(|record| self.seen != Some(&record.before))?;
        let known = self.seen.is_some_and(|seen| record.ours.contains(seen));
        match self.seen {
            // Written by somebody who wants the same.
            Some(seen) if !stopping && !known && self.wanted == Some(seen) => {
                Some(Replaced { ours: vec![seen.clone()], ..record })
            }
            _ => (!stopping || known).then_some(record),
        }
    }
}
