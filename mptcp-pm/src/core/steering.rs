//! Policy for one connection: which of its subflows carry data, which stand by, and why.
//!
//! The kernel's scheduler uses the subflows that are not backup, so this is all that is decided: by the service type, by
//! the owner's order of the ways, by what is alive, and by what was measured.
mod gain;
mod lessons;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Step, Token};
use super::alarm::Figures;
use super::connections::{Connection, Ends, Subflow};
use super::flow::{FRESH, Flow, Look};
use super::health::{Health, State};
use super::service::Service;
use super::subflows::Aims;
use gain::{Alone, Carrier, Gain, Shown};
use lessons::Beside;
pub use lessons::Lessons;

/// The part that a subflow plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It carries data.
    Carries,
    /// It is a backup.
    StandsBy,
    /// It is a backup for as long as something is wrong with it.
    SetAside,
}

/// Why a subflow plays its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "in words below")]
pub enum Reason {
    BestUplink,
    LowestDelay,
    SameDelay,
    OnlyPath,
    LongTransfer,
    OtherUplink,
    HigherDelay,
    HigherDelaySoFar,
    AddsTooLittle,
    BackupUplink,
    Silent,
    NoAnswer,
}

impl Reason {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BestUplink => "the best uplink by the owner's order",
            Self::LowestDelay => "the lowest delay",
            Self::SameDelay => "as low a delay as the best path's",
            Self::OnlyPath => "the only path that was asked for",
            Self::LongTransfer => "the transfer is long enough for all paths",
            Self::OtherUplink => "another uplink goes before it",
            Self::HigherDelay => "another path has a lower delay",
            Self::HigherDelaySoFar => "another path has a lower delay, and the transfer is short so far",
            Self::AddsTooLittle => "it would hold up the others more than it adds",
            Self::BackupUplink => "its uplink is a backup, or costs money",
            Self::Silent => "nothing comes back on it",
            Self::NoAnswer => "its uplink does not answer",
        }
    }
}

/// Another path has to be faster by a fifth and by this much before an interactive connection moves to it.
const MARGIN: Duration = Duration::from_millis(2);

/// How long a carrier stays, unless something is wrong with it.
const STAY: Duration = Duration::from_secs(1);

/// What steers one connection.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    /// Subflows that are silent, and those that were of late.
    silences: Vec<Silence>,
    /// Since when the one leads that does ([`Subflow::leads`]).
    led_since: Duration,
    flow: Flow,
    /// What a transfer gains by each path, if it is long or several carry what may become so; boxed, because few transfers are.
    gain: Option<Box<Gain>>,
    changes: Changes,
}

/// The silence of a subflow.
#[derive(Clone, Debug)]
struct Silence {
    ends: Ends,
    /// It no longer is; until when it counts all the same.
    until: Option<Duration>,
    /// It is to be closed.
    dead: bool,
}

impl Silence {
    /// Whether it is still to be known of.
    fn lasts(&mut self, now: Duration) -> bool {
        let over = self.until.is_some_and(|at| at <= now);
        if over && self.dead {
            // That it is to be closed counts, whatever was heard since.
            self.until = None;
        }
        !over || self.dead
    }
}

/// What was last read of a subflow, and when it last moved anything. There are as many as subflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The smoothed round-trip time, microseconds.
    rtt_us: Option<NonZeroU32>,
    /// The least one of late, likewise.
    least_us: Option<NonZeroU32>,
    /// Bytes acknowledged and received.
    moved: u64,
    at: Duration,
    backlogged: bool,
    /// More was sent than received.
    sends: bool,
    /// Read since the last reading was complete.
    fresh: bool,
}

impl Measured {
    /// What was read now, after what was read before.
    pub fn next(before: Option<Self>, figures: &Figures, now: Duration) -> Self {
        let moved = figures.acked + figures.received;
        let at = before.filter(|before| before.moved == moved).map_or(now, |before| before.at);
        // Less than one counts as one.
        let micros = |time: Duration| {
            NonZeroU32::new(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
        };
        Self {
            rtt_us: figures.rtt.map(micros),
            least_us: figures.least.map(micros),
            moved,
            at,
            backlogged: figures.backlogged,
            sends: figures.acked > figures.received,
            fresh: true,
        }
    }

    fn rtt(&self) -> Option<Duration> {
        self.rtt_us.map(|us| Duration::from_micros(us.get().into()))
    }

    fn least(&self) -> Option<Duration> {
        self.least_us.map(|us| Duration::from_micros(us.get().into()))
    }
}

impl Carrier {
    /// None for a subflow that does not carry, or of which nothing was read.
    fn of(subflow: &Subflow) -> Option<Self> {
        let measured = subflow.measured.filter(|_| subflow.carries() == Some(true))?;
        Some(Self { ends: subflow.ends, moved: measured.moved, rtt: measured.rtt().unwrap_or_default() })
    }
}

/// When what carries has changed: whatever is measured or decided wrongly, the kernel and the peer have to bear it.
#[derive(Clone, Copy, Debug, Default)]
enum Changes {
    /// Nothing was decided yet.
    #[default]
    Undecided,
    /// The connection was first decided on at this time. It may begin on any way, and leaves it for the right one once
    /// without waiting.
    Begun(Duration),
    /// It has found its place.
    Settled,
    /// That was changed last at this time.
    Changed(Duration),
}

impl Changes {
    /// When the next one may be made; none when that was so all the time.
    fn next(self) -> Option<Duration> {
        match self {
            Self::Changed(at) => Some(at + STAY),
            _ => None,
        }
    }

    /// The connection is decided on.
    const fn begin(&mut self, now: Duration) {
        if matches!(self, Self::Undecided) {
            *self = Self::Begun(now);
        }
    }

    /// One is made.
    fn note(&mut self, now: Duration) {
        *self = match *self {
            Self::Begun(begun) if now < begun + STAY => Self::Settled,
            _ => Self::Changed(now),
        };
    }
}

impl Steering {
    /// A reading of its subflows is complete: what a long transfer shows is learned. Tells whether anything has moved since
    /// the last one.
    pub fn measured(&mut self, subflows: &mut [Subflow], lessons: &mut Lessons, now: Duration) -> bool {
        self.silences.retain_mut(|silence| silence.lasts(now));
        let known = || subflows.iter().filter_map(|subflow| subflow.measured.as_ref());
        let moved = known().map(|known| known.moved).sum();
        let slowest = known().filter_map(Measured::least).max().unwrap_or_default();
        let backlogged = known().any(|known| known.backlogged);
        // Of a subflow that has just begun there is a reading of its own, which says nothing of the others.
        let whole = known().all(|known| known.fresh);
        let lasted = self.flow.lasted();
        let more = self.flow.advance(moved, Look { backlogged, whole, slowest }, now);
        if self.flow.is_over() {
            self.end(lasted, lessons, now);
        }
        if whole && (self.flow.is_long() || self.flow.is_brisk() && is_shared(subflows)) {
            let carriers: Vec<Carrier> = subflows.iter().filter_map(Carrier::of).collect();
            let alone = || match carriers[..] {
                [Carrier { ends, .. }] => Some(Alone { ends, rate: self.flow.rate(now) }),
                _ => None,
            };
            let begin = || Box::new(Gain::of(alone(), sends(subflows), now));
            let gain = self.gain.get_or_insert_with(begin);
            let shown = gain.advance(&carriers, self.flow.lasts(now), now);
            learn(lessons, shown, gain.sends(), now);
        }
        subflows
            .iter_mut()
            .filter_map(|subflow| subflow.measured.as_mut())
            .for_each(|known| known.fresh = false);
        more
    }

    /// The connection has ended: what its transfer has shown is learned.
    pub fn close(&mut self, lessons: &mut Lessons, now: Duration) {
        self.end(self.flow.lasted(), lessons, now);
    }

    fn end(&mut self, lasted: Duration, lessons: &mut Lessons, now: Duration) {
        if let Some(gain) = self.gain.take() {
            learn(lessons, gain.end(lasted), gain.sends(), now);
        }
    }

    /// A subflow is silent; `gone` when that alone decides on it.
    pub fn silent(&mut self, ends: Ends, gone: bool) {
        let dead = gone || self.is_dead(&ends);
        self.silences.retain(|known| known.ends != ends);
        self.silences.push(Silence { ends, until: None, dead });
    }

    /// Subflows that are silent are given up, those that this tells.
    pub fn give_up(&mut self, is_meant: impl Fn(&Ends) -> bool) {
        let silent = self.silences.iter_mut().filter(|known| known.until.is_none() && is_meant(&known.ends));
        silent.for_each(|known| known.dead = true);
    }

    /// A subflow is no longer silent. It stays aside for a while: what comes and goes is not followed each time.
    pub fn heard(&mut self, ends: &Ends, now: Duration) {
        if let Some(known) = self.silences.iter_mut().find(|known| known.ends == *ends) {
            known.until = Some(now + STAY);
        }
    }

    /// A subflow is no more.
    pub fn forget(&mut self, subflow: &Subflow) {
        self.retain(|known| *known != subflow.ends);
        self.flow.forget(subflow.measured.map_or(0, |known| known.moved));
    }

    /// The subflows are others: what is known of those that stay is kept.
    pub fn replace(&mut self, before: &[Subflow], after: &mut [Subflow]) {
        let mut lost = 0;
        for subflow in before {
            match after.iter_mut().find(|known| known.ends == subflow.ends) {
                Some(known) => (known.measured, known.leads) = (subflow.measured, subflow.leads),
                None => lost += subflow.measured.map_or(0, |known| known.moved),
            }
        }
        self.retain(|known| after.iter().any(|subflow| subflow.ends == *known));
        self.flow.forget(lost);
    }

    fn retain(&mut self, exists: impl Fn(&Ends) -> bool) {
        self.silences.retain(|known| exists(&known.ends));
        if let Some(gain) = &mut self.gain {
            gain.retain(exists);
        }
    }

    /// Whether a subflow is silent, or was of late.
    pub const fn knows_silence(&self) -> bool {
        !self.silences.is_empty()
    }

    /// Whether a subflow was given up.
    pub fn is_dead(&self, ends: &Ends) -> bool {
        self.silences.iter().any(|known| known.ends == *ends && known.dead)
    }

    /// Whether the transfer that is under way may soon be long, or a new one may.
    pub fn is_promising(&self, now: Duration) -> bool {
        self.flow.is_brisk() || now < self.led_since + FRESH
    }

    /// Whether a long transfer has just been given other paths.
    pub fn is_trying(&self, now: Duration) -> bool {
        self.gain.as_ref().is_some_and(|gain| gain.is_fresh(now))
    }

    /// Whether the transfer that is under way is long.
    pub const fn is_long(&self) -> bool {
        self.flow.is_long()
    }

    /// When something that is decided now is to be decided again; it may be past.
    pub fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let trusted = self.silences.iter().filter_map(|known| known.until);
        trusted.chain(self.changes.next())
    }

    /// Whether what carries may be changed now, though nothing is wrong.
    pub fn may_change(&self, now: Duration) -> bool {
        self.changes.next().is_none_or(|at| at <= now)
    }

    /// Whether a subflow was silent and no longer is.
    fn recovers(&self, ends: &Ends) -> bool {
        self.silences.iter().any(|known| known.ends == *ends && known.until.is_some())
    }

    fn is_silent(&self, ends: &Ends, now: Duration) -> bool {
        let counts = |known: &Silence| known.dead || known.until.is_none_or(|at| now < at);
        self.silences.iter().any(|known| known.ends == *ends && counts(known))
    }
}

/// What is known of a subflow when parts are given out.
struct Candidate {
    place: usize,
    ends: Ends,
    /// How high its way stands in the owner's order.
    rank: usize,
    /// The owner wants it to stand by.
    reluctant: bool,
    is_silent: bool,
    state: State,
    rtt: Option<Duration>,
}

impl Candidate {
    /// None for what is not the daemon's business.
    fn new(place: usize, connection: &Connection, surroundings: &Surroundings<'_>) -> Option<Self> {
        let Surroundings { aims, health, now, .. } = *surroundings;
        let (subflow, steering) = (&connection.subflows[place], &connection.steering);
        let (rank, way) = aims.find(subflow.ends.local().ip()).filter(|_| subflow.established)?;
        let state = health.state(way.addr);
        Some(Self {
            place,
            ends: subflow.ends,
            rank,
            reluctant: way.is_backup(),
            // While the other end is asked nothing is changed: what is lost moves when the subflow is closed, not before.
            is_silent: state != State::Suspect && steering.is_silent(&subflow.ends, now),
            state,
            rtt: rtt(subflow, way.addr, connection.service, health),
        })
    }

    /// The lower, the better; those that are alike compete.
    const fn class(&self) -> u8 {
        match (self.state.is_usable() && !self.is_silent, self.reluctant) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) => SICK,
        }
    }
}

/// The delay of a subflow's path: what stands by carries nothing that could be timed, and is as fast as the last answer
/// over its way. A transfer that fills its own queue is no reason to leave a path that is otherwise shorter.
fn rtt(subflow: &Subflow, way: IpAddr, service: Service, health: &Health) -> Option<Duration> {
    let asked = health.rtt(way, subflow.ends.remote().ip());
    let Some(measured) = &subflow.measured else { return asked.map(|(rtt, _)| rtt) };
    match (service, asked) {
        (Service::Aggregate, asked) => measured.least().into_iter().chain(asked.map(|(rtt, _)| rtt)).min(),
        (_, Some((rtt, at))) if measured.at < at => Some(rtt),
        _ => measured.rtt(),
    }
}

/// The class of those that something is wrong with.
const SICK: u8 = 2;

/// What a decision rests on beside the connection itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What is wanted of all connections.
    pub aims: &'a Aims,
    /// Which ways are alive.
    pub health: &'a Health,
    /// What ways have added to long transfers.
    pub lessons: &'a Lessons,
    /// When it is made.
    pub now: Duration,
}

/// Whether a subflow would get another part than it has: what was measured is no reason to look at a connection again
/// where it changes nothing.
pub fn would_decide(connection: &Connection, surroundings: &Surroundings<'_>) -> bool {
    let decision = decision(connection, surroundings);
    decision.parts.into_iter().any(|(place, decided)| connection.subflows[place].part != Some(decided))
}

/// Gives each established subflow its part. What carries changes at most once a second, but for what is hurt.
pub fn decide(token: Token, connection: &mut Connection, surroundings: &Surroundings<'_>) {
    let now = surroundings.now;
    connection.steering.changes.begin(now);
    let Decision { carrier, parts } = decision(connection, surroundings);
    if parts.iter().any(|decided| changes(connection, decided)) {
        // What is hurt is left in any case: that happens no more often than it falls silent.
        if !connection.steering.may_change(now) && !is_hurt(connection, &parts) {
            return;
        }
        connection.steering.changes.note(now);
    }
    if let Some(carrier) = carrier
        && !connection.subflows.iter().any(|subflow| subflow.leads && subflow.ends == carrier)
    {
        connection.steering.led_since = now;
        connection.subflows.iter_mut().for_each(|subflow| subflow.leads = subflow.ends == carrier);
    }
    for (place, (part, why)) in parts {
        let subflow = &mut connection.subflows[place];
        let carried = subflow.carries() == Some(true);
        let before = subflow.part.replace((part, why)).map(|(part, _)| part);
        if carried != (part == Part::Carries) {
            connection.steering.gain.iter_mut().for_each(|gain| gain.restart(now));
        }
        if before != Some(part) {
            connection.retries.forget(&Step::SetBackup(subflow.ends, true).subject(token));
        }
    }
}

/// Whether a decision changes what carries.
fn changes(connection: &Connection, (place, (part, _)): &Decided) -> bool {
    carries(connection, *place) != (*part == Part::Carries)
}

/// Whether something carries that something is wrong with, though there is something better, or nothing is left that
/// carries.
fn is_hurt(connection: &Connection, parts: &[Decided]) -> bool {
    let mut left = parts.iter().filter(|(place, _)| carries(connection, *place)).peekable();
    let is_hurt = |place: usize| !connection.steering.recovers(&connection.subflows[place].ends);
    left.peek().is_none() || left.any(|(place, (part, _))| *part == Part::SetAside && is_hurt(*place))
}

/// Whether a subflow carries so far. Before anything was decided that is what the kernel does; later on, one that is new
/// carries when that is decided.
fn carries(connection: &Connection, place: usize) -> bool {
    let subflow = &connection.subflows[place];
    let undecided = || connection.subflows.iter().all(|subflow| subflow.part.is_none());
    subflow.carries().unwrap_or_else(|| !subflow.backup && undecided())
}

type Decided = (usize, (Part, Reason));

/// What each subflow is to do.
#[derive(Default)]
struct Decision {
    /// The one that carries while one carries.
    carrier: Option<Ends>,
    parts: Vec<Decided>,
}

fn decision(connection: &Connection, surroundings: &Surroundings<'_>) -> Decision {
    let all: Vec<Candidate> = (0..connection.subflows.len())
        .filter_map(|place| Candidate::new(place, connection, surroundings))
        .collect();
    let class = all.iter().map(Candidate::class).min();
    let (best, others): (Vec<&Candidate>, Vec<&Candidate>) =
        all.iter().partition(|candidate| Some(candidate.class()) == class);
    let keep_up = keep_up(connection, &best, surroundings);
    let Some(carrier) = carrier(connection, &keep_up, surroundings) else { return Decision::default() };
    let steering = &connection.steering;
    let lasts = steering.flow.lasts(surroundings.now);
    let shared = shares(connection, surroundings.aims);
    let sends = shared && sends(&connection.subflows);
    // What it is given arrives no later than what the best path is given, however short the transfer.
    let is_alike = |one: &Candidate| {
        is_aggregate(connection)
            && keep_up.iter().any(|known| known.place == one.place)
            && is_as_quick(connection, one, carrier)
    };
    // As long again as it has lasted.
    let is_too_short = |known: &Candidate, other: &&Candidate| {
        let worth = surroundings
            .lessons
            .worth(&beside(known.ends.local().ip(), &other.ends, sends), surroundings.now);
        worth.is_some_and(|worth| worth.pays_after > lasts * 2)
    };
    // What this transfer has seen goes before what others have.
    let adds = |candidate: &&Candidate| {
        let is_out = steering.gain.as_ref().and_then(|gain| gain.is_out(&candidate.ends, lasts));
        !is_out.unwrap_or_else(|| {
            !is_alike(candidate) && best.iter().any(|other| is_too_short(candidate, other))
        })
    };
    // Where what delivered most is no more, the others carry. What is not shared need not be weighed.
    let is_choice = shared && best.iter().any(adds);
    let best = best.iter().map(|candidate| {
        let part = match (shared, candidate.place == carrier.place) {
            (true, _) if is_choice && !adds(candidate) => (Part::StandsBy, Reason::AddsTooLittle),
            (true, _) => (Part::Carries, Reason::LongTransfer),
            (false, true) => (Part::Carries, why(connection.service)),
            (false, false) if is_alike(candidate) => (Part::Carries, Reason::SameDelay),
            (false, false) => (Part::StandsBy, why_not(connection.service)),
        };
        (candidate.place, part)
    });
    let others = others.into_iter().map(|candidate| {
        let part = match (candidate.class(), candidate.is_silent) {
            (SICK, true) => (Part::SetAside, Reason::Silent),
            (SICK, false) => (Part::SetAside, Reason::NoAnswer),
            _ => (Part::StandsBy, Reason::BackupUplink),
        };
        (candidate.place, part)
    });
    Decision { carrier: Some(carrier.ends), parts: best.chain(others).collect() }
}

/// Whether several subflows carry.
fn is_shared(subflows: &[Subflow]) -> bool {
    subflows.iter().filter_map(Carrier::of).nth(1).is_some()
}

fn learn(lessons: &mut Lessons, shown: Vec<Shown>, sends: bool, now: Duration) {
    for Shown { ends, best, worth } in shown {
        lessons.learn(beside(ends.local().ip(), &best, sends), worth, now);
    }
}

/// A way beside that of a subflow.
fn beside(way: IpAddr, best: &Ends, sends: bool) -> Beside {
    Beside { way, best: best.local().ip(), remote: best.remote().ip(), sends }
}

/// Whether a connection sends more than it receives, where most has moved.
fn sends(subflows: &[Subflow]) -> bool {
    let measured = subflows.iter().filter_map(|subflow| subflow.measured.as_ref());
    measured.max_by_key(|known| known.moved).is_some_and(|known| known.sends)
}

/// Whether all good paths carry. Where nothing is measured there is no telling when a transfer is long.
const fn shares(connection: &Connection, aims: &Aims) -> bool {
    is_aggregate(connection) && (connection.steering.is_long() || !aims.measured)
}

const fn is_aggregate(connection: &Connection) -> bool {
    matches!(connection.service, Service::Aggregate)
}

const fn why(service: Service) -> Reason {
    match service {
        Service::Handover => Reason::BestUplink,
        Service::Interactive | Service::Aggregate => Reason::LowestDelay,
        Service::Single => Reason::OnlyPath,
    }
}

const fn why_not(service: Service) -> Reason {
    match service {
        Service::Handover | Service::Single => Reason::OtherUplink,
        Service::Interactive => Reason::HigherDelay,
        Service::Aggregate => Reason::HigherDelaySoFar,
    }
}

/// The one that carries while one carries; none without candidates.
fn carrier<'a>(
    connection: &Connection,
    best: &[&'a Candidate],
    surroundings: &Surroundings<'_>,
) -> Option<&'a Candidate> {
    // Of those that are alike the initial one, and then always the same.
    let tie = |candidate: &Candidate| (candidate.ends != connection.ends, candidate.ends);
    let best = || best.iter().copied();
    let by_order = best().min_by_key(|candidate| (candidate.rank, tie(candidate)))?;
    if !is_by_delay(connection, surroundings.aims) {
        return Some(by_order);
    }
    let timed = best().filter_map(|candidate| Some((candidate.rtt?, candidate)));
    let Some((rtt, fastest)) = timed.min_by_key(|(rtt, candidate)| (*rtt, tie(candidate))) else {
        return Some(by_order);
    };
    let stayed = surroundings.now.saturating_sub(connection.steering.led_since);
    let present = best().find(|candidate| connection.subflows[candidate.place].leads);
    Some(present.filter(|known| !gains(known.rtt, rtt, stayed)).unwrap_or(fastest))
}

const fn is_by_delay(connection: &Connection, aims: &Aims) -> bool {
    matches!(connection.service, Service::Interactive | Service::Aggregate) && aims.measured
}

/// Whether it is worth moving to a path with this round-trip time.
fn gains(present: Option<Duration>, rtt: Duration, stayed: Duration) -> bool {
    match present {
        None => true,
        // At the beginning the one path may be much longer than the other.
        Some(present) if rtt + rtt / 2 + MARGIN < present => true,
        Some(present) => stayed >= STAY && rtt + rtt / 4 + MARGIN < present,
    }
}

/// Those that are not known to fall behind another one of as low a delay, or all where each of them falls behind.
fn keep_up<'a>(
    connection: &Connection,
    best: &[&'a Candidate],
    surroundings: &Surroundings<'_>,
) -> Vec<&'a Candidate> {
    if !is_aggregate(connection) {
        return best.to_vec();
    }
    let keeps_up = |one: &&Candidate| {
        let others = best.iter().filter(|other| other.place != one.place);
        let mut alike = others.filter(|other| is_as_quick(connection, other, one));
        !alike.any(|other| lags(one.ends.local().ip(), &other.ends, surroundings))
    };
    let keep_up: Vec<&Candidate> = best.iter().copied().filter(keeps_up).collect();
    if keep_up.is_empty() { best.to_vec() } else { keep_up }
}

/// Whether a path has as low a delay as another one; one that carries may be a little longer.
fn is_as_quick(connection: &Connection, one: &Candidate, other: &Candidate) -> bool {
    let stayed = if carries(connection, one.place) { Duration::ZERO } else { STAY };
    other.rtt.is_some_and(|rtt| !gains(one.rtt, rtt, stayed))
}

/// Whether a way is known to fall behind that of a subflow. At its beginning a transfer does not tell in which direction it
/// will go.
fn lags(way: IpAddr, other: &Ends, Surroundings { lessons, now, .. }: &Surroundings<'_>) -> bool {
    let worth = |sends| lessons.worth(&beside(way, other, sends), *now);
    [true, false].into_iter().filter_map(worth).any(|worth| worth.lags)
}

/// Whether a subflow from a way begins as a backup: it carries at once only where that is certain to be wanted.
pub fn begins_standing_by(
    connection: &Connection,
    way: IpAddr,
    remote: IpAddr,
    surroundings: &Surroundings<'_>,
) -> bool {
    let aims = surroundings.aims;
    let is_wanted = match (shares(connection, aims), is_by_delay(connection, aims)) {
        (true, _) => true,
        (false, true) => is_known_to_carry(connection, way, remote, surroundings),
        (false, false) => aims.rank(way) == Some(0),
    };
    aims.is_reluctant(way) || !is_wanted
}

/// Whether a way is known to be worth leaving what the connection has for, or to carry beside it. It would carry a round
/// trip later if it stood by until that is measured: no priority is taken before the other end has confirmed it.
fn is_known_to_carry(
    connection: &Connection,
    way: IpAddr,
    remote: IpAddr,
    surroundings: &Surroundings<'_>,
) -> bool {
    let Surroundings { aims, health, .. } = surroundings;
    let Some((own, _)) = health.rtt(way, remote) else { return false };
    let present =
        |ends: &Ends, subflow| rtt(subflow, aims.place(ends.local().ip()), connection.service, health);
    let is_alike = |ends: &Ends, rtt| {
        is_aggregate(connection) && !gains(Some(own), rtt, STAY) && !lags(way, ends, surroundings)
    };
    connection.subflows.iter().all(|subflow| {
        let ends = &subflow.ends;
        present(ends, subflow).is_some_and(|rtt| gains(Some(rtt), own, Duration::ZERO) || is_alike(ends, rtt))
    })
}
