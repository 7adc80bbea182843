//! Whether each path of a long transfer is worth its while.
//!
//! A path that adds little makes the end of the transfer wait for its last segment, or holds the others up all the time: what
//! it has not delivered yet fills the windows of the connection. Earliest completion first (Lim et al., CoNEXT 2017) leaves
//! a path out as long as what is left goes sooner over the others alone. How much is left only the application knows; as in
//! `flow`, a transfer that has lasted for some time is expected to last for as long again. In that time a path saves its
//! share of all that is delivered, and the end may wait for what it was given last, and for a round trip, queue included.
//! That it holds the others up is seen by what all of them deliver, with it and without it. That less is delivered than before
//! it was let in is a suspicion: a path that loses packets delivers less after a while, too. So it is left out for a trial.
//!
//! Both take a second and more. What a transfer has shown that is over before that, `glance` tells.
mod glance;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::glance::Glance;
use super::lessons::Worth;
use crate::core::connections::Ends;
use crate::core::flow::per_second;

/// What is delivered is compared over no less than this, and this many round trips of the slowest path.
const WINDOW: Duration = Duration::from_secs(1);
const ROUND_TRIPS: u32 = 4;

/// What the kernel hands to a path at once, bytes (`MPTCP_SEND_BURST_SIZE`, net/mptcp/protocol.c): it may only begin to send that
/// when the others are done.
const BURST: u64 = 1 << 16;

/// Nothing is left out for longer without another look.
const LONGEST: Duration = Duration::from_secs(3600);

/// What was delivered before the others were let in says nothing of later times.
const ALONE_HOLDS_FOR: Duration = Duration::from_secs(10);

/// What a path has in hand fills as large a part of the connection's window as it delivers of all while it holds the others
/// up. From a quarter on that would be a queue of a second or more in windows such as ours: it is not suspected. Nor does what
/// delivers a quarter of what the best one does make a short transfer wait for its last segment.
const MUCH: u64 = 4;

/// What was read of a subflow that carries.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    /// Which one.
    pub ends: Ends,
    /// Bytes that it has moved in all.
    pub moved: u64,
    /// Its round-trip time, with what waits in queues.
    pub rtt: Duration,
}

/// What a transfer has shown of a path.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Which one.
    pub ends: Ends,
    /// The one that delivered most.
    pub best: Ends,
    /// What it is worth; where it holds the others up, it pays after four times as long as this transfer has taken to show
    /// it, if that is more.
    pub worth: Worth,
}

/// What was delivered by one path before others were let in.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Which one: what it has lost since then was not held up by itself.
    pub ends: Ends,
    /// Bytes per second.
    pub rate: u64,
}

/// The paths of one transfer.
#[derive(Clone, Debug)]
pub struct Gain {
    /// None where several carried from the beginning.
    alone: Option<Alone>,
    /// More was sent than received.
    sends: bool,
    /// Since when the same paths carry.
    since: Duration,
    window: Option<Window>,
    /// While a path may not have found its rate yet.
    glance: Option<Glance>,
    judged: Vec<Judged>,
}

/// What had been moved when it began.
#[derive(Clone, Debug)]
struct Window {
    begun: Duration,
    moved: Vec<(Ends, u64)>,
}

impl Window {
    fn begin(carriers: &[Carrier], now: Duration) -> Self {
        Self { begun: now, moved: carriers.iter().map(|one| (one.ends, one.moved)).collect() }
    }

    /// What each has delivered since it began, bytes.
    fn delivered(&self, carriers: &[Carrier]) -> Vec<(Carrier, u64)> {
        let before =
            |ends| self.moved.iter().find(|(known, _)| *known == ends).map_or(0, |(_, moved)| *moved);
        carriers.iter().map(|one| (*one, one.moved.saturating_sub(before(one.ends)))).collect()
    }
}

/// The one that delivers most, and how much: it stays.
fn best(delivered: &[(Carrier, u64)]) -> Option<(Carrier, u64)> {
    delivered.iter().max_by_key(|(_, amount)| *amount).copied()
}

fn total(delivered: &[(Carrier, u64)]) -> u64 {
    delivered.iter().map(|(_, amount)| amount).sum()
}

/// Whether a path falls behind the one that delivers most.
const fn lags(amount: u64, most: u64) -> bool {
    amount <= most / MUCH
}

/// The round-trip time of the slowest one.
fn slowest(carriers: &[Carrier]) -> Duration {
    carriers.iter().map(|one| one.rtt).max().unwrap_or_default()
}

/// How long a transfer takes to gain what a path costs its end, if the path delivers so much of all in such a time. What it
/// saves is its share of the time, and what it costs is what it has in hand by then. Never more than is worth waiting for.
fn pays_after(one: &Carrier, amount: u64, total: u64, length: Duration) -> Duration {
    let amount = amount.max(1);
    let in_hand = BURST.saturating_mul(length.as_millis() as u64) / amount;
    let wait = one.rtt + Duration::from_millis(in_hand);
    wait.saturating_mul(u32::try_from(total / amount).unwrap_or(u32::MAX)).min(LONGEST)
}

/// A path that was not worth its while.
#[derive(Clone, Debug)]
struct Judged {
    ends: Ends,
    /// Until the transfer has lasted so long.
    until: Duration,
    /// What the others delivered without it, bytes per second.
    without: Option<u64>,
    /// What all delivered with it, when no more than a suspicion speaks against it.
    suspected: Option<u64>,
}

/// Whether so much, bytes per second, is less than what is delivered without a path by more than chance.
const fn falls_short(with: u64, without: u64) -> bool {
    with < without - without / 10
}

impl Gain {
    /// Of a transfer that has become long.
    pub const fn of(alone: Option<Alone>, sends: bool, now: Duration) -> Self {
        Self { alone, sends, since: now, window: None, glance: None, judged: Vec::new() }
    }

    /// Which of a connection's subflows carry is another matter now: what they deliver is counted anew.
    pub fn restart(&mut self, now: Duration) {
        (self.since, self.window, self.glance) = (now, None, None);
    }

    /// A subflow is no more.
    pub fn retain(&mut self, exists: impl Fn(&Ends) -> bool) {
        self.judged.retain(|known| exists(&known.ends));
        self.window = None;
    }

    /// Whether the transfer goes from here to the other end.
    pub const fn sends(&self) -> bool {
        self.sends
    }

    /// Whether paths may have been let in that have not found their rate yet: then it is worth looking often.
    pub fn is_fresh(&self, now: Duration) -> bool {
        now < self.since + WINDOW
    }

    /// Whether a subflow is left out of a transfer that has lasted for some time; none for one that never was.
    pub fn is_out(&self, ends: &Ends, lasts: Duration) -> Option<bool> {
        self.judged.iter().find(|known| known.ends == *ends).map(|known| lasts < known.until)
    }

    /// What was read of those that carry, in a transfer that has lasted for some time. Tells what that has shown.
    pub fn advance(&mut self, carriers: &[Carrier], lasts: Duration, now: Duration) -> Vec<Shown> {
        let Some(window) = &self.window else {
            self.window = Some(Window::begin(carriers, now));
            self.glance(carriers, now);
            return Vec::new();
        };
        let length = now.saturating_sub(window.begun);
        if length < WINDOW.max(slowest(carriers) * ROUND_TRIPS) {
            self.glance(carriers, now);
            return Vec::new();
        }
        let delivered = window.delivered(carriers);
        (self.window, self.glance) = (Some(Window::begin(carriers, now)), None);
        let total = total(&delivered);
        let rate = per_second(total, length);
        let Some((Carrier { ends: best, .. }, most)) = best(&delivered) else { return Vec::new() };
        let longer = |holds: bool| if holds { lasts * 4 } else { Duration::ZERO };
        let mut shown = Vec::new();
        for (one, amount) in delivered.iter().filter(|(one, _)| one.ends != best) {
            let known = self.judged.iter().position(|known| known.ends == one.ends);
            let without = known.and_then(|known| self.judged[known].without);
            let holds_up = without.is_some_and(|without| falls_short(rate, without));
            let is_suspect =
                without.is_none() && *amount < total / MUCH && self.seems_to_hold_up(one, rate, lasts);
            let saves = pays_after(one, *amount, total, length);
            let pays_after = saves.max(longer(holds_up));
            let worth = Worth { pays_after, lags: lags(*amount, most) };
            shown.push(Shown { ends: one.ends, best, worth });
            let is_too_short = pays_after > lasts * 2;
            if !is_too_short && !is_suspect {
                continue;
            }
            let until = pays_after.max(longer(is_suspect));
            let suspected = (!is_too_short).then_some(rate);
            let judged = Judged { ends: one.ends, until, without, suspected };
            match known {
                Some(known) => self.judged[known] = judged,
                None => self.judged.push(judged),
            }
        }
        let is_out =
            |known: &&mut Judged| lasts < known.until && !carriers.iter().any(|one| one.ends == known.ends);
        for known in self.judged.iter_mut().filter(is_out) {
            known.without = Some(rate);
            match known.suspected.take() {
                Some(with) if falls_short(with, rate) => {
                    let worth = Worth { pays_after: known.until, lags: true };
                    shown.push(Shown { ends: known.ends, best, worth });
                }
                Some(_) => known.until = lasts,
                None => {}
            }
        }
        shown
    }

    /// Whether less is delivered with a path that was let in than before.
    fn seems_to_hold_up(&self, one: &Carrier, rate: u64, lasts: Duration) -> bool {
        let alone = self.alone.filter(|alone| alone.ends != one.ends && lasts < ALONE_HOLDS_FOR);
        alone.is_some_and(|alone| falls_short(rate, alone.rate))
    }

    /// Notes what the paths show soon after they were let in.
    fn glance(&mut self, carriers: &[Carrier], now: Duration) {
        if !self.is_fresh(now) {
            return;
        }
        match &mut self.glance {
            Some(glance) => glance.advance(carriers, now),
            none => *none = Some(Glance::begin(carriers, now)),
        }
    }

    /// The transfer has ended after such a time, without what it took for more than glances. Tells what those have shown.
    pub fn end(&self, lasted: Duration) -> Vec<Shown> {
        let is_shared = self.alone.is_none();
        self.glance.as_ref().map_or_else(Vec::new, |glance| glance.end(lasted, is_shared))
    }
}
