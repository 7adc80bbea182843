//! Which ways are alive: evidence of all connections is pooled for each way, and a question to the other end decides.
//!
//! ```text
//!            a subflow is late, silent or quiet: ask
//!      Good ────────────────────────────────────────> Suspect
//!       ^  ^────────── answered, or heard ─────────────│
//!       │                                              │ not answered in time
//!       │ answered so often that it can be trusted     v
//!    Probing <──────────── answered ───────────────── Dead
//!       │─────────────── not answered ─────────────────^
//! ```
//! A subflow is silent for many reasons; a way is dead when who used to answer over it does not. Somebody else who is
//! known to answer is asked at the same time: if he does, it is not the way that is dead, and the silence of a subflow
//! counts for the subflows to that one end. It counts for itself alone where that end has never answered: who never
//! does says nothing by it.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::alarm::{Alarm, Kind, Probe};
use super::world::IfIndex;

/// What is known of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing speaks against it.
    #[default]
    Good,
    /// Something on it is silent; the other end has been asked.
    Suspect,
    /// The other end does not answer.
    Dead,
    /// It answers again, and is not trusted yet.
    Probing,
}

impl State {
    /// Whether subflows may use it.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Good | Self::Suspect)
    }
}

/// How long an answer may take beside what the round-trip time and its variation say: the other end is busy too.
const GRACE: Duration = Duration::from_millis(10);

/// No answer is waited for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The second question of a round follows after this time: one of them may get lost.
const SECOND: Duration = Duration::from_millis(5);

/// Who has answered within this time is expected to answer again.
pub const EXPECTED_FOR: Duration = Duration::from_secs(3600);

/// Who has not answered is asked again when he is met after this time.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// No more are remembered at once.
const MOST_KNOWN: usize = 1024;

/// For so long a question is open; later answers are of no use to anybody.
pub const OPEN_FOR: Duration = Duration::from_secs(3);

/// How often a dead way is asked at first, and at most while somebody would use it, and while nobody would.
const ASK_FIRST: Duration = Duration::from_millis(200);
const ASK_AT_MOST: Duration = Duration::from_millis(700);
const ASK_IDLE: Duration = Duration::from_secs(60);

/// Without data for so long nobody is waiting for a way.
const INTEREST: Duration = Duration::from_secs(15);

/// How long apart the answers have to be that make a way trusted again.
const BETWEEN_ANSWERS: Duration = Duration::from_millis(100);

/// A way that dies again within this time after its return has to answer twice as often the next time.
const RELAPSE: Duration = Duration::from_secs(30);
const MOST_RELAPSES: u32 = 6;

/// What took no longer than this was a pause, as when a radio looks for other stations: longer silences are borne.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long that is remembered.
const PATIENCE_FOR: Duration = Duration::from_secs(600);

/// All ways.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ways: BTreeMap<IpAddr, Way>,
    /// Who was asked over which way.
    known: Known,
    /// By interface, as the kernel keeps it: an IPv4 and an IPv6 way may share one, and addresses change.
    patience: BTreeMap<IfIndex, Patience>,
    requests: VecDeque<Request>,
    /// Ways, and who does not answer over them though others do.
    alone: Vec<(IpAddr, IpAddr)>,
    /// When data last moved on any way.
    moved: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Ask.
    Ask(Probe),
    /// No subflow on this interface counts as silent before this time; zero takes that back.
    Bear(IfIndex, Duration),
}

/// Somebody at the other end of a way.
#[derive(Clone, Copy, Debug, Default)]
struct Acquaintance {
    /// When he was asked last, to get to know him.
    asked: Duration,
    /// When he answered last.
    answered: Option<Duration>,
    /// How long that took.
    rtt: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
struct Way {
    ifindex: IfIndex,
    state: State,
    round: Option<Round>,
    /// When the last sign of life came before it died.
    died: Duration,
    /// When it was let back.
    returned: Option<Duration>,
    relapses: u32,
    /// Answers since it is being probed.
    answers: u32,
    /// Rounds without an answer.
    failed: u32,
    /// When it is asked again.
    next: Option<(Duration, IpAddr)>,
}

/// Silence that is borne on an interface.
#[derive(Clone, Copy, Debug)]
struct Patience {
    pause: Duration,
    given: Duration,
}

/// One question that is open.
#[derive(Clone, Copy, Debug)]
struct Round {
    remote: IpAddr,
    second: Option<Duration>,
    until: Duration,
    /// When the last sign of life came.
    since: Duration,
    /// More than a suspicion speaks against the way: that it does not answer is enough.
    grave: bool,
    /// Somebody else has answered meanwhile.
    witnessed: bool,
}

/// What is known of who answers, by the way and the other end.
type Known = BTreeMap<(IpAddr, IpAddr), Acquaintance>;

/// Who else is expected to answer over a way: the one who did so last.
fn witness(known: &Known, way: IpAddr, besides: IpAddr, now: Duration) -> Option<IpAddr> {
    let others = known.iter().filter(|((over, remote), _)| *over == way && *remote != besides);
    let answering = others.filter_map(|((_, remote), known)| Some((known.answered?, *remote)));
    answering.filter(|(at, _)| now < *at + EXPECTED_FOR).max().map(|(_, remote)| remote)
}

/// Who is forgotten for somebody, if there is no room for him: who has been asked and has answered longest ago, and when
/// that was.
fn oldest(known: &Known, newcomer: (IpAddr, IpAddr)) -> Option<((IpAddr, IpAddr), Duration)> {
    if known.len() < MOST_KNOWN || known.contains_key(&newcomer) {
        return None;
    }
    let latest = known.iter().map(|(who, known)| (*who, known.asked.max(known.answered.unwrap_or_default())));
    latest.min_by_key(|(_, at)| *at)
}

impl Round {
    /// When it is decided without an answer. A mere suspicion is forgotten when nothing confirms it.
    fn end(&self) -> Duration {
        if self.grave { self.until } else { self.until + LONGEST_WAIT }
    }
}

impl Health {
    /// What is known of a way.
    pub fn state(&self, way: IpAddr) -> State {
        self.ways.get(&way).map_or(State::Good, |known| known.state)
    }

    /// Whether somebody is known to answer over a way.
    pub fn answers(&self, way: IpAddr, remote: IpAddr, now: Duration) -> bool {
        let answered = self.known.get(&(way, remote)).and_then(|known| known.answered);
        answered.is_some_and(|at| now < at + EXPECTED_FOR)
    }

    /// How long somebody last took to answer over a way, and when that was.
    pub fn rtt(&self, way: IpAddr, remote: IpAddr) -> Option<(Duration, Duration)> {
        let known = self.known.get(&(way, remote))?;
        known.rtt.zip(known.answered)
    }

    /// The ways that exist: what is known of others is forgotten.
    pub fn exist(&mut self, ways: impl Iterator<Item = (IpAddr, IfIndex)>) {
        let mut before = std::mem::take(&mut self.ways);
        for (addr, ifindex) in ways {
            let known = before.remove(&addr).filter(|known| known.ifindex == ifindex);
            self.ways.insert(addr, known.unwrap_or(Way { ifindex, ..Way::default() }));
        }
        let ways = &self.ways;
        self.known.retain(|(way, _), _| ways.contains_key(way));
        let there: BTreeSet<IfIndex> = ways.values().map(|way| way.ifindex).collect();
        self.bear_no_more(|ifindex, _| !there.contains(&ifindex));
    }

    /// Somebody is reached over a way: whether he answers, and how long that takes, is found out while it is alive, `every`
    /// so often. That can wait, unlike what decides on a way: while as many questions are open as can be remembered, nobody
    /// else is met, and his silence says nothing.
    pub fn meet(&mut self, way: IpAddr, remote: IpAddr, every: Duration, now: Duration) {
        let of_late = |known: &Acquaintance| {
            now < known.asked + if known.answered.is_some() { every } else { every.max(ASK_AGAIN) }
        };
        let Some(Way { ifindex, state: State::Good, .. }) = self.ways.get(&way) else { return };
        if self.known.get(&(way, remote)).is_some_and(of_late) {
            return;
        }
        match oldest(&self.known, (way, remote)) {
            Some((_, at)) if now < at + OPEN_FOR => return,
            Some((who, _)) => drop(self.known.remove(&who)),
            None => {}
        }
        self.known.entry((way, remote)).or_default().asked = now;
        self.requests.push_back(ask(way, *ifindex, remote));
    }

    /// Data has moved somewhere: somebody would use the ways that are dead.
    pub fn moved(&mut self, now: Duration) {
        if self.moved + INTEREST <= now {
            let waiting = self.ways.values_mut().filter_map(|way| way.next.as_mut());
            waiting.for_each(|(at, _)| *at = (*at).min(now));
        }
        self.moved = now;
    }

    /// A subflow on a way is silent, or no longer is. Tells whether its silence alone decides on it: nobody answers who
    /// could be asked.
    pub fn alarm(&mut self, way: IpAddr, alarm: &Alarm, now: Duration) -> bool {
        let remote = alarm.ends.remote().ip();
        let counts = self.answers(way, remote, now);
        let Some(known) = self.ways.get_mut(&way) else { return alarm.kind == Kind::Silent };
        match (alarm.kind, known.state) {
            (Kind::Heard, State::Suspect) => {
                known.round = None;
                known.state = State::Good;
            }
            (Kind::Late | Kind::Silent | Kind::Quiet, State::Good) if counts => {
                let wait = alarm.rtt + alarm.deviation * 4 + GRACE;
                known.state = State::Suspect;
                known.round = Some(Round {
                    remote,
                    second: Some(now + SECOND),
                    until: now + wait.min(LONGEST_WAIT),
                    since: now.saturating_sub(alarm.silence),
                    grave: alarm.kind != Kind::Late,
                    witnessed: false,
                });
                let asked = std::iter::once(remote).chain(witness(&self.known, way, remote, now));
                self.requests.extend(asked.map(|remote| ask(way, known.ifindex, remote)));
            }
            (Kind::Silent | Kind::Quiet, State::Suspect) => {
                known.round.iter_mut().for_each(|round| round.grave = true);
            }
            _ => {}
        }
        alarm.kind == Kind::Silent && !counts
    }

    /// An answer has come over a way.
    pub fn answered(&mut self, probe: &Probe, rtt: Duration, now: Duration) {
        let Probe { local: way, remote, .. } = *probe;
        let Some(known) = self.ways.get_mut(&way) else { return };
        if let Some((who, _)) = oldest(&self.known, (way, remote)) {
            self.known.remove(&who);
        }
        let acquaintance = self.known.entry((way, remote)).or_default();
        (acquaintance.answered, acquaintance.rtt) = (Some(now), Some(rtt));
        match known.state {
            State::Good => {}
            State::Suspect => match &mut known.round {
                Some(round) if round.remote != remote => round.witnessed = true,
                _ => {
                    known.round = None;
                    known.state = State::Good;
                }
            },
            State::Dead | State::Probing => {
                known.answers += 1;
                known.round = None;
                if known.answers >= 2_u32.pow(known.relapses) {
                    let (ifindex, silence) = (known.ifindex, known.come_back(now));
                    self.bear(ifindex, silence + silence / 2, now);
                } else {
                    known.state = State::Probing;
                    known.next = Some((now + BETWEEN_ANSWERS, remote));
                }
            }
        }
    }

    /// Does what has become due. Tells of each way whose state is another now what it was, and what it is.
    pub fn advance(&mut self, now: Duration) -> Vec<(State, State)> {
        let interest = now < self.moved + INTEREST;
        self.bear_no_more(|_, patience| patience.given + PATIENCE_FOR <= now);
        let mut changed = Vec::new();
        for (addr, way) in &mut self.ways {
            let before = way.state;
            let alone = way.advance(*addr, interest, now, &self.known, &mut self.requests);
            self.alone.extend(alone.map(|remote| (*addr, remote)));
            if way.state != before {
                changed.push((before, way.state));
            }
        }
        changed
    }

    /// Ways, and who does not answer over them though others do: each is told once.
    pub fn take_alone(&mut self) -> Vec<(IpAddr, IpAddr)> {
        std::mem::take(&mut self.alone)
    }

    /// The next thing to do.
    pub fn request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// When [`Self::advance`] has something to do; zero when [`Self::request`] has.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.requests.is_empty() {
            return Some(Duration::ZERO);
        }
        self.ways.values().filter_map(Way::deadline).min()
    }

    /// A short silence was a pause: the next one is borne. The greatest one counts.
    fn bear(&mut self, ifindex: IfIndex, pause: Duration, now: Duration) {
        let is_greater = self.patience.get(&ifindex).is_none_or(|known| known.pause < pause);
        if pause <= PAUSE && is_greater {
            self.patience.insert(ifindex, Patience { pause, given: now });
            self.requests.push_back(Request::Bear(ifindex, pause));
        }
    }

    fn bear_no_more(&mut self, is_over: impl Fn(IfIndex, &Patience) -> bool) {
        for (ifindex, _) in self.patience.extract_if(.., |ifindex, patience| is_over(*ifindex, patience)) {
            self.requests.push_back(Request::Bear(ifindex, Duration::ZERO));
        }
    }
}

impl Way {
    fn deadline(&self) -> Option<Duration> {
        let round = self.round.map(|round| round.second.unwrap_or(round.end()).min(round.end()));
        round.into_iter().chain(self.next.map(|(at, _)| at)).min()
    }

    /// Does what has become due; tells who does not answer though others do.
    fn advance(
        &mut self,
        addr: IpAddr,
        interest: bool,
        now: Duration,
        known: &Known,
        requests: &mut VecDeque<Request>,
    ) -> Option<IpAddr> {
        let mut alone = None;
        if let Some(round) = &mut self.round
            && round.second.is_some_and(|at| at <= now)
        {
            round.second = None;
            requests.push_back(ask(addr, self.ifindex, round.remote));
        }
        if let Some(round) = self.round.filter(|round| round.end() <= now) {
            self.round = None;
            match (round.grave, round.witnessed) {
                (true, false) => self.unanswered(&round, interest, now),
                (grave, _) => {
                    alone = grave.then_some(round.remote);
                    self.state = State::Good;
                }
            }
        }
        if let Some((at, remote)) = self.next
            && at <= now
        {
            self.next = None;
            let asked = std::iter::once(remote).chain(witness(known, addr, remote, now));
            requests.extend(asked.map(|remote| ask(addr, self.ifindex, remote)));
            let until = now + if interest { self.pause() } else { LONGEST_WAIT };
            self.round =
                Some(Round { remote, second: None, until, since: now, grave: true, witnessed: false });
        }
        alone
    }

    fn unanswered(&mut self, round: &Round, interest: bool, now: Duration) {
        match self.state {
            State::Suspect => {
                let relapsed = self.returned.is_some_and(|at| now < at + RELAPSE);
                self.relapses = if relapsed { (self.relapses + 1).min(MOST_RELAPSES) } else { 0 };
                (self.died, self.failed, self.answers) = (round.since, 0, 0);
                self.state = State::Dead;
                self.next = Some((now + ASK_FIRST, round.remote));
            }
            State::Dead | State::Probing => {
                self.state = State::Dead;
                self.answers = 0;
                self.failed += 1;
                let at = if interest { now } else { now + ASK_IDLE };
                self.next = Some((at, round.remote));
            }
            State::Good => {}
        }
    }

    /// How long it is until a dead way is asked again that somebody would use.
    fn pause(&self) -> Duration {
        (ASK_FIRST + ASK_FIRST * self.failed / 4).min(ASK_AT_MOST)
    }

    /// Its subflows may use it again. Tells how long it was silent.
    fn come_back(&mut self, now: Duration) -> Duration {
        self.state = State::Good;
        self.returned = Some(now);
        (self.answers, self.failed, self.next) = (0, 0, None);
        now.saturating_sub(self.died)
    }
}

const fn ask(way: IpAddr, ifindex: IfIndex, remote: IpAddr) -> Request {
    Request::Ask(Probe { local: way, ifindex, remote })
}
