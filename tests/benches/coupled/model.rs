//! Connections as RFC and papers describe them, over the lab's own model of a link: what the formulas themselves give in a
//! scenario, beside which stands what was measured.
//!
//! Windows are floating-point numbers, a loss is noticed one round trip later, and there are no timeouts: what is not
//! here is what a real sender adds to its formula.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;
use tests::queue::{Queue, Settings};
use tests::rng::Rng;

/// Bytes of a packet, IP headers included.
const PACKET: usize = 1500;
/// RFC 6928.
const FIRST_WINDOW: f64 = 10.0;
/// As in `tcp_reno_ssthresh` (net/ipv4/tcp_cong.c).
const LEAST_WINDOW: f64 = 2.0;
/// The weight of a new round-trip time (RFC 6298 section 2.3).
const NEW: f64 = 1.0 / 8.0;
/// A packet of the fastest way takes longer.
const STEP: Duration = Duration::from_micros(100);
/// All subflows begin within this time.
const BEGIN_WITHIN: Duration = Duration::from_millis(200);

/// A connection, or with one subflow TCP.
pub struct Connection {
    control: &'static str,
    pub subflows: Vec<Subflow>,
}

/// One of its subflows.
pub struct Subflow {
    way: usize,
    /// Packets.
    pub window: f64,
    threshold: f64,
    /// Seconds; 0 before the first is measured.
    round_trip: f64,
    /// Numbers of those on their way.
    flying: VecDeque<u64>,
    next: u64,
    /// Losses of packets before this one have been answered.
    answered: u64,
    /// When it begins.
    begin: Duration,
    /// When something was last heard.
    heard: Duration,
    /// Packets that have arrived.
    pub arrived: u64,
    since_loss: u64,
    between_losses: u64,
}

impl Connection {
    /// One that sends as much as it may, over these ways. None for a control that is not modelled.
    pub fn new(control: &'static str, ways: &[usize]) -> Option<Self> {
        let is_modelled = ["reno", "lia", "olia", "balia"].contains(&control);
        let subflow = |way: &usize| Subflow {
            way: *way,
            window: FIRST_WINDOW,
            threshold: f64::INFINITY,
            round_trip: 0.0,
            flying: VecDeque::new(),
            next: 0,
            answered: 0,
            begin: Duration::ZERO,
            heard: Duration::ZERO,
            arrived: 0,
            since_loss: 0,
            between_losses: 0,
        };
        is_modelled.then(|| Self { control, subflows: ways.iter().map(subflow).collect() })
    }

    /// So many of them; none for a control that is not modelled.
    pub fn several(number: usize, control: &'static str, ways: &[usize]) -> Option<Vec<Self>> {
        (0..number).map(|_| Self::new(control, ways)).collect()
    }

    /// All packets that have arrived.
    fn arrived(&self) -> u64 {
        self.subflows.iter().map(|subflow| subflow.arrived).sum()
    }

    fn measured(&self) -> impl Iterator<Item = &Subflow> {
        self.subflows.iter().filter(|subflow| subflow.round_trip > 0.0)
    }

    /// Packets that a window grows by for each one acknowledged in congestion avoidance.
    fn increase(&self, index: usize) -> f64 {
        let own = &self.subflows[index];
        let total: f64 = self.measured().map(Subflow::rate).sum();
        let greatest = self.measured().map(Subflow::rate).fold(0.0, f64::max);
        match self.control {
            _ if self.measured().count() < 2 => 1.0 / own.window,
            // RFC 6356 section 3, equations 1 and 2.
            "lia" => {
                let best =
                    self.measured().map(|subflow| subflow.rate() / subflow.round_trip).fold(0.0, f64::max);
                (best / total.powi(2)).min(1.0 / own.window)
            }
            "olia" => own.rate() / own.round_trip / total.powi(2) + self.opportunistic(own) / own.window,
            "balia" => {
                let a = greatest / own.rate();
                own.rate() / own.round_trip / total.powi(2) * (1.0 + a) / 2.0 * (4.0 + a) / 5.0
            }
            _ => 1.0 / own.window,
        }
    }

    /// OLIA's alpha.
    fn opportunistic(&self, own: &Subflow) -> f64 {
        let largest = self.measured().map(|subflow| subflow.window as u64).max().unwrap_or(0);
        let best = self.measured().map(Subflow::quality).fold(0.0, f64::max);
        let is_large = |subflow: &Subflow| subflow.window as u64 == largest;
        let is_collected = |subflow: &Subflow| !is_large(subflow) && subflow.quality() >= best;
        let count =
            |holds: &dyn Fn(&Subflow) -> bool| self.measured().filter(|path| holds(path)).count() as f64;
        let (number, collected) = (count(&|_| true), count(&is_collected));
        match own {
            _ if collected == 0.0 => 0.0,
            own if is_large(own) => -1.0 / (number * count(&is_large)),
            own if is_collected(own) => 1.0 / (number * collected),
            _ => 0.0,
        }
    }

    /// The window after a loss.
    fn after_loss(&self, index: usize) -> f64 {
        let own = &self.subflows[index];
        let greatest = self.measured().map(Subflow::rate).fold(0.0, f64::max);
        let lost = match self.control {
            "balia" if own.round_trip > 0.0 => (greatest / own.rate()).min(1.5) / 2.0,
            _ => 0.5,
        };
        (own.window * (1.0 - lost)).max(LEAST_WINDOW)
    }
}

impl Subflow {
    fn rate(&self) -> f64 {
        self.window / self.round_trip
    }

    fn quality(&self) -> f64 {
        self.since_loss.max(self.between_losses) as f64 / self.round_trip.powi(2)
    }

    fn is_growing(&self, number: u64) -> bool {
        number >= self.answered
    }
}

/// A packet, and who sent it when.
struct Packet {
    connection: usize,
    subflow: usize,
    number: u64,
    sent: Duration,
}

/// The whole of it.
pub struct Model {
    pub now: Duration,
    ways: Vec<Queue<Packet>>,
    pub connections: Vec<Connection>,
    /// Acknowledgements under way, by their arrival; they are neither late nor lost.
    answers: BinaryHeap<Reverse<Answer>>,
}

/// When, of which connection, subflow and packet, and when that was sent.
type Answer = (Duration, usize, usize, u64, Duration);

/// The packets that each connection gets through in a time, after another in which they find to each other.
pub fn packets(
    ways: &[Settings],
    connections: Vec<Connection>,
    seed: u64,
    settle: Duration,
    time: Duration,
) -> Vec<f64> {
    let mut model = Model::new(ways, connections, seed);
    let arrived = |model: &Model| model.connections.iter().map(Connection::arrived).collect::<Vec<_>>();
    model.run(settle);
    let before = arrived(&model);
    model.run(settle + time);
    arrived(&model).iter().zip(before).map(|(after, before)| (after - before) as f64).collect()
}

impl Model {
    /// Subflows begin one after the other within a short time, as `seed` has it.
    pub fn new(ways: &[Settings], mut connections: Vec<Connection>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        for subflow in connections.iter_mut().flat_map(|connection| &mut connection.subflows) {
            subflow.begin = BEGIN_WITHIN.mul_f64(rng.unit());
        }
        let ways = ways.iter().map(|way| Queue::new(way.clone(), rng.bits())).collect();
        Self { now: Duration::ZERO, ways, connections, answers: BinaryHeap::new() }
    }

    /// Changes a way.
    pub fn set(&mut self, way: usize, settings: Settings) {
        self.ways[way].set(self.now, settings);
    }

    /// Goes on until then.
    pub fn run(&mut self, end: Duration) {
        while self.now < end {
            self.now += STEP;
            self.arrive();
            while let Some(Reverse(answer)) = self.answers.peek().copied()
                && answer.0 <= self.now
            {
                self.answers.pop();
                self.acknowledge(answer);
            }
            self.give_up();
            self.send();
        }
    }

    fn arrive(&mut self) {
        for way in &mut self.ways {
            let back = way.settings().delay;
            while let Some((_, packet)) = way.pop(self.now) {
                let Packet { connection, subflow, number, sent } = packet;
                self.answers.push(Reverse((self.now + back, connection, subflow, number, sent)));
            }
        }
    }

    /// What was sent before and has not arrived is lost: ways keep the order.
    fn acknowledge(&mut self, (now, connection, subflow, number, sent): Answer) {
        let connection = &mut self.connections[connection];
        let own = &mut connection.subflows[subflow];
        let mut lost = None;
        while let Some(first) = own.flying.front().copied()
            && first <= number
        {
            own.flying.pop_front();
            if first < number {
                lost = Some(first);
            }
        }
        let sample = (now - sent).as_secs_f64();
        own.round_trip =
            if own.round_trip == 0.0 { sample } else { own.round_trip * (1.0 - NEW) + sample * NEW };
        own.heard = now;
        own.arrived += 1;
        own.since_loss += 1;
        match lost {
            Some(lost) if own.is_growing(lost) => connection.lose(subflow),
            _ if own.is_growing(number) => connection.grow(subflow),
            _ => {}
        }
    }

    /// The last packets of a window may all be lost: a probe would tell.
    fn give_up(&mut self) {
        for connection in &mut self.connections {
            for index in 0..connection.subflows.len() {
                let own = &mut connection.subflows[index];
                let patience =
                    Duration::from_secs_f64(if own.round_trip == 0.0 { 1.0 } else { 2.0 * own.round_trip });
                if !own.flying.is_empty() && self.now.saturating_sub(own.heard) > patience {
                    own.heard = self.now;
                    own.flying.clear();
                    connection.lose(index);
                }
            }
        }
    }

    fn send(&mut self) {
        for (connection, its) in self.connections.iter_mut().enumerate() {
            for (subflow, own) in its.subflows.iter_mut().enumerate() {
                while self.now >= own.begin && own.flying.len() < own.window as usize {
                    if own.flying.is_empty() {
                        own.heard = self.now;
                    }
                    let packet = Packet { connection, subflow, number: own.next, sent: self.now };
                    own.flying.push_back(own.next);
                    own.next += 1;
                    self.ways[own.way].offer(self.now, PACKET, packet);
                }
            }
        }
    }
}

impl Connection {
    fn grow(&mut self, index: usize) {
        let increase = match &self.subflows[index] {
            own if own.window < own.threshold => 1.0,
            _ => self.increase(index),
        };
        let own = &mut self.subflows[index];
        own.window = (own.window + increase).max(LEAST_WINDOW);
    }

    fn lose(&mut self, index: usize) {
        let window = self.after_loss(index);
        let own = &mut self.subflows[index];
        (own.window, own.threshold, own.answered) = (window, window, own.next);
        (own.between_losses, own.since_loss) = (own.since_loss, 0);
    }
}
