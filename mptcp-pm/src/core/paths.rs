//! The paths of all connections: takes in what happens to them, and gives one thing to do after the other.
//! The work for an event is that of one connection; a change of the uplinks looks at each connection once.
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::action::{NewEndpoint, Step};
use super::alarm::{Alarm, Figures, Kind, Probe};
use super::connections::{Connection, Ends, Loss, Manager, Notice, Seen, Subflow, Token};
use super::event::{Failure, FailureKind};
use super::health::{self, Health, Request, State};
use super::service::{Rules, Service};
use super::steering::{self, Lessons, Measured, Surroundings};
use super::subflows::{self, Aims, Next};

/// How often a way is asked while data moves: those that stand by carry nothing that could be timed.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// All connections.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Boxed, so that the map's spare room is small.
    connections: BTreeMap<Token, Box<Connection>>,
    /// Those of which subflows were read since the last reading was complete.
    read: Vec<Token>,
    /// Which service type each of them has.
    rules: Rules,
    /// Whose those are that have not begun yet.
    early: services::Early,
    /// Whose those are that have.
    owners: services::Owners,
    /// Those whose service type nobody has been told yet, or that have gone.
    untold: BTreeSet<Token>,
    aims: Aims,
    health: Health,
    /// What ways have added to long transfers.
    lessons: Lessons,
    /// Addresses that were in use before: what lives on them is lost, even where they are still there.
    former: BTreeSet<IpAddr>,
    /// Those with subflows that are silent, or were of late; some no longer have any.
    hurt: BTreeSet<Token>,
    /// Connections that have to be looked at, in turn.
    due: VecDeque<Token>,
    /// The same, to be found.
    waiting: BTreeSet<Token>,
    /// Connections that have to be looked at later, because an attempt has failed.
    timers: BTreeSet<(Duration, Token)>,
    /// Whether this kernel takes the backup flag when a subflow is made (6.12); learned by looking.
    takes_backup: Option<bool>,
    /// The sockets have to be read.
    unsure: bool,
    /// There may be transfers that are about to become long, or that have just been given other paths.
    growing: bool,
}

impl Paths {
    /// What is wanted from now on; `elsewhere` still has addresses that were in use before.
    pub fn aim(&mut self, mut aims: Aims) {
        let is_used = |addr: &IpAddr| aims.ways.iter().any(|way| way.addr == *addr);
        self.former.extend(self.aims.ways.iter().map(|way| way.addr));
        self.former.retain(|addr| !is_used(addr) && aims.elsewhere.contains(addr));
        aims.elsewhere.retain(|addr| !self.former.contains(addr));
        if aims == self.aims {
            return;
        }
        let same = |way: &&NewEndpoint, ways: &[NewEndpoint]| ways.contains(way);
        let gone = self.aims.ways.iter().filter(|way| !same(way, &aims.ways));
        let new = aims.ways.iter().filter(|way| !same(way, &self.aims.ways));
        let changed: BTreeSet<IpAddr> = gone.chain(new).map(|way| way.addr).collect();
        for connection in self.connections.values_mut() {
            connection.retries.forgive(|subject| subject.local().is_none_or(|addr| changed.contains(&addr)));
        }
        self.health.exist(aims.ways.iter().map(|way| (way.addr, way.ifindex)));
        self.lessons.retain(|addr| aims.ways.iter().any(|way| way.addr == addr));
        self.aims = aims;
        self.look_at_all();
    }

    /// The configuration is another: what was given up is tried again.
    pub fn forgive_all(&mut self) {
        self.connections.values_mut().for_each(|connection| connection.retries.forgive_all());
        self.look_at_all();
    }

    /// An event of one connection. Those that are known already change nothing: a dump may have overtaken them.
    pub fn note(&mut self, token: Token, notice: Notice, now: Duration) {
        match notice {
            Notice::Closed => {
                if let Some(mut connection) = self.connections.remove(&token) {
                    connection.steering.close(&mut self.lessons, now);
                }
                self.hurt.remove(&token);
                self.untold.insert(token);
                return;
            }
            Notice::Begun { ends, server_side, deny_join_id0, established } => {
                self.begun(token, ends, server_side);
                if let Some(connection) = self.connections.get_mut(&token) {
                    connection.established |= established;
                    connection.deny_join_id0 |= deny_join_id0;
                }
            }
            other => match self.connections.get_mut(&token) {
                Some(connection) => {
                    self.unsure |= happened(token, connection, other, self.takes_backup, now);
                }
                // Its beginning was not heard.
                None => self.unsure |= matches!(other, Notice::SubflowEstablished { .. }),
            },
        }
        let noted = self.connections.get(&token);
        self.growing |= noted.is_some_and(|connection| may_grow(connection));
        let is_first = |subflow: &Subflow| subflow.established && subflow.born_backup;
        let is_unseen = noted.is_some_and(|connection| connection.subflows.iter().any(is_first));
        self.unsure |= self.takes_backup.is_none() && is_unseen;
        self.look_at(token);
    }

    /// A token may be that of another connection now.
    fn begun(&mut self, token: Token, ends: Ends, server_side: bool) {
        let known = self.connections.get(&token).is_some_and(|connection| connection.ends == ends);
        if !known {
            self.connections.insert(token, Box::new(Connection::new(ends, server_side)));
            self.claim(token);
        }
    }

    /// All connections, as a dump shows them: what is not in it is gone.
    pub fn replace(&mut self, seen: Vec<Seen>) {
        let mut before = std::mem::take(&mut self.connections);
        for mut seen in seen {
            let token = seen.token;
            let known = before.remove(&token).filter(|connection| connection.ends == seen.ends);
            let mut connection =
                known.unwrap_or_else(|| Box::new(Connection::new(seen.ends, seen.server_side)));
            self.takes_backup = self.takes_backup.or_else(|| verdict(&connection.subflows, &seen.subflows));
            let fresh = |subflow: &&mut Subflow| !subflow.established && self.takes_backup != Some(false);
            for subflow in seen.subflows.iter_mut().filter(fresh) {
                subflow.born_backup =
                    connection.subflow(&subflow.ends).is_some_and(|known| known.born_backup);
            }
            self.owners.complete(&mut connection.owner, std::mem::take(&mut seen.owner));
            connection.update(seen);
            self.connections.insert(token, connection);
            self.claim(token);
        }
        self.hurt.retain(|token| !before.contains_key(token));
        self.untold.extend(before.into_keys());
        self.unsure = false;
        self.look_at_all();
    }

    /// Whether a connection is known to be managed by the kernel.
    pub fn is_the_kernels(&self, token: Token) -> bool {
        self.connections.get(&token).is_some_and(|connection| connection.manager == Manager::Kernel)
    }

    /// Whether something was seen that only a dump explains.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// How many connections are known.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// The next thing to do, to be answered by [`Paths::done`].
    pub fn next(&mut self, now: Duration) -> Option<(Token, Step)> {
        while let Some((at, token)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.look_at(token);
        }
        while let Some(token) = self.due.pop_front() {
            self.waiting.remove(&token);
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            meet(connection, &self.aims, &mut self.health, health::EXPECTED_FOR / 2, now);
            let around = Surroundings { aims: &self.aims, health: &self.health, lessons: &self.lessons, now };
            match subflows::next(token, connection, &around) {
                Next::Now(step) => return Some((token, step)),
                Next::Later(at) => drop(self.timers.insert((at, token))),
                Next::Nothing => {}
            }
        }
        None
    }

    /// When [`Paths::next`] may have something; zero when it may have now.
    pub fn deadline(&self) -> Option<Duration> {
        match self.due.is_empty() {
            false => Some(Duration::ZERO),
            true => self.timers.first().map(|(at, _)| *at).into_iter().chain(self.health.deadline()).min(),
        }
    }

    /// A step was carried out, or was not.
    pub fn done(&mut self, token: Token, step: &Step, result: &Result<(), Failure>, now: Duration) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match result {
            Err(failure) if failure.kind == FailureKind::OtherManager => {
                connection.manager = Manager::Kernel;
                self.untold.insert(token);
            }
            Err(failure) if failure.kind == FailureKind::Gone && is_ending(step) => {
                carried_out(connection, step);
            }
            Err(failure) => {
                self.unsure |= failure.kind == FailureKind::Ending;
                connection.retries.record(step.subject(token), Some(failure.text.clone()), now);
            }
            Ok(()) => {
                connection.manager = Manager::Daemon;
                connection.retries.record(step.subject(token), None, now);
                carried_out(connection, step);
            }
        }
        self.look_at(token);
    }

    /// What was read of a subflow.
    pub fn read(&mut self, figures: &Figures, now: Duration) {
        let Some(connection) = self.connections.get_mut(&figures.token) else { return };
        if let Some(known) = connection.subflow_mut(&figures.ends).filter(|known| known.established) {
            known.measured = Some(Measured::next(known.measured, figures, now));
            self.read.push(figures.token);
        }
    }

    /// A reading of all subflows is complete. Only where it changes something is a connection looked at.
    pub fn measured(&mut self, now: Duration) {
        let mut read = std::mem::take(&mut self.read);
        read.sort_unstable();
        read.dedup();
        let mut moved = false;
        self.growing = false;
        for token in read {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            let Connection { steering, subflows, .. } = &mut **connection;
            if steering.measured(subflows, &mut self.lessons, now) {
                moved = true;
                // What stands by is not measured otherwise.
                meet(connection, &self.aims, &mut self.health, MEASURE_EVERY, now);
            }
            let steering = &connection.steering;
            self.growing |= may_grow(connection) && steering.is_promising(now) || steering.is_trying(now);
            let around = Surroundings { aims: &self.aims, health: &self.health, lessons: &self.lessons, now };
            let has_choice = connection.subflows.len() > 1 && subflows::is_ours(connection, &self.aims);
            if has_choice && steering::would_decide(connection, &around) {
                self.look_at(token);
            }
        }
        if moved {
            self.health.moved(now);
        }
    }

    /// What was read of a subflow that the kernel manages: who answers over which way is found out, so that it means
    /// something when nobody does. Of those that the other end has opened it does not: a client may go.
    pub fn overhear(&mut self, read: &Figures, now: Duration) {
        let has_choice = self.aims.ways.iter().any(|way| way.ifindex != self.aims.ways[0].ifindex);
        let local = read.ends.local().ip();
        if has_choice && read.opened && self.aims.rank(local).is_some() {
            let remote = read.ends.remote().ip();
            self.health.meet(self.aims.place(local), remote, health::EXPECTED_FOR / 2, now);
            self.health.moved(now);
        }
    }

    /// The ways over which nobody answers.
    pub fn unanswered(&self) -> BTreeSet<IpAddr> {
        let ways = self.aims.ways.iter().map(|way| way.addr);
        ways.filter(|addr| !self.health.state(*addr).is_usable()).collect()
    }

    /// Whether readings should come often: there are transfers that may become long, or that try other paths.
    pub const fn is_growing(&self) -> bool {
        self.growing
    }

    /// A subflow is silent, or no longer is. At the end that has accepted the connection it is only set aside: the other
    /// one knows its ways better.
    pub fn alarm(&mut self, alarm: &Alarm, now: Duration) {
        let local = alarm.ends.local().ip();
        let Some(connection) = self.connections.get_mut(&alarm.token) else {
            // One of the kernel's tells of its way, where it is known who answers there.
            if self.aims.rank(local).is_some() {
                self.health.alarm(self.aims.place(local), alarm, now);
            }
            return;
        };
        let ours = connection.manager != Manager::Kernel && self.aims.rank(local).is_some();
        if !ours || connection.subflow(&alarm.ends).is_none() {
            return;
        }
        let alone = match connection.server_side {
            true => false,
            false => self.health.alarm(self.aims.place(local), alarm, now),
        };
        match alarm.kind {
            Kind::Silent => {
                connection.steering.silent(alarm.ends, alone);
                self.hurt.insert(alarm.token);
            }
            Kind::Heard => connection.steering.heard(&alarm.ends, now),
            Kind::Late | Kind::Quiet => {}
        }
        self.look_at(alarm.token);
    }

    /// Somebody has answered over a way.
    pub fn answered(&mut self, probe: &Probe, rtt: Duration, now: Duration) {
        let way = probe.local;
        let before = self.health.state(way);
        self.health.answered(probe, rtt, now);
        self.judged(before, self.health.state(way));
    }

    /// What is to be found out about ways, or set.
    pub fn request(&mut self, now: Duration) -> Option<Request> {
        let changed = self.health.advance(now);
        if !changed.is_empty() {
            for (way, remote) in self.health.take_alone() {
                let is_meant =
                    |ends: &Ends| ends.remote().ip() == remote && self.aims.place(ends.local().ip()) == way;
                for token in &self.hurt {
                    if let Some(connection) = self.connections.get_mut(token) {
                        connection.steering.give_up(is_meant);
                    }
                }
            }
            changed.into_iter().for_each(|(before, after)| self.judged(before, after));
        }
        self.health.request()
    }

    /// The state of a way was this, and is that. Whether subflows may use it concerns every connection; a suspicion comes and
    /// goes often, and concerns those alone that have silent subflows.
    fn judged(&mut self, before: State, after: State) {
        if before.is_usable() != after.is_usable() {
            self.look_at_all();
        } else if before != after {
            let mut hurt = std::mem::take(&mut self.hurt);
            hurt.retain(|token| self.connections.get(token).is_some_and(|c| c.steering.knows_silence()));
            hurt.iter().for_each(|token| self.look_at(*token));
            self.hurt = hurt;
        }
    }

    fn look_at(&mut self, token: Token) {
        if self.connections.contains_key(&token) && self.waiting.insert(token) {
            self.due.push_back(token);
        }
    }

    fn look_at_all(&mut self) {
        self.timers.clear();
        self.waiting = self.connections.keys().copied().collect();
        self.due = self.waiting.iter().copied().collect();
    }
}

#[cfg(test)]
impl Paths {
    /// A connection, for tests.
    pub fn connection(&self, token: Token) -> Option<&Connection> {
        self.connections.get(&token).map(Box::as_ref)
    }
}

/// Where a connection has a choice, it matters whether the other end answers.
fn meet(connection: &Connection, aims: &Aims, health: &mut Health, every: Duration, now: Duration) {
    // What rests could take over, too.
    let has_choice = connection.subflows.len() > 1 || !aims.resting.is_empty();
    if connection.server_side || connection.manager == Manager::Kernel || !has_choice {
        return;
    }
    for subflow in connection.subflows.iter().filter(|subflow| subflow.established) {
        health.meet(aims.place(subflow.ends.local().ip()), subflow.ends.remote().ip(), every, now);
    }
}

/// Whether a transfer could become long enough for further paths.
fn may_grow(connection: &Connection) -> bool {
    connection.service == Service::Aggregate
        && connection.subflows.len() > 1
        && !connection.steering.is_long()
}

/// What an event changes in a connection that is known. Tells whether there is something now that only a dump explains.
fn happened(
    token: Token,
    connection: &mut Connection,
    notice: Notice,
    takes_backup: Option<bool>,
    now: Duration,
) -> bool {
    match notice {
        // A dump has overtaken it, and what that showed is closed again.
        Notice::SubflowEstablished { ends, .. } if connection.closing.contains(&ends) => {}
        Notice::SubflowEstablished { ends, local_id } => {
            connection.ids.learn(ends.local().ip(), local_id);
            match connection.subflow_mut(&ends) {
                Some(known) => {
                    known.backup &= known.established || takes_backup != Some(false);
                    (known.ends, known.local_id, known.established) = (ends, local_id, true);
                }
                None => {
                    connection.subflows.push(Subflow::new(ends, local_id, false, true));
                    // One of ours that was thought to have ended, because what was told of one before it came late.
                    // Which flags it was made with is not told. The flags of those that the kernel makes do not matter.
                    return !connection.server_side && connection.manager != Manager::Kernel;
                }
            }
        }
        Notice::SubflowClosed(ends, loss) => {
            let by_us = connection.closing.iter().position(|closing| *closing == ends);
            if let Some(known) = by_us {
                connection.closing.swap_remove(known);
            } else if connection.remove_subflow(&ends).is_some() {
                closed(token, connection, &ends, loss, now);
            }
        }
        Notice::Announced(id, addr) => drop(connection.peer.insert(id, addr)),
        // The kernel closes the subflows that led there.
        Notice::Withdrawn(0) => connection.deny_join_id0 = true,
        Notice::Withdrawn(id) => drop(connection.peer.remove(&id)),
        Notice::Begun { .. } | Notice::Closed => {}
    }
    false
}

/// A subflow that we did not close: the next attempt waits, and there is none where the peer does not want it.
fn closed(token: Token, connection: &mut Connection, ends: &Ends, loss: Option<Loss>, now: Duration) {
    let subject = Step::creation(token, ends.local().ip(), ends.remote());
    let refused = loss.as_ref().is_some_and(|loss| !loss.of_the_way);
    let reason = loss.map_or_else(|| "closed by the peer".to_owned(), |loss| loss.reason);
    connection.retries.record(subject.clone(), Some(reason), now);
    if refused {
        connection.retries.give_up(&subject);
    }
}

/// What is not there any more has not to be ended.
const fn is_ending(step: &Step) -> bool {
    matches!(step, Step::Destroy(..) | Step::Withdraw(..))
}

fn carried_out(connection: &mut Connection, step: &Step) {
    match step {
        Step::Create(new) => {
            let ends = Ends::new((new.local, 0).into(), new.remote);
            if connection.subflow(&ends).is_none() {
                let made = Subflow::new(ends, new.id, new.backup, false);
                connection.subflows.push(Subflow { born_backup: new.backup, ..made });
            }
        }
        Step::Destroy(ends, _) => {
            if connection.remove_subflow(ends).is_some() {
                connection.closing.push(*ends);
            }
            connection.announced.remove(&ends.local().ip());
        }
        Step::SetBackup(ends, on) => {
            if let Some(subflow) = connection.subflow_mut(ends) {
                (subflow.backup, subflow.born_backup) = (*on, false);
            }
        }
        Step::Announce(way, _) => drop(connection.announced.insert(way.addr)),
        Step::Withdraw(addr, _) => drop(connection.announced.remove(addr)),
    }
}

/// What a dump shows of the backup flag that we asked for when we made a subflow.
fn verdict(known: &[Subflow], seen: &[Subflow]) -> Option<bool> {
    let asked = known.iter().find(|subflow| subflow.established && subflow.born_backup)?;
    seen.iter().find(|subflow| subflow.ends == asked.ends).map(|subflow| subflow.backup)
}
