//! The pure core: events in, actions out, deadlines. No socket, file, clock or thread is known here; the I/O lives in
//! `netlink`, `sysctl`, `state` and `daemon`, and time comes in as a duration since some start.
pub mod action;
pub mod alarm;
mod cause;
pub mod connections;
pub mod event;
mod findings;
pub mod flow;
pub mod health;
pub mod hints;
pub mod observed;
pub mod owned;
mod pass;
pub mod paths;
pub mod plan;
pub mod policy;
pub mod reading;
pub mod recording;
pub mod report;
mod rest;
pub mod retry;
pub mod routes;
pub mod service;
pub mod steering;
pub mod subflows;
pub mod uplink;
pub mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use self::action::{Action, Subject};
use self::cause::Cause;
use self::connections::{Notice, Token};
use self::event::{Event, Failure, FailureKind};
use self::health::Request;
use self::observed::World;
use self::owned::Owned;
use self::paths::Paths;
use self::policy::{Capacity, Desired};
use self::reading::Source;
use self::report::Report;
use self::retry::{Pacer, Retries};
use self::service::{Rules, Service};
use self::world::{Change, EndpointFlags, Link, Observation, Snapshot};
use crate::config::{Config, Manager};

#[cfg(test)]
mod tests;

/// The state of one daemon.
///
/// Feed it with [`Core::handle`]; after each event carry out [`Core::next_action`] until there is none, answering
/// each with its event; then wait for the next event or for [`Core::next_deadline`].
#[derive(Clone, Debug)]
pub struct Core {
    config: Config,
    world: World,
    /// What is ours in the kernel.
    owned: Owned,
    /// What will be ours when the plan is carried out: what the state file is to hold.
    intended: Owned,
    /// What the state file holds; none when that is not known.
    saved: Option<Owned>,
    desired: Desired,
    capacity: Capacity,
    /// The kernel has refused an endpoint because it has no room: what it holds then is what it can hold.
    full: bool,
    /// Actions of the present plan that are not carried out yet.
    queue: VecDeque<Action>,
    /// An action is being carried out.
    busy: bool,
    /// Links, addresses, routes and rules.
    routing: Source,
    /// Endpoints, limits and sysctls.
    endpoints: Source,
    /// Connections and their subflows, while the daemon manages them.
    sockets: Source,
    paths: Paths,
    /// Events of connections are heard.
    hearing: bool,
    /// Subflows are measured.
    measuring: bool,
    /// What was told while the action was being carried out: its answer may be older.
    meanwhile: Vec<Change>,
    /// Local addresses whose subflows have failed and are to be tried again.
    failed: BTreeSet<IpAddr>,
    /// A pass is due.
    dirty: bool,
    stopping: bool,
    handing_over: bool,
    /// The earliest time at which an action that failed may be tried again.
    retry_at: Option<Duration>,
    retries: Retries,
    passes: Pacer,
}

/// The steady rates under endless churn; a dump of routing is dear where there are many routes.
const PASS_EVERY: Duration = Duration::from_millis(25);
const OBSERVE_EVERY: Duration = Duration::from_millis(25);
const RESYNC_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Core {
    /// A core that knows nothing yet: its first actions read the kernel.
    pub fn new(config: Config) -> Self {
        let mut paths = Paths::default();
        paths.set_rules(Rules::of(&config));
        Self {
            config,
            world: World::default(),
            owned: Owned::default(),
            intended: Owned::default(),
            saved: Some(Owned::default()),
            desired: Desired::default(),
            capacity: Capacity::default(),
            full: false,
            queue: VecDeque::new(),
            busy: false,
            routing: Source::new(Pacer::new(RESYNC_EVERY)),
            endpoints: Source::new(Pacer::new(OBSERVE_EVERY)),
            sockets: Source::new(Pacer::new(LOOK_EVERY)),
            paths,
            hearing: false,
            measuring: false,
            meanwhile: Vec::new(),
            failed: BTreeSet::new(),
            dirty: true,
            stopping: false,
            handing_over: false,
            retry_at: None,
            retries: Retries::default(),
            passes: Pacer::new(PASS_EVERY),
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Configured(config) => self.configured(config),
            Event::Inherited(owned) => {
                self.saved = Some(owned.clone());
                self.owned = owned;
                self.dirty = true;
            }
            Event::Changed(change) => {
                if self.busy {
                    self.meanwhile.push(change.clone());
                }
                self.changed(change, now);
            }
            Event::Desktop(desktop) => self.told(desktop),
            Event::Lost => self.routing.look(),
            Event::Resynced(snapshot) => self.resynced(snapshot, now),
            Event::Observed(observation) => self.observed(observation),
            Event::Hearing(hearing) => {
                (self.hearing, self.dirty) = (hearing, true);
                self.sockets.look();
            }
            Event::Connection(token, notice) => self.connection(token, notice, now),
            // Where the kernel manages the connections, nobody asks whose they are.
            Event::Owned(token, owner) if self.manages() => self.paths.owned(token, owner),
            Event::Service(token, service) => self.paths.set_service(token, service),
            Event::ConnectionsLost => self.sockets.look(),
            Event::Connections(seen) => {
                self.paths.replace(seen);
                self.dirty |= !self.sockets.is_known();
                self.busy = false;
                self.sockets.succeeded();
            }
            Event::Measuring(measuring) => {
                self.dirty |= self.measuring != measuring;
                self.measuring = measuring;
            }
            Event::Read(figures) if self.manages() => self.paths.read(&figures, now),
            Event::Read(figures) if self.watches() => self.paths.overhear(&figures, now),
            Event::Measured => self.paths.measured(now),
            Event::Alarm(alarm) if self.watches() => self.paths.alarm(&alarm, now),
            Event::Answered(probe, rtt) => {
                self.paths.answered(&probe, rtt, now);
                self.heed();
            }
            Event::Owned(..) | Event::Read(_) | Event::Alarm(_) => {}
            Event::Done(action, result) => self.done(action, result, now),
            Event::Deadline => {
                self.dirty |= self.retry_at.is_some_and(|at| at <= now);
                self.retry_at = self.retry_at.filter(|at| *at > now);
            }
            Event::Look => self.look_again(),
            Event::Stop => self.stop(),
            Event::HandOver => self.hand_over(),
        }
    }

    /// The next thing to do, one at a time: there is none while one is being carried out.
    pub fn next_action(&mut self, now: Duration) -> Option<Action> {
        if self.busy || self.finished() {
            return None;
        }
        let action = self.step(now);
        self.busy = action.is_some();
        self.meanwhile.clear();
        action
    }

    /// When [`Event::Deadline`] is due; none while nothing is pending.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.busy || self.finished() {
            return None;
        }
        let pass = (self.dirty && self.can_plan()).then(|| self.passes.next());
        let paths = (self.watches() && self.can_plan()).then(|| self.paths.deadline()).flatten();
        let queued = (!self.queue.is_empty()).then_some(Duration::ZERO);
        let later = self.to_read().map(Source::next).chain(pass).chain(self.retry_at);
        later.chain(paths).chain(queued).min()
    }

    /// Everything of ours has been removed, or left to a successor, as far as it can be.
    pub fn finished(&self) -> bool {
        // Where the kernel could not be read even once, there is nothing that could be done.
        let blind = self.idle() && !self.can_plan();
        let left = self.handing_over && !self.busy && !self.endpoints.is_urgent() && !self.is_entrusted();
        left || ((self.stopping || self.handing_over) && (self.settled() || blind))
    }

    /// What is known and intended.
    pub fn report(&self) -> Report {
        let seen = self.world.observation.as_ref();
        Report {
            profile: self.config.profile.name().to_owned(),
            manager: if self.is_in_charge() { Manager::Daemon } else { Manager::Kernel },
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

    /// The connections whose paths are the daemon's business.
    pub fn connections(&self) -> &Paths {
        &self.paths
    }

    /// Which connections have another service type than when this was last asked; none for those that have gone or that the
    /// kernel manages.
    pub fn take_services(&mut self) -> Vec<(Token, Option<Service>)> {
        self.paths.take_services()
    }

    /// Whether subflows should be read often: transfers may be about to become long.
    pub const fn is_growing(&self) -> bool {
        self.paths.is_growing()
    }

    /// Nothing is to be done until something happens.
    fn settled(&self) -> bool {
        let at_work = self.watches() && self.paths.deadline() == Some(Duration::ZERO);
        self.idle() && !self.dirty && self.retry_at.is_none() && !at_work
    }

    /// Whether the paths of connections are the daemon's business: those of new ones, or of some that were begun while
    /// they were. A connection keeps its path manager.
    pub fn manages(&self) -> bool {
        let wanted = self.config.manager == Some(Manager::Daemon) || self.paths.count() > 0;
        wanted && self.hearing && !self.stopping && !self.handing_over
    }

    /// Whether silence and figures of subflows are of interest. Where the kernel manages all connections, what they prove
    /// of an uplink decides on its endpoints.
    pub fn watches(&self) -> bool {
        let by_endpoints = self.config.manager != Some(Manager::Daemon) && self.paths.count() == 0;
        self.manages() || (by_endpoints && !self.stopping && !self.handing_over)
    }

    /// Draws the consequences of what is known of uplinks, where no connection draws its own.
    fn heed(&mut self) {
        let unanswered = if self.manages() { BTreeSet::new() } else { self.paths.unanswered() };
        if unanswered != self.world.unanswered {
            self.world.unanswered = unanswered;
            self.dirty = true;
        }
    }

    /// Whether new connections are the daemon's.
    fn is_in_charge(&self) -> bool {
        self.manages() && self.is_entrusted()
    }

    /// Whether the kernel leaves new connections to a daemon.
    fn is_entrusted(&self) -> bool {
        let mut seen = self.world.observation.iter().flat_map(|seen| &seen.sysctls);
        seen.any(|(key, value)| policy::entrusts(key, value))
    }

    /// Nothing is being done, waits its turn or is to be read.
    fn idle(&self) -> bool {
        !self.busy && self.queue.is_empty() && self.to_read().next().is_none()
    }

    /// What is to be read. The names of the links are needed to ask for their sysctls.
    fn to_read(&self) -> impl Iterator<Item = &Source> {
        let known = self.routing.is_known() && self.endpoints.is_known();
        let readable = [
            Some(&self.routing),
            self.routing.is_known().then_some(&self.endpoints),
            (known && self.manages()).then_some(&self.sockets),
        ];
        readable.into_iter().flatten().filter(|source| source.is_due())
    }

    /// At the end, what is put back is put back where it is now: nothing is planned on what was seen before.
    fn look_again(&mut self) {
        match self.stopping {
            true => self.endpoints.look_first(),
            false => self.endpoints.look(),
        }
        self.dirty = true;
    }

    fn configured(&mut self, config: Config) {
        self.paths.set_rules(Rules::of(&config));
        self.config = config;
        self.retries.forgive_all();
        self.paths.forgive_all();
        self.sockets.look();
        self.capacity = Capacity::default();
        self.look_again();
    }

    /// What the path manager holds is read first: somebody may have changed what would be put back.
    fn stop(&mut self) {
        self.stopping = true;
        self.retries.hurry();
        self.retry_at = None;
        self.routing.hurry();
        self.endpoints.hurry();
        self.queue.clear();
        self.endpoints.look_first();
        self.dirty = true;
    }

    /// Only who is in charge of new connections is changed.
    fn hand_over(&mut self) {
        self.handing_over = true;
        self.retries.hurry();
        self.retry_at = None;
        self.endpoints.hurry();
        self.queue.clear();
        self.endpoints.look_first();
        self.dirty = true;
    }

    /// The endpoints are looked at too: who manages them beside us may have heard the same. At once only after a change
    /// of a link, which may have brought sysctls that are not known.
    fn changed(&mut self, change: Change, now: Duration) {
        let of_link = matches!(change, Change::Link(_) | Change::LinkGone(_));
        let cause = Cause::of(&change, &self.world);
        let renamed = match &change {
            Change::Link(link) => self.renamed(std::slice::from_ref(link)),
            _ => BTreeMap::new(),
        };
        if self.world.apply(change) {
            self.owned.rename(&renamed);
            match of_link || self.stopping {
                true => self.look_again(),
                false => self.endpoints.look_later(now),
            }
            self.dirty = true;
            if let Some(cause) = cause {
                self.retries.forgive(|subject| cause.concerns(subject));
            }
        }
    }

    fn resynced(&mut self, snapshot: Snapshot, now: Duration) {
        let renamed = self.renamed(&snapshot.links);
        let before = std::mem::take(&mut self.world);
        self.world.observation.clone_from(&before.observation);
        self.world.desktop.clone_from(&before.desktop);
        self.world.unanswered.clone_from(&before.unanswered);
        self.world.replace(snapshot);
        self.owned.rename(&renamed);
        if (&before.links, &before.addresses) != (&self.world.links, &self.world.addresses) {
            self.retries.forgive(|_| true);
        }
        self.busy = false;
        self.routing.succeeded();
        self.look_again();
        self.catch_up(now);
    }

    /// The interfaces whose names are others now.
    fn renamed(&self, links: &[Link]) -> BTreeMap<String, String> {
        let known = |link: &Link| self.world.links.get(&link.index).map(|known| known.name.clone());
        let pairs = links.iter().filter_map(|link| Some((known(link)?, link.name.clone())));
        pairs.filter(|(old, new)| old != new).collect()
    }

    fn observed(&mut self, observation: Observation) {
        if std::mem::take(&mut self.full) {
            self.capacity.endpoints = observation.endpoints.len().max(policy::ENDPOINTS_EVERYWHERE);
        }
        self.world.observation = Some(observation);
        (self.busy, self.dirty) = (false, true);
        self.endpoints.succeeded();
    }

    /// A subflow that has failed is tried again by whoever manages its connection. With endpoints that costs what is under
    /// way over them: not for a connection that is not known to be the kernel's, or has ended since.
    fn connection(&mut self, token: Token, notice: Notice, now: Duration) {
        let by_kernel = !self.manages() || self.paths.is_the_kernels(token);
        if let (true, Notice::SubflowClosed(ends, Some(loss))) = (by_kernel, &notice)
            && loss.of_the_way
        {
            self.subflow_failed(ends.local().ip(), loss.reason.clone(), now);
        }
        if self.manages() {
            self.paths.note(token, notice, now);
            self.look_where_unsure();
        }
    }

    /// Something is known of connections that only a dump explains.
    fn look_where_unsure(&mut self) {
        if self.paths.is_unsure() {
            self.sockets.look();
        }
    }

    /// Each connection has a subflow of its own: those that fail together, before they are tried again, are one failure.
    /// Only endpoints of ours that make subflows are of interest.
    fn subflow_failed(&mut self, addr: IpAddr, error: String, now: Duration) {
        let mut seen = self.world.observation.iter().flat_map(|seen| &seen.endpoints);
        let makes_subflows = seen.any(|endpoint| {
            endpoint.addr == addr
                && endpoint.flags.contains(EndpointFlags::SUBFLOW)
                && self.owned.has(endpoint)
        });
        if makes_subflows && self.failed.insert(addr) {
            self.retries.record(Subject::Subflows(addr), Some(error), now);
            self.dirty = true;
        }
    }

    fn done(&mut self, action: Action, result: Result<(), Failure>, now: Duration) {
        self.busy = false;
        if let (Action::Resync | Action::Observe(_) | Action::LookAtConnections, Err(failure)) =
            (&action, result.clone())
        {
            return self.not_read(&action, failure, now);
        }
        match &action {
            Action::Manage(token, step) => {
                self.paths.done(*token, step, &result, now);
                return self.look_where_unsure();
            }
            // One that could not be asked is one that does not answer.
            Action::Ask(_) | Action::Bear(..) => return,
            _ => {}
        }
        if !matches!(action, Action::CloseInitial(_)) {
            let error = match &result {
                Err(failure) => Some(failure.text.clone()),
                // The deletion is half of the attempt, which is known to be a success when no more fails.
                Ok(()) if matches!(action, Action::RetrySubflows(_)) => Some("being tried again".to_owned()),
                Ok(()) => None,
            };
            self.retries.record(action.subject(), error, now);
        }
        match result {
            Ok(()) => self.carried_out(action, now),
            Err(failure) => self.refused(&action, failure.kind),
        }
    }

    fn not_read(&mut self, action: &Action, failure: Failure, now: Duration) {
        let attempts = self.stopping.then_some(retry::LAST_ATTEMPTS);
        match action {
            Action::Resync => {
                self.routing.failed(failure, attempts, now);
            }
            Action::LookAtConnections => {
                self.sockets.failed(failure, attempts, now);
                self.dirty |= !self.sockets.is_known();
            }
            _ => self.endpoints.failed(failure, attempts, now),
        }
    }

    /// What was acknowledged for routes and rules is the case; their notifications come later. What the path manager
    /// holds is read again: there are none.
    fn carried_out(&mut self, action: Action, now: Duration) {
        match action {
            Action::Save(owned) => {
                self.retries.forget(&Subject::State);
                self.saved = Some(owned);
            }
            Action::AddEndpoint(new) => {
                self.failed.remove(&new.addr);
                self.owned.endpoints.push(new);
                self.endpoints.look_first();
            }
            Action::RetrySubflows(old) => {
                self.failed.remove(&old.addr);
                self.endpoints.look_first();
            }
            Action::AddRoute(route) | Action::ChangeRoute(route) => self.believe(Change::Route(route), now),
            Action::DeleteRoute(route) => self.believe(Change::RouteGone(route), now),
            Action::AddRule(rule) => self.believe(Change::Rule(rule), now),
            Action::DeleteRule(rule) => self.believe(Change::RuleGone(rule), now),
            _ => self.endpoints.look_first(),
        }
    }

    fn believe(&mut self, change: Change, now: Duration) {
        self.world.apply(change);
        self.catch_up(now);
    }

    fn catch_up(&mut self, now: Duration) {
        for change in std::mem::take(&mut self.meanwhile) {
            self.changed(change, now);
        }
    }

    fn refused(&mut self, action: &Action, kind: FailureKind) {
        self.dirty = true;
        match (action, kind) {
            (Action::Save(_), _) => self.saved = None,
            // Another one is in its place, or it is there already, or no longer: what is known is wrong.
            (Action::AddRoute(_) | Action::AddRule(_), FailureKind::Exists) | (Action::ChangeRoute(_), _) => {
                self.routing.look();
            }
            (Action::AddEndpoint(new), kind) => {
                self.endpoints.look_first();
                // It may be there. What is not there is claimed no longer once the endpoints have been read.
                if kind == FailureKind::Unanswered {
                    self.owned.endpoints.push(new.clone());
                }
                // 6.1 gives the same answer for each.
                if matches!(kind, FailureKind::Full | FailureKind::Invalid) {
                    self.full = true;
                    self.queue.clear();
                }
            }
            (Action::SetLimits(limits), FailureKind::Invalid) => {
                let greatest = limits.subflows.max(limits.add_addr_accepted);
                if greatest > policy::LIMITS_EVERYWHERE {
                    self.capacity.limits = policy::LIMITS_EVERYWHERE;
                }
                self.endpoints.look_first();
            }
            _ => self.endpoints.look_first(),
        }
    }

    /// The very last plan waits for all that is to be read: there is none to correct it.
    fn can_plan(&self) -> bool {
        let known = self.routing.is_known() && self.endpoints.is_known();
        let last = self.stopping && self.routing.is_due();
        known && !last && !self.routing.is_urgent() && !self.endpoints.is_urgent()
    }

    /// A plan that has become due goes before the rest of an older one; where it has to wait for its turn, the older
    /// one goes on.
    fn step(&mut self, now: Duration) -> Option<Action> {
        if self.dirty && self.can_plan() && self.passes.take(now) {
            self.make_plan(now);
        }
        let urgent = self.dirty.then(|| self.read(Source::is_urgent, now)).flatten();
        // Connections go before endpoints, whose deletion takes its time; but a way exists before its subflows.
        let early = !self.queue.iter().any(|one| matches!(one, Action::AddRoute(_) | Action::AddRule(_)));
        urgent
            .or_else(|| early.then(|| self.manage(now)).flatten())
            .or_else(|| self.queue.pop_front())
            .or_else(|| self.read(Source::is_due, now))
            .or_else(|| self.read_sockets(now))
    }

    /// Nothing is done for a connection before it is known what is wanted.
    fn manage(&mut self, now: Duration) -> Option<Action> {
        if !(self.watches() && self.can_plan()) {
            return None;
        }
        let request = self.paths.request(now);
        self.heed();
        match request {
            Some(Request::Ask(probe)) => return Some(Action::Ask(probe)),
            Some(Request::Bear(ifindex, silence)) => return Some(Action::Bear(ifindex, silence)),
            None => {}
        }
        let (token, step) = self.paths.next(now)?;
        Some(Action::Manage(token, step))
    }

    fn read_sockets(&mut self, now: Duration) -> Option<Action> {
        let known = self.routing.is_known() && self.endpoints.is_known();
        let wanted = known && self.manages() && self.sockets.is_due() && self.sockets.next() <= now;
        wanted.then(|| {
            self.sockets.begin(now);
            Action::LookAtConnections
        })
    }

    fn read(&mut self, wanted: impl Fn(&Source) -> bool, now: Duration) -> Option<Action> {
        if wanted(&self.routing) && self.routing.next() <= now {
            self.routing.begin(now);
            return Some(Action::Resync);
        }
        let observable = self.routing.is_known() && wanted(&self.endpoints);
        if observable && self.endpoints.next() <= now {
            self.endpoints.begin(now);
            return Some(Action::Observe(policy::relevant_sysctls(&self.world)));
        }
        None
    }
}
