//! A model of subflows in the kernel, of its ring buffer and of readings; and what has to come of what was told.
use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// Something that happens. Subflows are chosen by a number modulo those that there are.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A subflow is established; the ring buffer may be full.
    Open { place: usize, told: bool },
    /// Data goes through, round-trip times are measured.
    Move { which: usize, acknowledged: u32, received: u32, rtts: Vec<u32> },
    /// A subflow ends.
    Close { which: usize, told: bool },
    /// The daemon takes some records from the ring buffer.
    Drain { records: usize },
    /// It empties the ring buffer and reads all. One subflow may end meanwhile; those that have ended since the
    /// reading before may be in it.
    Read { after_ms: u64, ends: Option<(usize, bool)>, stale: bool },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rtts = || prop::collection::vec(1_u32..2_000_000, 0..4);
    let step = prop_oneof![
        2 => (0..PLACES.len(), prop::bool::weighted(0.8)).prop_map(|(place, told)| Step::Open { place, told }),
        6 => (any::<usize>(), 0_u32..1_000_000, 0_u32..1_000_000, rtts())
            .prop_map(|(which, acknowledged, received, rtts)| Step::Move { which, acknowledged, received, rtts }),
        1 => (any::<usize>(), prop::bool::weighted(0.7)).prop_map(|(which, told)| Step::Close { which, told }),
        2 => (1_usize..4).prop_map(|records| Step::Drain { records }),
        4 => (
            prop_oneof![8 => Just(1000_u64), 3 => 1_u64..2000, 1 => 1_u64..5_000_000],
            prop::option::weighted(0.2, (any::<usize>(), any::<bool>())),
            any::<bool>(),
        )
            .prop_map(|(after_ms, ends, stale)| Step::Read { after_ms, ends, stale }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Where subflows go, and the name that they must be found under.
const PLACES: [(IfIndex, &str); 3] = [(1, "wlan0"), (2, "wwan0"), (7, "other")];

#[derive(Clone, Copy, Debug)]
enum Event {
    Opened(Sample),
    Closed(Sample),
}

/// What must be true of one uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) acknowledged: u64,
    pub(super) received: u64,
    pub(super) opened: u64,
}

pub(super) struct Model {
    pub(super) stats: Stats,
    pub(super) now_ns: u64,
    cookies: u64,
    living: Vec<Sample>,
    /// Ended since the last reading began, as they were last.
    leaving: Vec<Sample>,
    ring: VecDeque<Event>,
    /// The last that the collector heard of each subflow, and whether that was its end.
    heard: BTreeMap<u64, (Sample, bool)>,
    /// What was true at the end of each reading; of all that was heard since the start.
    pub(super) readings: Vec<(u64, BTreeMap<&'static str, Truth>)>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            stats: stats(),
            now_ns: START,
            cookies: 0,
            living: Vec::new(),
            leaving: Vec::new(),
            ring: VecDeque::new(),
            heard: BTreeMap::new(),
            readings: vec![(START, BTreeMap::new())],
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.now_ns += 1000;
        match step {
            Step::Open { place, told } => self.open(*place, *told),
            Step::Move { which, acknowledged, received, rtts } => {
                let (count, now_ns) = (self.living.len(), self.now_ns);
                let Some(sample) = self.living.get_mut(which % count.max(1)) else { return };
                *sample = later(sample, now_ns, (*acknowledged).into(), (*received).into(), rtts);
            }
            Step::Close { which, told } => self.close(*which, *told),
            Step::Drain { records } => (0..*records).for_each(|_| self.deliver()),
            Step::Read { after_ms, ends, stale } => self.read(*after_ms, *ends, *stale),
        }
    }

    fn open(&mut self, place: usize, told: bool) {
        self.cookies += 1;
        let sample = subflow(self.cookies, PLACES[place].0, self.now_ns);
        self.living.push(sample);
        self.ring.extend(told.then_some(Event::Opened(sample)));
    }

    fn close(&mut self, which: usize, told: bool) {
        if self.living.is_empty() {
            return;
        }
        let mut sample = self.living.swap_remove(which % self.living.len());
        sample.live.at_ns = self.now_ns;
        self.leaving.push(sample);
        self.ring.extend(told.then_some(Event::Closed(sample)));
    }

    fn deliver(&mut self) {
        match self.ring.pop_front() {
            Some(Event::Opened(sample)) => {
                self.stats.opened(&sample);
                self.hears(&sample, false);
            }
            Some(Event::Closed(sample)) => {
                self.stats.closed(&sample);
                self.hears(&sample, true);
            }
            None => {}
        }
    }

    fn read(&mut self, after_ms: u64, ends: Option<(usize, bool)>, stale: bool) {
        self.now_ns += after_ms * 1_000_000;
        while !self.ring.is_empty() {
            self.deliver();
        }
        let leaving = std::mem::take(&mut self.leaving);
        self.stats.begin();
        // The one that ends meanwhile is told of before it is read, or read and told of later, or missed.
        if let Some((which, told)) = ends {
            self.close(which, told);
            if which % 2 == 0 {
                (0..self.ring.len()).for_each(|_| self.deliver());
            }
        }
        let mut found = self.living.clone();
        if stale {
            // Which is so only of those whose end was told: the others have left for good.
            found.extend(leaving.iter().filter(|sample| self.has_ended(sample)));
            found.extend(&self.leaving);
        }
        for sample in &mut found {
            sample.live.at_ns = self.now_ns;
            self.stats.read(sample);
            self.hears(sample, false);
        }
        self.stats.end(self.now_ns);
        self.readings.push((self.now_ns, self.truth()));
    }

    fn has_ended(&self, sample: &Sample) -> bool {
        self.heard.get(&sample.kept.cookie).is_some_and(|(_, ended)| *ended)
    }

    fn hears(&mut self, sample: &Sample, ended: bool) {
        let heard = self.heard.entry(sample.kept.cookie).or_insert((*sample, false));
        if !heard.1 && heard.0.live.at_ns < sample.live.at_ns {
            heard.0 = *sample;
        }
        heard.1 |= ended;
    }

    /// The sum of the last known figures of each subflow.
    pub(super) fn truth(&self) -> BTreeMap<&'static str, Truth> {
        let mut truth: BTreeMap<&'static str, Truth> = BTreeMap::new();
        for (sample, _) in self.heard.values() {
            let place =
                PLACES.iter().find(|(ifindex, _)| *ifindex == sample.kept.ifindex).expect("it is one");
            let sum = truth.entry(place.1).or_default();
            sum.acknowledged += sample.live.bytes_acked;
            sum.received += sample.live.bytes_received;
            sum.opened += 1;
        }
        truth
    }

    /// How many live.
    pub(super) fn living(&self) -> u64 {
        self.living.len() as u64
    }
}
