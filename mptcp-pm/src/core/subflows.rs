//! Policy for one connection: what it still lacks, as the next thing to do. Nothing is planned ahead: after each step it
//! is asked again, so that a step never rests on what was true before.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::action::{NewEndpoint, NewSubflow, Step, Token};
use super::connections::{Connection, Manager, Subflow};
use super::retry::Verdict;
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
    /// How many further subflows and announced addresses a connection may have.
    pub limits: Option<Limits>,
}

impl Aims {
    fn way(&self, addr: IpAddr) -> Option<&NewEndpoint> {
        let addr = self.aliases.get(&addr).copied().unwrap_or(addr);
        self.ways.iter().find(|way| way.addr == addr)
    }

    /// The way that an address stands for; itself where it stands for none.
    fn place(&self, addr: IpAddr) -> IpAddr {
        self.way(addr).map_or(addr, |way| way.addr)
    }

    /// Whether an address has been lost, or its uplink.
    fn is_lost(&self, addr: IpAddr) -> bool {
        self.way(addr).is_none() && !self.elsewhere.contains(&addr)
    }

    /// Whether a subflow from there stands by; none where that is not our business.
    fn stands_by(&self, subflow: &Subflow) -> Option<bool> {
        self.way(subflow.ends.local.ip()).map(|way| way.flags.contains(EndpointFlags::BACKUP))
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

/// What to do next for a connection. The order: what is to carry data is raised before anything is closed, and what is
/// dead is closed before anything is opened, so that its data moves; nothing stands by before another one carries.
pub fn next(token: Token, connection: &mut Connection, aims: &Aims, now: Duration) -> Next {
    let managed = connection.manager != Manager::Kernel && connection.established;
    // What began elsewhere stays there: beside a VPN, above all, nothing of it goes.
    if !managed || aims.elsewhere.contains(&connection.ends.local.ip()) {
        return Next::Nothing;
    }
    connection.retries.prune(|_| true, now);
    let mut later: Option<Duration> = None;
    let wanted = [raise, close, withdraw, connect, answer, announce, stand_by];
    for step in wanted.iter().flat_map(|wanted| wanted(connection, aims)) {
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
                announced.contains(addr) || subflows.iter().any(|s| s.ends.local.ip() == *addr)
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
fn raise(connection: &Connection, aims: &Aims) -> Vec<Step> {
    let wrong = living(connection).filter(|subflow| subflow.backup && aims.stands_by(subflow) == Some(false));
    wrong.map(|subflow| Step::SetBackup(subflow.ends, false)).collect()
}

/// Subflows on what is lost; never the last one that lives, which goes on when its uplink returns.
fn close(connection: &Connection, aims: &Aims) -> Vec<Step> {
    let is_lost = |subflow: &&Subflow| aims.is_lost(subflow.ends.local.ip());
    if living(connection).all(|subflow| is_lost(&subflow)) {
        return Vec::new();
    }
    let lost = living(connection).filter(is_lost);
    lost.map(|subflow| Step::Destroy(subflow.ends, subflow.local_id)).collect()
}

/// Announced addresses that are lost, or no longer to be announced.
fn withdraw(connection: &Connection, aims: &Aims) -> Vec<Step> {
    let stale = connection.announced.iter().filter(|addr| aims.is_lost(**addr));
    stale.filter_map(|addr| Some(Step::Withdraw(*addr, connection.ids.get(*addr)?))).collect()
}

/// A subflow from each way that has none. Who has accepted a connection makes none: behind the client's address there is
/// mostly a NAT.
fn connect(connection: &Connection, aims: &Aims) -> Vec<Step> {
    if connection.server_side || is_full(connection, aims) {
        return Vec::new();
    }
    let locals: Vec<IpAddr> = connection.subflows.iter().map(|s| aims.place(s.ends.local.ip())).collect();
    let used = |way: &&NewEndpoint| locals.contains(&way.addr);
    let ways = aims.ways.iter().filter(|way| way.flags.contains(EndpointFlags::SUBFLOW));
    ways.filter(|way| !used(way))
        .filter_map(|way| {
            let remote = targets(connection, aims).find(|remote| is_same_family(way, remote))?;
            Some(create(way, remote))
        })
        .collect()
}

/// A subflow to each address that the peer has announced: from the best way, or from every one that says so.
fn answer(connection: &Connection, aims: &Aims) -> Vec<Step> {
    if connection.server_side || is_full(connection, aims) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    for remote in announced(connection, aims) {
        let ways = aims.ways.iter().filter(|way| {
            way.flags.intersects(EndpointFlags::SUBFLOW | EndpointFlags::LAMINAR)
                && is_same_family(way, &remote)
        });
        for (place, way) in ways.enumerate() {
            let reached = connection.subflows.iter().any(|subflow| {
                let from = place == 0 || aims.place(subflow.ends.local.ip()) == way.addr;
                from && subflow.ends.remote == remote
            });
            if !reached && (place == 0 || way.flags.contains(EndpointFlags::FULLMESH)) {
                steps.push(create(way, remote));
            }
        }
    }
    steps
}

/// Our addresses that the peer is to know; it knows that of the initial subflow.
fn announce(connection: &Connection, aims: &Aims) -> Vec<Step> {
    let ways = aims.ways.iter().filter(|way| way.flags.contains(EndpointFlags::SIGNAL));
    let initial = aims.place(connection.ends.local.ip());
    ways.filter(|way| way.addr != initial && !connection.announced.contains(&way.addr))
        .map(|way| Step::Announce(way.clone(), 0))
        .collect()
}

/// Subflows that carry data and are to stand by, once another one carries.
fn stand_by(connection: &Connection, aims: &Aims) -> Vec<Step> {
    let carries = |subflow: &Subflow| !subflow.backup && aims.stands_by(subflow) == Some(false);
    if !living(connection).any(carries) {
        return Vec::new();
    }
    let wrong = living(connection).filter(|subflow| !subflow.backup && aims.stands_by(subflow) == Some(true));
    wrong.map(|subflow| Step::SetBackup(subflow.ends, true)).collect()
}

fn living(connection: &Connection) -> impl Iterator<Item = &Subflow> {
    connection.subflows.iter().filter(|subflow| subflow.established)
}

/// Subflows that are to be closed do not count: their successors are.
fn is_full(connection: &Connection, aims: &Aims) -> bool {
    let counted = connection.subflows.iter().filter(|subflow| !aims.is_lost(subflow.ends.local.ip()));
    counted.count() > aims.limits().subflows as usize
}

/// Where subflows lead: to the address of the initial one, or else to what the peer has announced.
fn targets<'a>(connection: &'a Connection, aims: &Aims) -> impl Iterator<Item = SocketAddr> + use<'a> {
    let initial = (!connection.deny_join_id0).then_some(connection.ends.remote);
    initial.into_iter().chain(announced(connection, aims))
}

/// What the peer has announced beside the address of the initial subflow, as much of it as is accepted.
fn announced<'a>(connection: &'a Connection, aims: &Aims) -> impl Iterator<Item = SocketAddr> + use<'a> {
    let initial = connection.ends.remote;
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
fn create(way: &NewEndpoint, remote: SocketAddr) -> Step {
    let backup = way.flags.contains(EndpointFlags::BACKUP);
    Step::Create(NewSubflow { local: way.addr, ifindex: way.ifindex, id: 0, backup, remote })
}
