//! What is known of each connection: its ends, its subflows, the ids of its addresses, what its peer has announced.
//! The kernel's events and dumps of its sockets feed it; `subflows` decides on it.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::retry::Retries;
use super::service::{Owner, Service, Why};
use super::steering::{Measured, Part, Reason, Steering};
use super::world::EndpointFlags;

/// The local number of a connection.
pub type Token = u32;

/// The two ends of a subflow, in two thirds of the room that socket addresses take: thousands of these are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

impl Ends {
    /// Those with these addresses.
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local: (local.ip(), local.port()), remote: (remote.ip(), remote.port()) }
    }

    /// The local end; its port is 0 while it is not known.
    pub const fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local.0, self.local.1)
    }

    /// The remote end.
    pub const fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote.0, self.remote.1)
    }

    /// Whether both mean the same subflow, as far as the ports are known.
    fn matches(&self, other: &Self) -> bool {
        let ports = [self.local.1, other.local.1];
        self.remote == other.remote
            && self.local.0 == other.local.0
            && (ports.contains(&0) || ports[0] == ports[1])
    }
}

/// Who manages the paths of a connection: decided in the kernel when it is created, and never changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// Not known before the first command for it.
    #[default]
    Unknown,
    /// This daemon.
    Daemon,
    /// The kernel, with its endpoints.
    Kernel,
}

/// A subflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subflow {
    /// Its ends.
    pub ends: Ends,
    /// The id of the local address.
    pub local_id: u8,
    /// This end asked for backup.
    pub backup: bool,
    /// Its handshake is complete.
    pub established: bool,
    /// We made it, and asked for backup from the start; what came of that has not been seen yet.
    pub born_backup: bool,
    /// It carries while one carries.
    pub leads: bool,
    /// The part that it plays, and why; none where that is not the daemon's business, or not decided yet.
    pub part: Option<(Part, Reason)>,
    /// What was last read of it.
    pub measured: Option<Measured>,
}

impl Subflow {
    /// One that nothing was decided about yet.
    pub const fn new(ends: Ends, local_id: u8, backup: bool, established: bool) -> Self {
        Self {
            ends,
            local_id,
            backup,
            established,
            born_backup: false,
            leads: false,
            part: None,
            measured: None,
        }
    }

    /// Whether it was decided that it carries data, or that it does not; none before that.
    pub fn carries(&self) -> Option<bool> {
        self.part.map(|(part, _)| part == Part::Carries)
    }
}

/// Why a subflow has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// In words.
    pub reason: String,
    /// The way has failed: another attempt may go better. Otherwise the peer does not want it.
    pub of_the_way: bool,
}

/// What an event says of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It begins, or can have more subflows from now on.
    Begun {
        /// The ends of its initial subflow.
        ends: Ends,
        /// This end has accepted it.
        server_side: bool,
        /// The peer refuses further subflows to the address of the initial one.
        deny_join_id0: bool,
        /// It can have more subflows.
        established: bool,
    },
    /// It has ended.
    Closed,
    /// A subflow beside the initial one is established.
    SubflowEstablished {
        /// Its ends.
        ends: Ends,
        /// The id of the local address.
        local_id: u8,
    },
    /// A subflow has ended while the connection goes on; without a reason where the kernel gives none.
    SubflowClosed(Ends, Option<Loss>),
    /// The peer has announced an address under an id; port 0 stands for the connection's own.
    Announced(u8, SocketAddr),
    /// The peer has withdrawn an id.
    Withdrawn(u8),
}

/// A connection as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its token.
    pub token: Token,
    /// Who manages it, where the kernel tells.
    pub manager: Manager,
    /// The ends of its initial subflow.
    pub ends: Ends,
    /// This end has accepted it.
    pub server_side: bool,
    /// It can have more subflows, but for what `ending` says.
    pub established: bool,
    /// One of its ends has nothing more to send: the kernel makes no further subflows.
    pub ending: bool,
    /// Its subflows.
    pub subflows: Vec<Subflow>,
    /// Whose it is, as far as its socket tells.
    pub owner: Owner,
    /// The local addresses that the kernel knows by an id in it, where it tells.
    pub addresses: Vec<(u8, IpAddr, EndpointFlags)>,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who manages it.
    pub manager: Manager,
    /// The ends of its initial subflow, whether that still lives or not.
    pub ends: Ends,
    /// This end has accepted it.
    pub server_side: bool,
    /// The peer refuses further subflows to the address of the initial one, or has withdrawn it.
    pub deny_join_id0: bool,
    /// It can have more subflows, but for what `ending` says.
    pub established: bool,
    /// One of its ends has nothing more to send: the kernel makes no further subflows. The kernel tells of that only when it
    /// is asked.
    pub ending: bool,
    /// What its application wants of it.
    pub service: Service,
    /// Who has decided that.
    pub why: Why,
    /// Whose it is, as far as that is known; shared with the others of the same owner.
    pub owner: Arc<Owner>,
    /// Its subflows, those that are being established included.
    pub subflows: Vec<Subflow>,
    /// What the peer has announced, by id.
    pub peer: BTreeMap<u8, SocketAddr>,
    /// The ids of the local addresses.
    pub ids: Ids,
    /// The local addresses that the peer was told.
    pub announced: BTreeSet<IpAddr>,
    /// Subflows that we have closed, and of whose end no event has told yet.
    pub closing: Vec<Ends>,
    /// What decides on the parts of its subflows.
    pub steering: Steering,
    /// The attempts at what has to be done for it.
    pub retries: Retries,
}

impl Connection {
    /// One that has just begun; its initial subflow is established.
    pub fn new(ends: Ends, server_side: bool) -> Self {
        // Most get a second one.
        let mut subflows = Vec::with_capacity(2);
        subflows.push(Subflow::new(ends, 0, false, true));
        Self {
            manager: Manager::Unknown,
            ends,
            server_side,
            deny_join_id0: false,
            established: false,
            ending: false,
            service: Service::default(),
            why: Why::Profile,
            owner: Arc::default(),
            subflows,
            peer: BTreeMap::new(),
            ids: Ids::default(),
            announced: BTreeSet::new(),
            closing: Vec::new(),
            steering: Steering::default(),
            retries: Retries::default(),
        }
    }

    /// What a dump says: it is the truth about subflows; the rest is known from events alone.
    pub fn update(&mut self, seen: Seen) {
        if seen.manager != Manager::Unknown {
            self.manager = seen.manager;
        }
        (self.ends, self.server_side) = (seen.ends, seen.server_side);
        self.established |= seen.established;
        self.ending = seen.ending;
        let before = std::mem::replace(&mut self.subflows, seen.subflows);
        self.steering.replace(&before, &mut self.subflows);
        self.closing.clear();
        for (id, addr, flags) in seen.addresses {
            self.ids.learn(addr, id);
            if flags.contains(EndpointFlags::SIGNAL) {
                self.announced.insert(addr);
            }
        }
        for subflow in &self.subflows {
            self.ids.learn(subflow.ends.local().ip(), subflow.local_id);
        }
    }

    /// The subflow with these ends.
    pub fn subflow(&self, ends: &Ends) -> Option<&Subflow> {
        self.subflows.iter().find(|subflow| subflow.ends.matches(ends))
    }

    /// The same, to be changed. One whose port is known goes before one that is being established.
    pub fn subflow_mut(&mut self, ends: &Ends) -> Option<&mut Subflow> {
        let known = self.subflows.iter().position(|subflow| subflow.ends == *ends);
        let found = known.or_else(|| self.subflows.iter().position(|s| s.ends.matches(ends)))?;
        self.subflows.get_mut(found)
    }

    /// Forgets the subflow with these ends, and returns it.
    pub fn remove_subflow(&mut self, ends: &Ends) -> Option<Subflow> {
        let known = self.subflows.iter().position(|subflow| subflow.ends == *ends);
        let found = known.or_else(|| self.subflows.iter().position(|s| s.ends.matches(ends)))?;
        let removed = self.subflows.remove(found);
        self.steering.forget(&removed);
        Some(removed)
    }
}

/// The ids of the local addresses of one connection. An address keeps its id; an id that was given back is the last
/// one to be used again, since the peer may still know the address that it meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    known: Vec<(IpAddr, u8)>,
    last: u8,
}

impl Ids {
    /// The id of an address; a new one where it has none. None where all are taken.
    pub fn of(&mut self, addr: IpAddr) -> Option<u8> {
        if let Some(id) = self.get(addr) {
            return Some(id);
        }
        let id = (0..u8::MAX).map(|step| next(self.last, step)).find(|id| !self.is_taken(*id))?;
        self.last = id;
        self.keep(addr, id);
        Some(id)
    }

    /// The id that an address has.
    pub fn get(&self, addr: IpAddr) -> Option<u8> {
        self.known.iter().find(|(known, _)| *known == addr).map(|(_, id)| *id)
    }

    /// The kernel knows the address by this id. 0 is the initial subflow's, and no id of an address.
    pub fn learn(&mut self, addr: IpAddr, id: u8) {
        if id != 0 && self.get(addr) != Some(id) {
            self.known.retain(|(known, of)| *known != addr && *of != id);
            self.keep(addr, id);
            self.last = self.last.max(id);
        }
    }

    /// Gives back the ids of all addresses but these.
    pub fn retain(&mut self, keep: impl Fn(&IpAddr) -> bool) {
        self.known.retain(|(addr, _)| keep(addr));
    }

    /// There are never many: the room is worth more than the time.
    fn keep(&mut self, addr: IpAddr, id: u8) {
        self.known.reserve_exact(1);
        self.known.push((addr, id));
    }

    fn is_taken(&self, id: u8) -> bool {
        self.known.iter().any(|(_, known)| *known == id)
    }
}

/// The id that comes `step` places after the one that follows `last`; never 0.
fn next(last: u8, step: u8) -> u8 {
    let place = (u16::from(last) + u16::from(step)) % u16::from(u8::MAX);
    // Less than 255.
    place as u8 + 1
}
