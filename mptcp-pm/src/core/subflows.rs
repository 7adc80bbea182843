//! Policy for one connection: what it still lacks, as the next thing to do. Nothing is planned ahead: after each step it
//! is asked again, so that a step never rests on what was true before.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::action::{NewEndpoint, NewSubflow, Step, Token};
use super::connections::{Connection, Manager, Subflow};
use super::retry::Verdict;
use super::service::Service;
use super::steering::{self, Surroundings};
use super::world::{EndpointFlags, Family, Limits};

/// What holds for all connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aims {
    /// The addresses to use, best uplink first, and how: `subflow`, `signal`, `backup`, `fullmesh` as for endpoints.
    pub ways: Vec<NewEndpoint>,
    /// Other addresses of the same uplinks, and the way that each of them stands for.
    pub aliases: BTreeMap<IpAddr, IpAddr>,
    /// Addresses of this machine beside them: what began there (over a VPN, on a bridge) is left alone.
    pub elsewhere: BTreeSet<IpAddr>,
    /// Ways that get no new subflow while the connection lives on another one; `true` for those whose subflows are closed
    /// then, too.
    pub resting: BTreeMap<IpAddr, bool>,
    /// How many further subflows and announced addresses a connection may have.
    pub limits: Option<Limits>,
    /// Subflows are measured: what rests on delays and on the length of transfers can be decided.
    pub measured: bool,
}

impl Aims {
    /// The way that an address stands for, and how high that stands in the owner's order; 0 is the best. None where it is
    /// not ours to use.
    pub fn find(&self, addr: IpAddr) -> Option<(usize, &NewEndpoint)> {
        let addr = self.aliases.get(&addr).copied().unwrap_or(addr);
        self.ways.iter().enumerate().find(|(_, way)| way.addr == addr)
    }

    fn way(&self, addr: IpAddr) -> Option<&NewEndpoint> {
        self.find(addr).map(|(_, way)| way)
    }

    /// The way that an address stands for; itself where it stands for none.
    pub fn place(&self, addr: IpAddr) -> IpAddr {
        self.way(addr).map_or(addr, |way| way.addr)
    }

    /// Whether an address has been lost, or its uplink.
    fn is_lost(&self, addr: IpAddr) -> bool {
        self.way(addr).is_none() && !self.elsewhere.contains(&addr)
    }

    /// How high an address stands in the owner's order.
    pub fn rank(&self, addr: IpAddr) -> Option<usize> {
        self.find(addr).map(|(rank, _)| rank)
    }

    /// Whether an address is of a way that rests.
    fn rests(&self, addr: IpAddr) -> bool {
        self.resting.contains_key(&self.place(addr))
    }

    /// Whether an address is of a way that is held back.
    fn is_held(&self, addr: IpAddr) -> bool {
        self.resting.get(&self.place(addr)) == Some(&true)
    }

    /// Whether the owner wants it to stand by.
    pub fn is_reluctant(&self, addr: IpAddr) -> bool {
        self.way(addr).is_some_and(NewEndpoint::is_backup)
    }

    fn limits(&self) -> Limits {
        self.limits.unwrap_or(Limits { subflows: 2, add_addr_accepted: 0 })
    }
}

/// What to do for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This.
    Now(Step),
    /// Nothing before this time.
    Later(Duration),
    /// Nothing until something happens.
    Nothing,
}

/// Whether a connection's paths are the daemon's business. What began elsewhere stays there: beside a VPN, above all,
/// nothing of it goes.
pub fn is_ours(connection: &Connection, aims: &Aims) -> bool {
    let managed = connection.manager != Manager::Kernel && connection.established;
    managed && !aims.elsewhere.contains(&connection.ends.local().ip())
}

/// What to do next for a connection. The order: what is dead is closed before anything else, so that its data goes first
/// over what is left, which the kernel uses then even if it stands by; raised before, it would have its window full of
/// newer data. Nothing stands by before another one carries.
pub fn next(token: Token, connection: &mut Connection, around: &Surroundings<'_>) -> Next {
    let now = around.now;
    if !is_ours(connection, around.aims) {
        return Next::Nothing;
    }
    connection.retries.prune(|_| true, now);
    steering::decide(token, connection, around);
    let mut later = connection.steering.deadlines().filter(|at| now < *at).min();
    let wanted = [close, raise, withdraw, connect, answer, announce, stand_by];
    for step in wanted.iter().flat_map(|wanted| wanted(connection, around)) {
        match connection.retries.verdict(&step.subject(token), now) {
            Verdict::Now => return Next::Now(with_id(step, connection)),
            Verdict::NotBefore(at) => later = Some(later.map_or(at, |earliest| earliest.min(at))),
            Verdict::GivenUp => {}
        }
    }
    later.map_or(Next::Nothing, Next::Later)
}

/// Ids are taken only for what is done. Where all 255 are taken, those are given back that no subflow uses.
fn with_id(step: Step, connection: &mut Connection) -> Step {
    let mut take = |addr: IpAddr| {
        if connection.ids.of(addr).is_none() {
            let (subflows, announced) = (&connection.subflows, &connection.announced);
            connection.ids.retain(|addr| {
                announced.contains(addr) || subflows.iter().any(|s| s.ends.local().ip() == *addr)
            });
        }
        connection.ids.of(addr).unwrap_or(u8::MAX)
    };
    match step {
        Step::Create(new) => Step::Create(NewSubflow { id: take(new.local), ..new }),
        Step::Announce(way, _) => {
            let id = take(way.addr);
            Step::Announce(way, id)
        }
        other => other,
    }
}

/// Subflows that stand by and are to carry data.
fn raise(connection: &Connection, _: &Surroundings<'_>) -> Vec<Step> {
    let wrong = living(connection).filter(|subflow| subflow.backup && subflow.carries() == Some(true));
    wrong.map(|subflow| Step::SetBackup(subflow.ends, false)).collect()
}

/// Subflows on what is lost or does not answer; never the last one that lives, which goes on when its uplink returns.
fn close(connection: &Connection, around: &Surroundings<'_>) -> Vec<Step> {
    let is_lost = |subflow: &&Subflow| is_lost(connection, subflow, around);
    if living(connection).all(|subflow| is_lost(&subflow)) {
        return Vec::new();
    }
    let lost = living(connection).filter(is_lost);
    lost.map(|subflow| Step::Destroy(subflow.ends, subflow.local_id)).collect()
}

/// Announced addresses that are lost, or no longer to be announced.
fn withdraw(connection: &Connection, Surroundings { aims, .. }: &Surroundings<'_>) -> Vec<Step> {
    let stale = connection.announced.iter().filter(|addr| aims.is_lost(**addr));
    stale.filter_map(|addr| Some(Step::Withdraw(*addr, connection.ids.get(*addr)?))).collect()
}

/// A subflow from each way that has none.
fn connect(connection: &Connection, around: &Surroundings<'_>) -> Vec<Step> {
    let aims = around.aims;
    if !makes_subflows(connection) || is_full(connection, around) {
        return Vec::new();
    }
    let locals: Vec<IpAddr> = connection.subflows.iter().map(|s| aims.place(s.ends.local().ip())).collect();
    let used = |way: &&NewEndpoint| locals.contains(&way.addr);
    let ways = aims.ways.iter().filter(|way| way.flags.contains(EndpointFlags::SUBFLOW));
    let lives = lives_elsewhere(connection, around);
    let rests = |way: &&NewEndpoint| lives && aims.rests(way.addr);
    ways.filter(|way| !used(way) && !rests(way) && around.health.state(way.addr).is_usable())
        .filter_map(|way| {
            let remote = targets(connection, aims).find(|remote| is_same_family(way, remote))?;
            Some(create(connection, way, remote, around))
        })
        .filter(|step| may_begin(step, connection, around))
        .collect()
}

/// One more that carries is a change of what carries, and those are rare, unless nothing is left that does.
fn may_begin(step: &Step, connection: &Connection, around: &Surroundings<'_>) -> bool {
    let carries = matches!(step, Step::Create(new) if !new.backup);
    !carries || connection.steering.may_change(around.now) || !lives(connection, around)
}

/// A subflow to each address that the peer has announced: from the best way, or from every one that says so.
fn answer(connection: &Connection, around: &Surroundings<'_>) -> Vec<Step> {
    let aims = around.aims;
    if !makes_subflows(connection) || is_full(connection, around) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let lives = lives_elsewhere(connection, around);
    for remote in announced(connection, aims) {
        let ways = aims.ways.iter().filter(|way| {
            way.flags.intersects(EndpointFlags::SUBFLOW | EndpointFlags::LAMINAR)
                && is_same_family(way, &remote)
                && !(lives && aims.rests(way.addr))
                && around.health.state(way.addr).is_usable()
        });
        for (place, way) in ways.enumerate() {
            let reached = connection.subflows.iter().any(|subflow| {
                let from = place == 0 || aims.place(subflow.ends.local().ip()) == way.addr;
                from && subflow.ends.remote() == remote
            });
            if !reached && (place == 0 || way.flags.contains(EndpointFlags::FULLMESH)) {
                steps.push(create(connection, way, remote, around));
            }
        }
    }
    steps.retain(|step| may_begin(step, connection, around));
    steps
}

/// Our addresses that the peer is to know; it knows that of the initial subflow.
fn announce(connection: &Connection, Surroundings { aims, .. }: &Surroundings<'_>) -> Vec<Step> {
    let ways = aims.ways.iter().filter(|way| way.flags.contains(EndpointFlags::SIGNAL));
    let initial = aims.place(connection.ends.local().ip());
    ways.filter(|way| way.addr != initial && !connection.announced.contains(&way.addr))
        .map(|way| Step::Announce(way.clone(), 0))
        .collect()
}

/// Subflows that carry data and are to stand by, once another one carries.
fn stand_by(connection: &Connection, _: &Surroundings<'_>) -> Vec<Step> {
    if !living(connection).any(|subflow| !subflow.backup && subflow.carries() == Some(true)) {
        return Vec::new();
    }
    let wrong = living(connection).filter(|subflow| !subflow.backup && subflow.carries() == Some(false));
    wrong.map(|subflow| Step::SetBackup(subflow.ends, true)).collect()
}

fn living(connection: &Connection) -> impl Iterator<Item = &Subflow> {
    connection.subflows.iter().filter(|subflow| subflow.established)
}

/// Whether a connection has a living subflow.
fn lives(connection: &Connection, around: &Surroundings<'_>) -> bool {
    living(connection).any(|subflow| !is_gone(connection, subflow, around))
}

/// Whether a connection has a living subflow on a way that does not rest.
fn lives_elsewhere(connection: &Connection, around: &Surroundings<'_>) -> bool {
    let awake = |subflow: &Subflow| {
        let addr = subflow.ends.local().ip();
        !around.aims.rests(addr) && !is_gone(connection, subflow, around)
    };
    living(connection).any(awake)
}

/// Whether a subflow is to be closed, where others live.
fn is_lost(connection: &Connection, subflow: &Subflow, around: &Surroundings<'_>) -> bool {
    let is_held = around.aims.is_held(subflow.ends.local().ip()) && lives_elsewhere(connection, around);
    let is_superfluous = connection.service == Service::Single && subflow.carries() == Some(false);
    is_gone(connection, subflow, around) || is_held || is_superfluous
}

/// Whether a subflow is on what is lost or does not answer.
fn is_gone(
    connection: &Connection,
    subflow: &Subflow,
    Surroundings { aims, health, .. }: &Surroundings<'_>,
) -> bool {
    let addr = subflow.ends.local().ip();
    let is_dead = !health.state(aims.place(addr)).is_usable() || connection.steering.is_dead(&subflow.ends);
    aims.is_lost(addr) || is_dead
}

/// Who has accepted a connection makes none: behind the client's address there is mostly a NAT.
fn makes_subflows(connection: &Connection) -> bool {
    !connection.server_side && !connection.ending && connection.service != Service::Single
}

/// Subflows that are to be closed do not count: their successors are.
fn is_full(connection: &Connection, around: &Surroundings<'_>) -> bool {
    let counted = connection.subflows.iter().filter(|subflow| !is_lost(connection, subflow, around));
    counted.count() > around.aims.limits().subflows as usize
}

/// Where subflows lead: to the address of the initial one, or else to what the peer has announced.
fn targets<'a>(connection: &'a Connection, aims: &Aims) -> impl Iterator<Item = SocketAddr> + use<'a> {
    let initial = (!connection.deny_join_id0).then_some(connection.ends.remote());
    initial.into_iter().chain(announced(connection, aims))
}

/// What the peer has announced beside the address of the initial subflow, as much of it as is accepted.
fn announced<'a>(connection: &'a Connection, aims: &Aims) -> impl Iterator<Item = SocketAddr> + use<'a> {
    let initial = connection.ends.remote();
    let whole = move |told: SocketAddr| match told.port() {
        0 => SocketAddr::new(told.ip(), initial.port()),
        _ => told,
    };
    let accepted = aims.limits().add_addr_accepted as usize;
    connection.peer.values().map(move |told| whole(*told)).filter(move |told| *told != initial).take(accepted)
}

fn is_same_family(way: &NewEndpoint, remote: &SocketAddr) -> bool {
    Family::of(&way.addr) == Family::of(&remote.ip())
}

/// The id is taken when it is done.
fn create(connection: &Connection, way: &NewEndpoint, remote: SocketAddr, around: &Surroundings<'_>) -> Step {
    let backup = steering::begins_standing_by(connection, way.addr, remote.ip(), around);
    Step::Create(NewSubflow { local: way.addr, ifindex: way.ifindex, id: 0, backup, remote })
}
