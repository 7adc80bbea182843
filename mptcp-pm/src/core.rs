//! The pure core: events in, actions out, deadlines. No socket, file, clock or thread is known here; the I/O lives in
//! `netlink`, `sysctl`, `state` and `daemon`, and time comes in as a duration since some start.
pub mod action;
pub mod event;
pub mod observed;
pub mod owned;
pub mod plan;
pub mod policy;
pub mod report;
pub mod retry;
pub mod uplink;
pub mod world;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use self::action::{Action, Subject};
use self::event::{Event, Failure, FailureKind};
use self::observed::World;
use self::owned::Owned;
use self::policy::{Capacity, Desired};
use self::report::{EndpointReport, Finding, Owner, Report};
use self::retry::{Pacer, Retries, Verdict};
use self::world::{Change, Endpoint, EndpointFlags, IfIndex};
use crate::config::Config;

/// The state of one daemon.
///
/// Feed it with [`Core::handle`]; after each event carry out [`Core::next_action`] until there is none, answering
/// each with its event; then wait for the next event or for [`Core::next_deadline`].
#[derive(Clone, Debug, Default)]
pub struct Core {
    config: Config,
    world: World,
    owned: Owned,
    desired: Desired,
    capacity: Capacity,
    /// Actions of the present plan that are not carried out yet.
    queue: VecDeque<Action>,
    /// The action that is being carried out.
    busy: bool,
    /// Links, addresses, routes and rules have been read once.
    synced: bool,
    /// They have to be read again.
    stale: bool,
    /// Endpoints, limits and sysctls have to be read again.
    unobserved: bool,
    /// A pass is due.
    dirty: bool,
    /// The state file does not hold what it should.
    unsaved: bool,
    stopping: bool,
    /// The earliest time at which an action that failed may be tried again.
    retry_at: Option<Duration>,
    reading: Reading,
    retries: Retries,
    pacer: Pacer,
}

impl Core {
    /// A core that knows nothing yet: its first actions read the kernel.
    pub fn new(config: Config) -> Self {
        Self { config, stale: true, unobserved: true, dirty: true, ..Self::default() }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Configured(config) => {
                self.config = config;
                self.retries.forgive_all();
                self.capacity = Capacity::default();
                self.look_again();
            }
            Event::Inherited(owned) => self.owned = owned,
            Event::Changed(change) => self.changed(change),
            Event::Lost => self.stale = true,
            Event::Resynced(snapshot) => {
                self.world.replace(snapshot);
                self.reading = Reading::default();
                (self.busy, self.synced, self.stale, self.dirty) = (false, true, false, true);
            }
            Event::Observed(observation) => {
                self.world.observation = Some(observation);
                self.reading = Reading::default();
                (self.busy, self.unobserved, self.dirty) = (false, false, true);
            }
            Event::Done(action, result) => self.done(&action, result, now),
            Event::Deadline => self.dirty |= self.retry_at.is_some_and(|at| at <= now),
            Event::Look => self.look_again(),
            Event::Stop => {
                self.stopping = true;
                self.retries.forgive_all();
                self.queue.clear();
                self.look_again();
            }
        }
    }

    /// The next thing to do, one at a time: there is none while one is being carried out.
    pub fn next_action(&mut self, now: Duration) -> Option<Action> {
        if self.busy {
            return None;
        }
        let action = self.queue.pop_front().or_else(|| self.read_first(now)).or_else(|| {
            self.make_plan(now);
            self.queue.pop_front().or_else(|| self.read_again(now))
        });
        self.busy = action.is_some();
        action
    }

    /// When [`Event::Deadline`] is due; none while nothing is pending.
    pub fn next_deadline(&self) -> Option<Duration> {
        let pass = (self.dirty && self.knows_enough()).then(|| self.pacer.next());
        let read = (self.stale || self.unobserved || !self.knows_enough()).then_some(self.reading.after);
        [pass, read, self.retry_at].into_iter().flatten().min()
    }

    /// Everything of ours has been removed, as far as it can be.
    pub fn finished(&self) -> bool {
        self.stopping && self.settled()
    }

    /// What is known and intended.
    pub fn report(&self) -> Report {
        let seen = self.world.observation.as_ref();
        Report {
            profile: self.config.profile.name().to_owned(),
            uplinks: self.desired.uplinks.clone(),
            endpoints: seen
                .iter()
                .flat_map(|seen| &seen.endpoints)
                .map(|endpoint| self.endpoint_report(endpoint))
                .collect(),
            limits: seen.and_then(|seen| seen.limits),
            findings: self.findings(),
            settled: self.settled(),
        }
    }

    /// Nothing is to be done until something happens.
    fn settled(&self) -> bool {
        let reading = self.stale || self.unobserved || !self.synced;
        !(self.busy || self.dirty || reading || self.retry_at.is_some()) && self.queue.is_empty()
    }

    fn look_again(&mut self) {
        self.unobserved = true;
        self.dirty = true;
    }

    fn changed(&mut self, change: Change) {
        let ifindex = interface_of(&change);
        let effect = self.world.apply(change);
        self.stale |= effect.unsure;
        if effect.changed {
            if let Some(ifindex) = ifindex {
                self.retries.forgive(ifindex);
            }
            self.look_again();
        }
    }

    fn done(&mut self, action: &Action, result: Result<(), Failure>, now: Duration) {
        self.busy = false;
        if matches!(action, Action::Resync | Action::Observe(_)) {
            self.reading.failed(result.err(), now);
            return;
        }
        let error = result.as_ref().err().map(|failure| failure.text.clone());
        self.retries.record(action.subject(), self.interface_acted_on(action), error, now);
        self.unobserved = true;
        match (action, result) {
            (Action::Save(_), result) => self.unsaved = result.is_err(),
            (_, Ok(())) => {}
            (action, Err(failure)) => self.refused(action, failure.kind),
        }
    }

    fn refused(&mut self, action: &Action, kind: FailureKind) {
        match (action, kind) {
            // Somebody else was quicker: it is theirs.
            (Action::AddEndpoint(new), FailureKind::Exists) => self.owned.endpoints.retain(|own| own != new),
            (Action::AddEndpoint(_), FailureKind::Full) => {
                let there = self.world.observation.as_ref().map_or(0, |seen| seen.endpoints.len());
                self.capacity.endpoints = there.max(1);
            }
            (Action::SetLimits(limits), FailureKind::Invalid) => {
                let greatest = limits.subflows.max(limits.add_addr_accepted);
                if greatest > policy::LIMITS_EVERYWHERE {
                    self.capacity.limits = policy::LIMITS_EVERYWHERE;
                }
            }
            _ => {}
        }
    }

    /// What has to be known before anything can be planned.
    fn read_first(&self, now: Duration) -> Option<Action> {
        let first = match (self.synced, &self.world.observation) {
            (false, _) => Some(Action::Resync),
            (true, None) => Some(self.observe()),
            (true, Some(_)) => None,
        };
        first.filter(|_| self.reading.after <= now)
    }

    /// What has to be looked at again once the plan is carried out.
    fn read_again(&self, now: Duration) -> Option<Action> {
        let again = match (self.stale, self.unobserved) {
            (true, _) => Some(Action::Resync),
            (false, true) => Some(self.observe()),
            (false, false) => None,
        };
        again.filter(|_| self.reading.after <= now)
    }

    fn observe(&self) -> Action {
        Action::Observe(policy::relevant_sysctls(&self.world))
    }

    fn knows_enough(&self) -> bool {
        self.synced && self.world.observation.is_some()
    }

    /// Compares what is wanted with what is there, if a pass is due.
    fn make_plan(&mut self, now: Duration) {
        if !self.dirty || !self.knows_enough() || !self.pacer.take(now) {
            return;
        }
        self.dirty = false;
        self.desired = if self.stopping {
            plan::farewell(&self.world, &self.owned)
        } else {
            policy::desire(&self.world, &self.config, &self.owned, self.capacity)
        };
        let (mut actions, owned) = plan::plan(&self.desired, &self.world, &self.owned);
        self.owned = owned;
        if self.unsaved && !matches!(actions.first(), Some(Action::Save(_))) {
            actions.insert(0, Action::Save(self.owned.clone()));
        }
        self.schedule(actions, now);
    }

    /// Leaves out what is not to be tried now.
    fn schedule(&mut self, actions: Vec<Action>, now: Duration) {
        let subjects: BTreeSet<Subject> = actions.iter().map(Action::subject).collect();
        self.retries.prune(|subject| subjects.contains(subject), now);
        self.retry_at = None;
        for action in actions {
            match self.retries.verdict(&action.subject(), now) {
                Verdict::Now => self.queue.push_back(action),
                Verdict::NotBefore(at) => {
                    self.retry_at = Some(self.retry_at.map_or(at, |earliest| earliest.min(at)));
                }
                Verdict::GivenUp => {}
            }
        }
    }

    fn interface_acted_on(&self, action: &Action) -> Option<IfIndex> {
        match action {
            Action::AddEndpoint(endpoint) => Some(endpoint.ifindex),
            Action::DeleteEndpoint(endpoint) | Action::SetBackup(endpoint, _) => endpoint.ifindex,
            Action::AddRoute(route) | Action::DeleteRoute(route) => {
                route.table.checked_sub(policy::TABLE_BASE)
            }
            Action::AddRule(rule) | Action::DeleteRule(rule) => {
                let addr = rule.src?.addr();
                self.world.addresses.keys().find(|(_, known)| *known == addr).map(|(ifindex, _)| *ifindex)
            }
            _ => None,
        }
    }

    fn endpoint_report(&self, endpoint: &Endpoint) -> EndpointReport {
        let owner = if endpoint.flags.contains(EndpointFlags::IMPLICIT) {
            Owner::Kernel
        } else if self.desired.stranded.contains(endpoint) {
            Owner::Stranded
        } else if self.owned.has(endpoint) {
            Owner::Ours
        } else {
            Owner::Foreign
        };
        let link = endpoint.ifindex.and_then(|ifindex| self.world.links.get(&ifindex));
        EndpointReport { endpoint: endpoint.clone(), interface: link.map(|link| link.name.clone()), owner }
    }

    fn findings(&self) -> Vec<Finding> {
        let failed = self.retries.errors().map(|(subject, error, given_up)| Finding {
            object: subject.to_string(),
            reason: error.to_owned(),
            given_up,
        });
        let reading = self.reading.error.iter().map(|error| Finding {
            object: Subject::Knowledge.to_string(),
            reason: error.clone(),
            given_up: false,
        });
        failed.chain(reading).collect()
    }
}

/// How reading the kernel goes. It is tried for as long as the daemon lives, at growing intervals.
#[derive(Clone, Debug, Default)]
struct Reading {
    failures: u32,
    after: Duration,
    error: Option<String>,
}

impl Reading {
    const FIRST_PAUSE: Duration = Duration::from_millis(100);
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);

    fn failed(&mut self, failure: Option<Failure>, now: Duration) {
        self.error = failure.map(|failure| failure.text);
        let pause = Self::FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.after = now + pause.min(Self::LONGEST_PAUSE);
        self.failures += 1;
    }
}

/// The interface that a change is about. Routes and rules of our own are the echo of what we did.
fn interface_of(change: &Change) -> Option<IfIndex> {
    match change {
        Change::Link(link) => Some(link.index),
        Change::LinkGone(ifindex) | Change::AddressGone(ifindex, _) => Some(*ifindex),
        Change::Address(address) => Some(address.ifindex),
        Change::Route(route) | Change::RouteGone(route) if route.protocol != world::OUR_PROTOCOL => {
            route.hops.first().map(|hop| hop.ifindex)
        }
        Change::Route(_) | Change::RouteGone(_) | Change::Rule(_) | Change::RuleGone(_) => None,
    }
}
