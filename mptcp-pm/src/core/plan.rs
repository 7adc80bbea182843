//! The difference between what is wanted and what is there, as actions in a safe order.
use super::action::{Action, NewEndpoint};
use super::observed::World;
use super::owned::{Owned, Replaced};
use super::policy::Desired;
use super::world::{Endpoint, EndpointFlags, Limits, OUR_PROTOCOL, Route, RouteKind, Rule, Sysctl};

/// What to do, and what will be ours when it is done.
///
/// The order: what is ours is written down before it is made; a subflow's way exists before its endpoint; a new
/// path is offered before an old one is closed; a way goes after the endpoint that used it.
pub fn plan(desired: &Desired, world: &World, owned: &Owned) -> (Vec<Action>, Owned) {
    let sysctls = sysctls(desired, world);
    let limits = limits(desired, world);
    let endpoints = Endpoints::compare(desired, world, owned);
    let next = next_owned(desired, world, owned, &sysctls, limits);
    let (late_routes, early_routes): (Vec<Route>, Vec<Route>) =
        stale_routes(desired, world).into_iter().partition(|route| !blocks_another(route, desired));

    let mut actions = Vec::new();
    if next != *owned {
        actions.push(Action::Save(next.clone()));
    }
    actions.extend(sysctls.into_iter().map(|(key, value)| Action::WriteSysctl(key, value)));
    actions.extend(limits.map(Action::SetLimits));
    actions.extend(early_routes.into_iter().map(Action::DeleteRoute));
    actions.extend(missing_routes(desired, world).map(Action::AddRoute));
    actions.extend(missing_rules(desired, world).map(Action::AddRule));
    actions.extend(endpoints.into_actions(desired));
    actions.extend(stale_rules(desired, world).map(Action::DeleteRule));
    actions.extend(late_routes.into_iter().map(Action::DeleteRoute));
    (actions, next)
}

/// The state that is wanted at the end: nothing of ours, and what we replaced put back.
pub fn farewell(world: &World, owned: &Owned) -> Desired {
    let seen = world.observation.as_ref();
    let limits = owned
        .limits
        .filter(|replaced| seen.is_some_and(|seen| seen.limits == Some(replaced.ours)))
        .map(|replaced| replaced.before);
    let sysctls = owned
        .sysctls
        .iter()
        .filter(|(key, replaced)| world.sysctl(key) == Some(replaced.ours.as_str()))
        .map(|(key, replaced)| (key.clone(), replaced.before.clone()))
        .collect();
    Desired { limits, sysctls, ..Desired::default() }
}

fn sysctls(desired: &Desired, world: &World) -> Vec<(Sysctl, String)> {
    let differs = |key: &Sysctl, value: &str| world.sysctl(key).is_some_and(|seen| seen != value);
    desired
        .sysctls
        .iter()
        .filter(|(key, value)| differs(key, value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
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
}

impl Endpoints {
    fn compare(desired: &Desired, world: &World, owned: &Owned) -> Self {
        let seen = world.observation.iter().flat_map(|seen| &seen.endpoints);
        let ours: Vec<&Endpoint> = seen.filter(|endpoint| owned.has(endpoint)).collect();
        let mut difference = Self::default();
        for wanted in &desired.endpoints {
            match ours.iter().find(|endpoint| endpoint.addr == wanted.addr) {
                None => difference.add.push(wanted.clone()),
                Some(endpoint) => difference.adjust(endpoint, wanted),
            }
        }
        difference.delete = ours
            .into_iter()
            .filter(|endpoint| {
                !desired.endpoints.iter().any(|wanted| wanted.addr == endpoint.addr)
                    && !desired.stranded.contains(endpoint)
            })
            .cloned()
            .collect();
        difference
    }

    /// An endpoint with the right address: only its backup flag can be changed where it stands, and doing so spares
    /// its subflows.
    fn adjust(&mut self, endpoint: &Endpoint, wanted: &NewEndpoint) {
        let different = endpoint.flags.symmetric_difference(wanted.flags);
        let elsewhere = endpoint.ifindex != Some(wanted.ifindex);
        if elsewhere || !EndpointFlags::BACKUP.contains(different) {
            self.replace.push((endpoint.clone(), wanted.clone()));
        } else if !different.is_empty() {
            self.backup.push((endpoint.clone(), wanted.flags.contains(EndpointFlags::BACKUP)));
        }
    }

    fn into_actions(self, desired: &Desired) -> impl Iterator<Item = Action> {
        // Not at the very end: there every subflow is closed by the deletion of its endpoint.
        let leaving = !desired.endpoints.is_empty();
        let add = self.add.into_iter().map(Action::AddEndpoint);
        let replace = self
            .replace
            .into_iter()
            .flat_map(|(old, new)| [Action::DeleteEndpoint(old), Action::AddEndpoint(new)]);
        let backup = self.backup.into_iter().map(|(endpoint, on)| Action::SetBackup(endpoint, on));
        let delete = self.delete.into_iter().flat_map(move |old| {
            let initial = leaving.then_some(Action::CloseInitial(old.addr));
            std::iter::once(Action::DeleteEndpoint(old)).chain(initial)
        });
        add.chain(replace).chain(backup).chain(delete)
    }
}

fn is_ours(route: &Route) -> bool {
    route.protocol == OUR_PROTOCOL
}

/// The kernel shows a loopback hop on IPv6 routes that refuse: it says nothing.
fn same(a: &Route, b: &Route) -> bool {
    a == b
        || (a.kind == RouteKind::Unreachable
            && Route { hops: Vec::new(), source: None, ..a.clone() }
                == Route { hops: Vec::new(), source: None, ..b.clone() })
}

fn missing_routes(desired: &Desired, world: &World) -> impl Iterator<Item = Route> {
    desired.routes.iter().filter(|wanted| !world.routes.iter().any(|seen| same(seen, wanted))).cloned()
}

fn stale_routes(desired: &Desired, world: &World) -> Vec<Route> {
    let ours = world.routes.iter().filter(|route| is_ours(route));
    ours.filter(|seen| !desired.routes.iter().any(|wanted| same(seen, wanted))).cloned().collect()
}

/// Whether a stale route stands where a wanted one has to go.
fn blocks_another(stale: &Route, desired: &Desired) -> bool {
    desired
        .routes
        .iter()
        .any(|wanted| wanted.table == stale.table && wanted.dst == stale.dst && wanted.metric == stale.metric)
}

fn missing_rules(desired: &Desired, world: &World) -> impl Iterator<Item = Rule> {
    desired.rules.iter().filter(|wanted| !world.rules.contains(wanted)).cloned()
}

fn stale_rules(desired: &Desired, world: &World) -> impl Iterator<Item = Rule> {
    let ours = world.rules.iter().filter(|rule| rule.protocol == OUR_PROTOCOL && !rule.foreign_selectors);
    ours.filter(|seen| !desired.rules.contains(seen)).cloned()
}

/// What is ours while the plan is carried out: claims are given up only when the kernel shows that they have ended.
fn next_owned(
    desired: &Desired,
    world: &World,
    owned: &Owned,
    sysctls: &[(Sysctl, String)],
    limits: Option<Limits>,
) -> Owned {
    let seen = world.observation.as_ref();
    let mut endpoints = desired.endpoints.clone();
    let still_there = |claim: &&NewEndpoint| {
        seen.is_some_and(|seen| seen.endpoints.iter().any(|endpoint| claim.is_claim_on(endpoint)))
    };
    for claim in owned.endpoints.iter().filter(still_there) {
        if !endpoints.iter().any(|new| new.addr == claim.addr && new.ifindex == claim.ifindex) {
            endpoints.push(claim.clone());
        }
    }
    endpoints.sort_by_key(|claim| (claim.addr, claim.ifindex));
    let mut next = Owned { endpoints, ..owned.clone() };
    next.limits = replaced(owned.limits.as_ref(), seen.and_then(|seen| seen.limits), limits);
    for (key, seen) in seen.iter().flat_map(|seen| &seen.sysctls) {
        let pending = sysctls.iter().find(|(wanted, _)| wanted == key).map(|(_, value)| value.clone());
        match replaced(owned.sysctls.get(key), Some(seen.clone()), pending) {
            Some(replaced) => next.sysctls.insert(key.clone(), replaced),
            None => next.sysctls.remove(key),
        };
    }
    next
}

/// The record of a value that is about to be written (`pending`), or was.
fn replaced<T: Clone + PartialEq>(
    record: Option<&Replaced<T>>,
    seen: Option<T>,
    pending: Option<T>,
) -> Option<Replaced<T>> {
    let before = record.map(|record| record.before.clone()).or_else(|| seen.clone())?;
    match pending {
        Some(ours) if ours != before => Some(Replaced { before, ours }),
        Some(_) => record.cloned(),
        None => record.filter(|_| seen.is_none_or(|seen| seen != before)).cloned(),
    }
}
