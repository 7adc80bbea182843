//! The model kernel with a daemon on it: messages come late or never, actions fail, the daemon dies and starts again.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::kernel::{Kernel, Release};
use super::site::{self, Step};
use crate::config::{Config, Endpoints, Manager, Match, NameGlob, OnBattery, Profile, Role, UplinkRule};
use crate::core::Core;
use crate::core::action::{Action, Subject};
use crate::core::connections::{Ends, Loss, Notice};
use crate::core::event::{Event, Failure, FailureKind};
use crate::core::hints::{Connectivity, Hint, Metered, Wishes};
use crate::core::owned::Owned;
use crate::core::world::{IfIndex, Limits, Sysctl};

/// One move of the world or of the daemon's surroundings.
#[derive(Clone, Debug)]
pub enum Move {
    Happen(Step),
    /// So many messages are read.
    Hear(usize),
    /// The messages that wait are lost (ENOBUFS).
    Lose,
    /// An action begins, or the one that has begun is answered.
    Act,
    /// So many actions, each answered at once.
    Run(usize),
    Wait(u64),
    Look,
    /// A subflow of this endpoint fails.
    Break(usize),
    Configure(usize),
    /// NetworkManager says something else of an interface, or nothing any more.
    Tell(usize, Option<Told>),
    Battery(bool),
    Fail(Fault),
    Heal,
    /// The daemon is killed and started again.
    Crash,
}

/// What NetworkManager says of an interface.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub metered: Option<bool>,
    pub reached: [Connectivity; 2],
    pub role: Option<Role>,
}

/// What does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Add,
    Delete,
    Routing,
    Sysctl,
    Limits,
    Save,
    Read,
    /// What is written is done, and the answer gets lost.
    Unanswered,
}

#[derive(Debug)]
pub struct Machine {
    pub kernel: Kernel,
    pub core: Core,
    pub now: Duration,
    /// The state file.
    pub file: Owned,
    pub config: Config,
    pub faults: BTreeSet<Fault>,
    /// Connections cannot be read.
    pub blind: bool,
    /// What was done, since somebody last cleared it.
    pub log: Vec<(Duration, Action)>,
    next_index: IfIndex,
    in_flight: Option<Event>,
    /// What somebody else wrote, or nobody can know any more: not to be compared with what was there before.
    meddled: BTreeSet<Sysctl>,
    limits_meddled: bool,
    renamed: bool,
    unplugged: bool,
    crashed: bool,
    /// The state file does not hold what it should: it could not be written.
    unsaved: bool,
}

impl Machine {
    pub fn new(release: Release, config: Config) -> Self {
        let mut core = Core::new(config.clone());
        core.handle(Event::Hearing(true), Duration::ZERO);
        Self {
            kernel: Kernel::new(release),
            core,
            now: Duration::from_secs(1),
            file: Owned::default(),
            config,
            faults: BTreeSet::new(),
            blind: false,
            log: Vec::new(),
            next_index: 100,
            in_flight: None,
            meddled: BTreeSet::new(),
            limits_meddled: false,
            renamed: false,
            unplugged: false,
            crashed: false,
            unsaved: false,
        }
    }

    pub fn step(&mut self, step: &Move) {
        match step {
            Move::Happen(step) => self.happen(step),
            Move::Hear(count) => self.hear(*count),
            Move::Lose => {
                self.kernel.told.clear();
                self.feed(Event::Lost);
            }
            Move::Act => self.act(),
            Move::Run(count) => {
                self.answer();
                for _ in 0..*count {
                    self.act();
                    self.answer();
                }
            }
            Move::Wait(millis) => {
                self.now += Duration::from_millis(*millis);
                if self.core.next_deadline().is_some_and(|at| at <= self.now) {
                    self.feed(Event::Deadline);
                }
            }
            Move::Look => self.feed(Event::Look),
            Move::Break(which) => {
                let addr = self.kernel.endpoints.get(*which).map(|endpoint| endpoint.addr);
                addr.into_iter().for_each(|addr| self.break_subflow(addr));
            }
            Move::Configure(which) => self.configure(configs()[*which % configs().len()].clone()),
            Move::Tell(slot, told) => {
                let name = site::NAMES[*slot].to_owned();
                match told {
                    Some(told) => drop(self.kernel.desktop.interfaces.insert(name, hint(*told))),
                    None => drop(self.kernel.desktop.interfaces.remove(&name)),
                }
                self.feed(Event::Desktop(self.kernel.desktop.clone()));
            }
            Move::Battery(on) => {
                self.kernel.desktop.on_battery = Some(*on);
                self.feed(Event::Desktop(self.kernel.desktop.clone()));
            }
            Move::Fail(fault) => {
                self.faults.insert(*fault);
            }
            Move::Heal => self.faults.clear(),
            Move::Crash => self.crash(),
        }
    }

    pub fn happen(&mut self, step: &Step) {
        match step {
            Step::ForeignLimits(_) => self.limits_meddled = true,
            Step::ForeignSysctl(0, _) => drop(self.meddled.insert(Sysctl::Enabled)),
            Step::ForeignSysctl(1, _) => drop(self.meddled.insert(super::kernel::strict("all"))),
            Step::ForeignSysctl(slot, _) => {
                for suffix in ["", "x"] {
                    self.meddled.insert(super::kernel::strict(&format!("{}{suffix}", site::NAMES[*slot])));
                }
            }
            Step::Rename(_) => self.renamed = true,
            Step::Unplug(_) => self.unplugged = true,
            _ => {}
        }
        let endpoints = self.kernel.endpoints.clone();
        site::happen(&mut self.kernel, &mut self.next_index, step);
        // An endpoint like the one that we are about to make, or have just lost, cannot be told from ours.
        let claimed = |there| self.core.owned.has(there) || self.file.has(there);
        if let Some(new) =
            self.kernel.endpoints.iter().find(|there| !endpoints.contains(there) && claimed(there))
        {
            let id = new.id;
            self.kernel.delete_endpoint(id);
        }
    }

    pub fn hear(&mut self, count: usize) {
        for _ in 0..count {
            let Some(change) = self.kernel.told.pop_front() else { return };
            self.feed(Event::Changed(change));
        }
    }

    pub fn feed(&mut self, event: Event) {
        self.core.handle(event, self.now);
    }

    pub fn break_subflow(&mut self, addr: IpAddr) {
        let ends = Ends::new((addr, 40000).into(), ([192, 0, 2, 1], 443).into());
        let loss = Loss { reason: "no route to host".into(), of_the_way: true };
        self.feed(Event::Connection(1, Notice::SubflowClosed(ends, Some(loss))));
    }

    pub fn configure(&mut self, config: Config) {
        self.config = config.clone();
        self.feed(Event::Configured(config));
    }

    /// Begins an action, or answers the one that has begun.
    fn act(&mut self) {
        if self.in_flight.is_some() {
            return self.answer();
        }
        self.begin();
    }

    /// Begins what the daemon wants next; false when that is nothing.
    fn begin(&mut self) -> bool {
        let Some(action) = self.core.next_action(self.now) else { return false };
        self.log.push((self.now, action.clone()));
        self.now += Duration::from_micros(100);
        self.in_flight = Some(self.perform(action));
        true
    }

    fn answer(&mut self) {
        if let Some(answer) = self.in_flight.take() {
            self.feed(answer);
        }
    }

    fn perform(&mut self, action: Action) -> Event {
        if fault(&action).is_some_and(|fault| self.faults.contains(&fault)) {
            self.unsaved |= matches!(action, Action::Save(_));
            let failure = Failure { kind: FailureKind::Other, text: "operation not permitted".into() };
            return Event::Done(action, Err(failure));
        }
        match &action {
            Action::Resync => Event::Resynced(self.kernel.snapshot()),
            Action::LookAtConnections if self.blind => {
                let text = "no such module".to_owned();
                Event::Done(action, Err(Failure { kind: FailureKind::Other, text }))
            }
            Action::LookAtConnections => Event::Connections(Vec::new()),
            Action::Observe(keys) => Event::Observed(self.kernel.observation(keys)),
            Action::Save(owned) => {
                self.file = owned.clone();
                self.unsaved = false;
                Event::Done(action, Ok(()))
            }
            _ => {
                let mut result = self.kernel.perform(&action);
                // A refusal is heard: whether the same one that somebody else has just made is ours, nothing would tell.
                if result.is_ok() && self.faults.contains(&Fault::Unanswered) {
                    result = Err(Failure { kind: FailureKind::Unanswered, text: "no answer".into() });
                }
                Event::Done(action, result)
            }
        }
    }

    pub fn crash(&mut self) {
        self.in_flight = None;
        self.kernel.told.clear();
        self.core = Core::new(self.config.clone());
        self.core.handle(Event::Hearing(true), self.now);
        self.forget_what_is_lost();
        // Between the state file and the endpoint, somebody else has made the same one: nothing tells whose it is.
        let ambiguous = self.kernel.endpoints.iter().filter(|there| self.file.has(there));
        let ids: Vec<u8> = ambiguous.map(|there| there.id).collect();
        self.kernel.ours.extend(ids);
        self.feed(Event::Inherited(self.file.clone()));
        self.feed(Event::Desktop(self.kernel.desktop.clone()));
    }

    fn forget_what_is_lost(&mut self) {
        if self.unsaved {
            // Killed while the disk was full: what could not be written down is nobody's.
            self.kernel.ours.clear();
            self.limits_meddled = true;
            self.meddled.extend(self.kernel.sysctls.keys().cloned());
        }
        self.crashed = true;
    }

    /// Lets the daemon go on as it likes until a moment. Bounded.
    pub fn live_until(&mut self, end: Duration) {
        for _ in 0..5_000 {
            self.answer();
            self.hear(usize::MAX);
            if self.begin() {
                continue;
            }
            match self.core.next_deadline().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => return self.now = self.now.max(end),
            }
            self.feed(Event::Deadline);
        }
        panic!("never waits: {:#?}", &self.log[self.log.len() - 20..]);
    }

    /// Lets the daemon finish: everything is told, everything is done, every deadline passes. Bounded.
    pub fn settle(&mut self) {
        for _ in 0..5_000 {
            self.answer();
            self.hear(usize::MAX);
            if self.begin() {
                continue;
            }
            let Some(at) = self.core.next_deadline() else { return };
            self.now = self.now.max(at);
            self.feed(Event::Deadline);
        }
        panic!("does not come to rest: {:#?}", &self.log[self.log.len() - 20..]);
    }

    /// What was there before the daemon, unless somebody else has changed it since.
    pub fn is_restored(&self) -> Result<(), String> {
        let before = Limits { subflows: 2, add_addr_accepted: 0 };
        if !self.limits_meddled && self.kernel.limits != before {
            return Err(format!("limits stay {:?}", self.kernel.limits));
        }
        let wrong = self.kernel.sysctls.iter().find(|(key, value)| {
            let before = match key {
                Sysctl::ReversePathFilter(name) if name == "all" => "0",
                Sysctl::ReversePathFilter(_) | Sysctl::Enabled => "1",
                Sysctl::PathManager => "kernel",
                Sysctl::PathManagerType => "0",
                Sysctl::ReceiveBuffer => super::kernel::RECEIVE_BUFFER,
            };
            // Nobody saw under which name an interface was known before, or two had the same one in turn: a value
            // that was meant for the first may have met the second.
            let unclear = (self.renamed && self.crashed) || self.unplugged;
            let lost = unclear && matches!(key, Sysctl::ReversePathFilter(_));
            value.as_str() != before && !self.meddled.contains(key) && !lost
        });
        wrong.map_or(Ok(()), |(key, value)| Err(format!("{key} stays {value}")))
    }
}

fn hint(told: Told) -> Hint {
    Hint {
        metered: told.metered.map(|yes| Metered { yes, guessed: false }),
        ipv4: told.reached[0],
        ipv6: told.reached[1],
        wishes: Wishes { role: told.role, ..Wishes::default() },
        ..Hint::default()
    }
}

fn fault(action: &Action) -> Option<Fault> {
    match action {
        Action::Resync | Action::Observe(_) | Action::LookAtConnections => Some(Fault::Read),
        Action::Save(_) => Some(Fault::Save),
        Action::WriteSysctl(..) => Some(Fault::Sysctl),
        Action::SetLimits(_) => Some(Fault::Limits),
        Action::AddRoute(_)
        | Action::ChangeRoute(_)
        | Action::DeleteRoute(_)
        | Action::AddRule(_)
        | Action::DeleteRule(_) => Some(Fault::Routing),
        Action::AddEndpoint(_) => Some(Fault::Add),
        Action::DeleteEndpoint(_)
        | Action::RetireEndpoint(_)
        | Action::SetBackup(..)
        | Action::RetrySubflows(..)
        | Action::CloseInitial(_)
        | Action::Manage(..)
        | Action::Ask(_)
        | Action::Bear(..) => Some(Fault::Delete),
    }
}

/// How often each subject was attempted, by kind of action.
pub fn attempts(log: &[(Duration, Action)]) -> BTreeMap<Subject, usize> {
    let mut counts = BTreeMap::new();
    for (_, action) in log {
        *counts.entry(action.subject()).or_default() += 1;
    }
    counts
}

/// Configurations that differ in what matters.
pub fn configs() -> Vec<Config> {
    let rule = |name: &str, role| UplinkRule {
        matching: Match { name: Some(NameGlob::new(name).unwrap()), ..Match::default() },
        provider: None,
        role,
        metered: None,
        flags: None,
    };
    let with = |profile, uplinks| Config { profile, uplinks, ..Config::default() };
    vec![
        Config::default(),
        with(Profile::Heavy, vec![rule("wlan0", Some(Role::Backup))]),
        with(Profile::Site, vec![rule("eth0", Some(Role::Off))]),
        with(Profile::Light, vec![rule("wg*", None), rule("wlan0", Some(Role::Primary))]),
        Config { vpn: true, ..with(Profile::Heavy, vec![rule("wg*", None)]) },
        Config { manager: Some(Manager::Daemon), ..with(Profile::Light, vec![]) },
        Config { on_battery: Some(OnBattery::HoldBack), ..with(Profile::Heavy, vec![]) },
        Config { endpoints: Endpoints::NetworkManager, ..with(Profile::Heavy, vec![]) },
    ]
}

pub fn release() -> impl Strategy<Value = Release> {
    prop_oneof![Just(Release::V6_1), Just(Release::V6_18), Just(Release::V7_3)]
}

pub fn a_fault() -> impl Strategy<Value = Fault> {
    use Fault::*;
    prop::sample::select(vec![Add, Delete, Routing, Sysctl, Limits, Save, Read, Unanswered])
}

fn told() -> impl Strategy<Value = Told> {
    use Connectivity::*;
    let reached = || prop::sample::select(vec![Unknown, None, Portal, Limited, Full, Full]);
    let role = prop::option::weighted(0.3, prop::sample::select(Role::ALL.to_vec()));
    let metered = prop::option::of(any::<bool>());
    (metered, [reached(), reached()], role).prop_map(|(metered, reached, role)| Told {
        metered,
        reached,
        role,
    })
}

/// A random history.
pub fn moves(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        40 => site::step().prop_map(Move::Happen),
        6 => site::meddling().prop_map(Move::Happen),
        12 => (1_usize..20).prop_map(Move::Hear),
        2 => Just(Move::Lose),
        12 => Just(Move::Act),
        12 => (1_usize..30).prop_map(Move::Run),
        5 => (0_u64..2_000).prop_map(Move::Wait),
        1 => Just(Move::Look),
        2 => (0_usize..8).prop_map(Move::Break),
        1 => (0_usize..8).prop_map(Move::Configure),
        6 => (0_usize..5, prop::option::of(told())).prop_map(|(slot, told)| Move::Tell(slot, told)),
        2 => any::<bool>().prop_map(Move::Battery),
        2 => a_fault().prop_map(Move::Fail),
        2 => Just(Move::Heal),
        1 => Just(Move::Crash),
    ];
    prop::collection::vec(one, length)
}
