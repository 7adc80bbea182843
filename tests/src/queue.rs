//! One direction of a link as a pure model: packets in, packets out at their time; no clock, no I/O.
//!
//! A packet waits in a queue, drop-tail or managed by CoDel, is sent at the link's rate, may be lost on the way, and
//! arrives after the delay:
//!
//! ```text
//! offer ─> [waiting: at most `queue` bytes] ─> CoDel ─> wire (rate) ─> loss ─> flying (delay + jitter) ─> pop
//! ```
//!
//! Time is what the caller says it is: a [`Duration`] since any fixed moment, never going back. The state at
//! a time does not depend on how often the model was asked before.

mod codel;
#[cfg(test)]
mod tests;
mod waiting;

pub use codel::Codel;

use crate::rng::Rng;
use std::collections::VecDeque;
use std::time::Duration;
use waiting::Waiting;

/// What a direction of a link does to its packets.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Bits per second of whole IP packets; 0 is read as 1.
    pub rate: u64,
    /// From the last bit sent to the packet's arrival.
    pub delay: Duration,
    /// Each packet is late by a further random time between zero and this.
    pub jitter: Duration,
    /// With `true`, jitter and a shortened delay never let a packet overtake another.
    pub keep_order: bool,
    /// Bytes that may wait behind the packet being sent; what does not fit is dropped.
    pub queue: usize,
    /// Keeps the queue short by dropping packets before it is full; without it only what does not fit is dropped.
    pub codel: Option<Codel>,
    /// Probability of each packet to be lost after having been sent, independently of the others.
    pub loss: f64,
    /// Losses that come in bursts, on top of `loss`.
    pub burst: Option<Burst>,
    /// Silence: everything under way and everything that comes is dropped.
    pub outage: bool,
}

/// The Gilbert-Elliott model: the link changes between a good state without loss and a bad one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Probability, at each packet, of going from the good state to the bad one.
    pub enter: f64,
    /// Probability, at each packet, of going back; bursts have a mean length of 1 / `leave` packets.
    pub leave: f64,
    /// Probability of a packet to be lost while the state is bad.
    pub loss: f64,
}

impl Default for Settings {
    /// A link that delivers at once: no limit, no delay, no loss.
    fn default() -> Self {
        Self {
            rate: u64::MAX,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            keep_order: true,
            queue: usize::MAX,
            codel: None,
            loss: 0.0,
            burst: None,
            outage: false,
        }
    }
}

/// Packets and their IP bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many packets.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, size: usize) {
        self.packets += 1;
        self.bytes += size as u64;
    }

    fn remove(&mut self, size: usize) {
        self.packets -= 1;
        self.bytes -= size as u64;
    }
}

impl std::ops::Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl std::ops::Sub for Tally {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { packets: self.packets - other.packets, bytes: self.bytes - other.bytes }
    }
}

/// What became of every packet that entered: `received` = `delivered` + `dropped()` + `held`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entered the link.
    pub received: Tally,
    /// Left it at the other end.
    pub delivered: Tally,
    /// Waiting, being sent, or flying.
    pub held: Tally,
    /// Did not fit into the queue.
    pub dropped_queue: Tally,
    /// Waited too long: dropped by [`Settings::codel`].
    pub dropped_codel: Tally,
    /// Lost by [`Settings::loss`].
    pub dropped_random: Tally,
    /// Lost by [`Settings::burst`].
    pub dropped_burst: Tally,
    /// Lost by [`Settings::outage`].
    pub dropped_outage: Tally,
    /// Refused by the device at the far end; zero unless the lab itself is broken.
    pub dropped_device: Tally,
}

impl Counters {
    /// All that was lost, whatever the cause.
    pub fn dropped(&self) -> Tally {
        self.dropped_queue
            + self.dropped_codel
            + self.dropped_random
            + self.dropped_burst
            + self.dropped_outage
            + self.dropped_device
    }
}

/// The model; `P` is whatever stands for a packet.
#[derive(Debug)]
pub struct Queue<P> {
    settings: Settings,
    rng: Rng,
    bad_state: bool,
    waiting: Waiting<P>,
    codel: codel::State,
    wire: Option<Wire<P>>,
    flying: VecDeque<Flying<P>>,
    last_arrival: Duration,
    counters: Counters,
}

#[derive(Debug)]
struct Packet<P> {
    size: usize,
    /// When it entered the link.
    since: Duration,
    body: P,
}

/// The packet being sent; `left` is in bits × 10⁹, so that nanoseconds at any rate come out whole.
#[derive(Debug)]
struct Wire<P> {
    packet: Packet<P>,
    left: u128,
    since: Duration,
}

#[derive(Debug)]
struct Flying<P> {
    packet: Packet<P>,
    arrival: Duration,
}

impl<P> Queue<P> {
    /// An empty link; `seed` determines every random decision.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: Rng::new(seed),
            bad_state: false,
            waiting: Waiting::default(),
            codel: codel::State::default(),
            wire: None,
            flying: VecDeque::new(),
            last_arrival: Duration::ZERO,
            counters: Counters::default(),
        }
    }

    /// A packet of `size` IP bytes enters at `now`; false when it was dropped at once.
    pub fn offer(&mut self, now: Duration, size: usize, body: P) -> bool {
        self.advance(now);
        self.counters.received.add(size);
        if self.settings.outage {
            self.counters.dropped_outage.add(size);
            return false;
        }
        let packet = Packet { size, since: now, body };
        if self.wire.is_none() {
            self.counters.held.add(size);
            self.send(packet, now);
        } else if self.waiting.bytes().saturating_add(size) <= self.settings.queue {
            self.counters.held.add(size);
            self.waiting.push(packet);
        } else {
            self.counters.dropped_queue.add(size);
            return false;
        }
        true
    }

    /// The next packet that has arrived by `now`, with its size.
    pub fn pop(&mut self, now: Duration) -> Option<(usize, P)> {
        self.advance(now);
        let flying = self.flying.pop_front_if(|flying| flying.arrival <= now)?;
        self.counters.held.remove(flying.packet.size);
        self.counters.delivered.add(flying.packet.size);
        Some((flying.packet.size, flying.packet.body))
    }

    /// The earliest time at which [`pop`](Self::pop) may have something new, if nothing enters until then.
    pub fn deadline(&self) -> Option<Duration> {
        let sent = self.wire.as_ref().map(|wire| wire.end(self.settings.rate) + self.settings.delay);
        let flying = self.flying.front().map(|flying| flying.arrival);
        [sent, flying].into_iter().flatten().min()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings at `now`. What has been sent keeps its arrival; the packet being sent goes on at
    /// the new rate; a shorter queue drops its tail at once.
    pub fn set(&mut self, now: Duration, settings: Settings) {
        self.advance(now);
        if let Some(wire) = &mut self.wire {
            wire.progress(now, self.settings.rate);
        }
        self.settings = settings;
        self.trim();
        if self.settings.outage {
            self.drop_all();
        }
    }

    /// What became of the packets until `now`.
    pub fn counters(&mut self, now: Duration) -> Counters {
        self.advance(now);
        self.counters
    }

    /// Bytes waiting behind the packet being sent.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// A packet that [`pop`](Self::pop) gave out could not be handed on after all.
    pub fn refused(&mut self, size: usize) {
        self.counters.delivered.remove(size);
        self.counters.dropped_device.add(size);
    }

    /// Lets everything happen that happens until `now`.
    fn advance(&mut self, now: Duration) {
        let rate = self.settings.rate;
        while let Some(wire) = self.wire.take_if(|wire| wire.end(rate) <= now) {
            let sent = wire.end(rate);
            self.fly(wire.packet, sent);
            if let Some(next) = self.next(sent) {
                self.send(next, sent);
            }
        }
    }

    /// The next packet to be sent.
    fn next(&mut self, now: Duration) -> Option<Packet<P>> {
        let Some(codel) = &self.settings.codel else { return self.waiting.pop() };
        let counters = &mut self.counters;
        self.codel.next(codel, now, &mut self.waiting, |packet| {
            counters.held.remove(packet.size);
            counters.dropped_codel.add(packet.size);
        })
    }

    fn send(&mut self, packet: Packet<P>, since: Duration) {
        let left = packet.size as u128 * 8 * 1_000_000_000;
        self.wire = Some(Wire { packet, left, since });
    }

    fn fly(&mut self, packet: Packet<P>, sent: Duration) {
        if let Some(cause) = self.lost() {
            self.counters.held.remove(packet.size);
            return cause(&mut self.counters).add(packet.size);
        }
        let mut arrival = sent + self.settings.delay + self.settings.jitter.mul_f64(self.rng.unit());
        if self.settings.keep_order {
            arrival = arrival.max(self.last_arrival);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        let place = self.flying.partition_point(|other| other.arrival <= arrival);
        self.flying.insert(place, Flying { packet, arrival });
    }

    /// Decides one packet's fate; `Some` names the counter of the cause.
    fn lost(&mut self) -> Option<fn(&mut Counters) -> &mut Tally> {
        let (state, burst, random) = (self.rng.unit(), self.rng.unit(), self.rng.unit());
        if let Some(model) = self.settings.burst {
            self.bad_state = if self.bad_state { state >= model.leave } else { state < model.enter };
            if self.bad_state && burst < model.loss {
                return Some(|counters| &mut counters.dropped_burst);
            }
        }
        (random < self.settings.loss).then_some(|counters| &mut counters.dropped_random)
    }

    fn trim(&mut self) {
        while self.waiting.bytes() > self.settings.queue
            && let Some(packet) = self.waiting.pop_last()
        {
            self.counters.held.remove(packet.size);
            self.counters.dropped_queue.add(packet.size);
        }
    }

    fn drop_all(&mut self) {
        self.waiting = Waiting::default();
        self.wire = None;
        self.flying.clear();
        self.counters.dropped_outage = self.counters.dropped_outage + self.counters.held;
        self.counters.held = Tally::default();
    }
}

impl<P> Wire<P> {
    /// When the last bit is sent, rounded up so that the rate is never exceeded.
    fn end(&self, rate: u64) -> Duration {
        let nanos = self.left.div_ceil(u128::from(rate.max(1)));
        self.since.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Accounts for what was sent until `now` at `rate`, which is about to change.
    fn progress(&mut self, now: Duration, rate: u64) {
        let sent = now.saturating_sub(self.since).as_nanos() * u128::from(rate.max(1));
        self.left = self.left.saturating_sub(sent);
        self.since = now;
    }
}
