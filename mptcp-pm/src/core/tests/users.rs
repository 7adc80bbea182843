//! A model of the userspace path manager with `Paths` on it: events come late or never, subflows fail, uplinks come
//! and go.
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use crate::config::{Config, Profile};
use crate::core::action::{NewEndpoint, Step};
use crate::core::connections::{Ends, Loss, Manager, Notice, Seen, Subflow, Token};
use crate::core::event::{Failure, FailureKind};
use crate::core::health::Request;
use crate::core::paths::Paths;
use crate::core::retry::MAX_ATTEMPTS;
use crate::core::service::{Owner, Rules};
use crate::core::subflows::Aims;
use crate::core::world::{EndpointFlags, Limits};

/// One move of the world or of the daemon's surroundings.
#[derive(Clone, Debug)]
pub enum Move {
    /// A connection begins at this uplink; this end may have accepted it, or the kernel may manage it.
    Open {
        uplink: u8,
        server_side: bool,
        by_kernel: bool,
        deny: bool,
    },
    Establish(usize),
    Close(usize),
    /// A subflow that is being established is, or fails: for the way's fault, or the peer's.
    Join(usize),
    Fail(usize, bool),
    /// The peer closes a subflow.
    Leave(usize, usize),
    Announce(usize, u8),
    Withdraw(usize, u8),
    /// An uplink comes or goes, changes its address, or which one is the best changes.
    Toggle(u8),
    Renew(u8),
    Prefer(u8),
    Hear(usize),
    Lose,
    Run(usize),
    Wait(u64),
}

/// A connection in the kernel.
#[derive(Clone, Debug)]
pub struct Connection {
    pub by_kernel: bool,
    pub ends: Ends,
    pub server_side: bool,
    pub established: bool,
    pub deny: bool,
    pub subflows: Vec<Subflow>,
    /// The ids that the kernel knows.
    entries: BTreeMap<u8, IpAddr>,
    /// Every id that was ever used, and for what.
    meant: BTreeMap<u8, IpAddr>,
    announced: BTreeMap<u8, SocketAddr>,
}

#[derive(Clone, Debug)]
pub struct Users {
    pub connections: BTreeMap<Token, Connection>,
    pub paths: Paths,
    pub now: Duration,
    pub log: Vec<(Token, Step)>,
    told: VecDeque<(Token, Notice)>,
    /// Events were lost, and the sockets were not read since.
    lost: bool,
    /// Whether each uplink is there, and which of its addresses.
    uplinks: [(bool, u8); 3],
    best: u8,
    light: bool,
    /// Whether this kernel takes the backup flag at creation.
    takes_backup: bool,
    next_token: Token,
    next_port: u16,
}

pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 443);

impl Users {
    pub fn new(light: bool, takes_backup: bool) -> Self {
        let mut users = Self {
            connections: BTreeMap::new(),
            paths: Paths::default(),
            now: Duration::from_secs(1),
            log: Vec::new(),
            told: VecDeque::new(),
            lost: false,
            uplinks: [(true, 2), (true, 2), (false, 2)],
            best: 0,
            light,
            takes_backup,
            next_token: 1,
            next_port: 40000,
        };
        users.begin();
        users
    }

    /// The daemon starts again: it knows nothing.
    pub fn restart(&mut self) {
        self.paths = Paths::default();
        self.begin();
        self.told.clear();
        self.lost = true;
        // What an id meant before and means no more is not known to it.
        for known in self.connections.values_mut() {
            known.meant.clone_from(&known.entries);
        }
    }

    fn begin(&mut self) {
        let profile = if self.light { Profile::Light } else { Profile::Heavy };
        self.paths.set_rules(Rules::of(&Config { profile, ..Config::default() }));
        self.paths.aim(self.aims());
    }

    fn address(&self, uplink: u8) -> IpAddr {
        [10, uplink, 0, self.uplinks[usize::from(uplink)].1].into()
    }

    /// What the policy would want: a VPN's address beside the ways is elsewhere.
    pub fn aims(&self) -> Aims {
        let mut order: Vec<u8> = (0..3).filter(|uplink| self.uplinks[usize::from(*uplink)].0).collect();
        order.sort_by_key(|uplink| (*uplink != self.best, *uplink));
        let way = |uplink: &u8| NewEndpoint {
            addr: self.address(*uplink),
            ifindex: u32::from(*uplink) + 2,
            flags: EndpointFlags::SUBFLOW,
        };
        Aims {
            ways: order.iter().map(way).collect(),
            elsewhere: [IpAddr::from([10, 9, 0, 2])].into(),
            limits: Some(Limits { subflows: 8, add_addr_accepted: 2 }),
            ..Aims::default()
        }
    }

    pub fn step(&mut self, step: &Move) {
        let tokens: Vec<Token> = self.connections.keys().copied().collect();
        let pick = |place: &usize| (!tokens.is_empty()).then(|| tokens[place % tokens.len()]);
        match step {
            Move::Open { uplink, server_side, by_kernel, deny } => {
                self.open(*uplink, *server_side, *by_kernel, *deny);
            }
            Move::Establish(which) => pick(which).into_iter().for_each(|token| self.establish(token)),
            Move::Close(which) => {
                if let Some(token) = pick(which) {
                    self.connections.remove(&token);
                    self.told.push_back((token, Notice::Closed));
                }
            }
            Move::Join(which) => pick(which).into_iter().for_each(|token| self.join(token)),
            Move::Fail(which, of_the_way) => {
                pick(which).into_iter().for_each(|token| self.fail(token, *of_the_way));
            }
            Move::Leave(which, subflow) => {
                pick(which).into_iter().for_each(|token| self.leave(token, *subflow))
            }
            Move::Announce(which, id) => {
                if let Some(token) = pick(which) {
                    let addr = SocketAddr::from(([192, 0, 2, 100 + id % 4], 0));
                    self.connection(token).announced.insert(1 + id % 4, addr);
                    self.told.push_back((token, Notice::Announced(1 + id % 4, addr)));
                }
            }
            Move::Withdraw(which, id) => {
                if let Some(token) = pick(which) {
                    self.connection(token).announced.remove(&(1 + id % 4));
                    self.told.push_back((token, Notice::Withdrawn(1 + id % 4)));
                }
            }
            Move::Toggle(uplink) => {
                let there = &mut self.uplinks[usize::from(*uplink)].0;
                *there = !*there;
                self.paths.aim(self.aims());
            }
            Move::Renew(uplink) => {
                let host = &mut self.uplinks[usize::from(*uplink)].1;
                *host = host.wrapping_add(1).max(2);
                self.paths.aim(self.aims());
            }
            Move::Prefer(uplink) => {
                self.best = *uplink;
                self.paths.aim(self.aims());
            }
            Move::Hear(count) => self.hear(*count),
            Move::Lose => {
                self.lost |= !self.told.is_empty();
                self.told.clear();
            }
            Move::Run(count) => (0..*count).for_each(|_| _ = self.act()),
            Move::Wait(millis) => self.now += Duration::from_millis(*millis),
        }
    }

    pub fn connection(&mut self, token: Token) -> &mut Connection {
        self.connections.get_mut(&token).expect("is there")
    }

    pub fn open(&mut self, uplink: u8, server_side: bool, by_kernel: bool, deny: bool) -> Token {
        let (token, port) = (self.next_token, self.port());
        self.next_token += 1;
        let local = if uplink < 3 { self.address(uplink) } else { [10, 9, 0, 2].into() };
        let ends = Ends::new((local, port).into(), PEER);
        let initial = Subflow::new(ends, 0, false, true);
        self.connections.insert(
            token,
            Connection {
                by_kernel,
                ends,
                server_side,
                established: false,
                deny,
                subflows: vec![initial],
                entries: BTreeMap::new(),
                meant: BTreeMap::new(),
                announced: BTreeMap::new(),
            },
        );
        self.tell_begun(token);
        token
    }

    pub fn establish(&mut self, token: Token) {
        self.connection(token).established = true;
        self.tell_begun(token);
    }

    fn tell_begun(&mut self, token: Token) {
        let known = self.connection(token);
        let (ends, server_side, established) = (known.ends, known.server_side, known.established);
        let begun = Notice::Begun { ends, server_side, deny_join_id0: known.deny, established };
        self.told.push_back((token, begun));
    }

    const fn port(&mut self) -> u16 {
        self.next_port = if self.next_port == u16::MAX { 1024 } else { self.next_port + 1 };
        self.next_port
    }

    /// The oldest handshake under way ends well.
    pub fn join(&mut self, token: Token) {
        let port = self.port();
        let waiting = self.connection(token).subflows.iter_mut().find(|subflow| !subflow.established);
        if let Some(subflow) = waiting {
            subflow.ends = from_port(subflow.ends, port);
            subflow.established = true;
            let (ends, local_id) = (subflow.ends, subflow.local_id);
            self.told.push_back((token, Notice::SubflowEstablished { ends, local_id }));
        }
    }

    pub fn fail(&mut self, token: Token, of_the_way: bool) {
        let port = self.port();
        let subflows = &mut self.connection(token).subflows;
        if let Some(place) = subflows.iter().position(|subflow| !subflow.established) {
            let ends = from_port(subflows.remove(place).ends, port);
            let loss = Loss { reason: "no way".into(), of_the_way };
            self.told.push_back((token, Notice::SubflowClosed(ends, Some(loss))));
        }
    }

    fn leave(&mut self, token: Token, which: usize) {
        let subflows = &mut self.connection(token).subflows;
        if subflows.len() > 1 && subflows[which % subflows.len()].established {
            let ends = subflows.remove(which % subflows.len()).ends;
            self.told.push_back((token, Notice::SubflowClosed(ends, None)));
        }
    }

    pub fn hear(&mut self, count: usize) {
        for _ in 0..count {
            let Some((token, notice)) = self.told.pop_front() else { return };
            self.paths.note(token, notice, self.now);
        }
    }

    /// One action of the daemon's; whether there was one.
    pub fn act(&mut self) -> bool {
        if self.lost || self.paths.is_unsure() {
            self.lost = false;
            let seen = self.dump();
            self.paths.replace(seen);
        }
        if let Some(request) = self.paths.request(self.now) {
            self.asked(request);
            return true;
        }
        let Some((token, step)) = self.paths.next(self.now) else { return false };
        self.now += Duration::from_micros(50);
        let result = self.perform(token, &step);
        self.log.push((token, step.clone()));
        self.paths.done(token, &step, &result, self.now);
        true
    }

    /// The other end answers over every uplink that is there.
    fn asked(&mut self, request: Request) {
        if let Request::Ask(probe) = request
            && self.aims().ways.iter().any(|way| way.addr == probe.local)
        {
            self.now += Duration::from_millis(1);
            self.paths.answered(&probe, Duration::from_millis(1), self.now);
        }
    }

    fn dump(&self) -> Vec<Seen> {
        let seen = |(token, known): (&Token, &Connection)| Seen {
            token: *token,
            manager: if known.by_kernel { Manager::Kernel } else { Manager::Daemon },
            ends: known.ends,
            server_side: known.server_side,
            established: known.established,
            ending: false,
            subflows: known.subflows.clone(),
            owner: Owner::default(),
            addresses: known.entries.iter().map(|(id, a)| (*id, *a, EndpointFlags::empty())).collect(),
        };
        self.connections.iter().map(seen).collect()
    }

    fn perform(&mut self, token: Token, step: &Step) -> Result<(), Failure> {
        let uncertain = self.lost || self.told.iter().any(|(of, _)| *of == token);
        let takes_backup = self.takes_backup;
        let Some(known) = self.connections.get_mut(&token) else { return failure(FailureKind::Gone) };
        if known.by_kernel {
            return failure(FailureKind::OtherManager);
        }
        match step {
            Step::Create(new) => {
                assert!(known.established && !known.server_side, "connects on its own: {step:?}");
                assert_ne!(known.ends.local().ip(), IpAddr::from([10, 9, 0, 2]), "leaks beside the VPN");
                known.enter(new.id, new.local)?;
                let ends = Ends::new((new.local, 0).into(), new.remote);
                known.subflows.push(Subflow::new(ends, new.id, new.backup && takes_backup, false));
            }
            Step::Destroy(ends, id) => {
                let living = known.subflows.iter().filter(|subflow| subflow.established).count();
                assert!(living > 1 || uncertain, "closes the last path: {step:?}");
                known.entries.remove(id);
                let Some(place) = known.subflows.iter().position(|subflow| subflow.ends == *ends) else {
                    return failure(FailureKind::Gone);
                };
                known.entries.retain(|_, addr| *addr != ends.local().ip());
                known.subflows.remove(place);
                self.told.push_back((token, Notice::SubflowClosed(*ends, None)));
            }
            Step::SetBackup(ends, on) => {
                let Some(subflow) = known.subflows.iter_mut().find(|subflow| subflow.ends == *ends) else {
                    return failure(FailureKind::Gone);
                };
                subflow.backup = *on;
            }
            Step::Announce(way, id) => known.enter(*id, way.addr)?,
            Step::Withdraw(_, id) => drop(known.entries.remove(id)),
        }
        Ok(())
    }

    /// Lets the daemon finish: everything is told, every handshake ends, well or not, every deadline passes. Bounded.
    pub fn settle(&mut self, joins: bool) {
        for _ in 0..20_000 {
            self.hear(usize::MAX);
            if self.act() {
                continue;
            }
            let waiting = |known: &Connection| known.subflows.iter().any(|subflow| !subflow.established);
            let under_way =
                self.connections.iter().find(|(_, known)| waiting(known)).map(|(token, _)| *token);
            match under_way {
                Some(token) if joins => self.join(token),
                Some(token) => self.fail(token, true),
                None => match self.paths.deadline() {
                    Some(at) => self.now = self.now.max(at),
                    None if self.told.is_empty() => return,
                    None => {}
                },
            }
        }
        panic!("does not come to rest: {:#?}", &self.log[self.log.len() - 20..]);
    }

    /// What is not as it should be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let aims = self.aims();
        for (token, known) in &self.connections {
            let ours = known.established
                && !known.by_kernel
                && known.ends.local().ip() != IpAddr::from([10, 9, 0, 2]);
            if !ours || aims.ways.is_empty() {
                continue;
            }
            let on = |way: &NewEndpoint| {
                let addr = way.addr;
                known.subflows.iter().filter(move |subflow| subflow.ends.local().ip() == addr)
            };
            // What the peer announced may not have been heard, and is not told again.
            let reachable = !known.deny;
            for (rank, way) in aims.ways.iter().enumerate() {
                if !known.server_side && reachable && on(way).next().is_none() {
                    faults.push(format!("{token} has nothing from {}", way.addr));
                }
                let carry = on(way).filter(|subflow| !subflow.backup).count();
                let right = match (self.light, rank) {
                    (true, 0) => carry == 1,
                    (true, _) => carry == 0,
                    (false, _) => carry == on(way).count(),
                };
                if on(&aims.ways[0]).next().is_some() && !right {
                    faults.push(format!("{token}: priority from {}", way.addr));
                }
            }
            let is_lost = |s: &&Subflow| !aims.ways.iter().any(|way| way.addr == s.ends.local().ip());
            let lost = known.subflows.iter().filter(is_lost).count();
            if lost > 0 && lost < known.subflows.len() {
                faults.push(format!("{token} keeps what is lost: {:?}", known.subflows));
            }
        }
        faults
    }
}

impl Connection {
    /// `mptcp_userspace_pm_append_new_local_addr`: the same address has the same id.
    fn enter(&mut self, id: u8, addr: IpAddr) -> Result<(), Failure> {
        assert_ne!(id, 0, "the initial subflow's");
        let before = self.meant.insert(id, addr);
        assert!(before.is_none_or(|before| before == addr), "id {id} of {before:?} is used for {addr}");
        let conflict = self.entries.iter().any(|(known, at)| (*known == id) != (*at == addr));
        if conflict {
            return failure(FailureKind::Invalid);
        }
        self.entries.insert(id, addr);
        Ok(())
    }
}

fn failure(kind: FailureKind) -> Result<(), Failure> {
    Err(Failure { kind, text: "refused".into() })
}

/// A random history.
pub fn moves(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Move>> {
    let at = 0_usize..8;
    let one = prop_oneof![
        6 => (0_u8..4, prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(uplink, server_side, by_kernel, deny)| Move::Open { uplink, server_side, by_kernel, deny }),
        8 => at.clone().prop_map(Move::Establish),
        2 => at.clone().prop_map(Move::Close),
        12 => at.clone().prop_map(Move::Join),
        4 => (at.clone(), any::<bool>()).prop_map(|(which, way)| Move::Fail(which, way)),
        3 => (at.clone(), at.clone()).prop_map(|(which, subflow)| Move::Leave(which, subflow)),
        3 => (at.clone(), 0_u8..4).prop_map(|(which, id)| Move::Announce(which, id)),
        2 => (at, 0_u8..4).prop_map(|(which, id)| Move::Withdraw(which, id)),
        5 => (0_u8..3).prop_map(Move::Toggle),
        2 => (0_u8..3).prop_map(Move::Renew),
        2 => (0_u8..3).prop_map(Move::Prefer),
        16 => (1_usize..8).prop_map(Move::Hear),
        2 => Just(Move::Lose),
        16 => (1_usize..8).prop_map(Move::Run),
        4 => (0_u64..2_000).prop_map(Move::Wait),
    ];
    prop::collection::vec(one, length)
}

/// The most attempts at one subflow without a change in the world.
pub const MOST: usize = MAX_ATTEMPTS as usize;

/// The kernel picks the port of the local end.
fn from_port(ends: Ends, port: u16) -> Ends {
    Ends::new(SocketAddr::new(ends.local().ip(), port), ends.remote())
}
