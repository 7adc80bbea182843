//! What a transfer has shown of its paths that is over within a second: its latest round trip, and when each path has ended.
use std::time::Duration;

use super::{BURST, Carrier, Shown, Window, best, lags, pays_after, slowest, total};
use crate::core::connections::Ends;
use crate::core::flow::per_second;
use crate::core::steering::lessons::Worth;

/// So many round trips after its first data a path has shown something of what it may add.
const SLOW_START: u32 = 3;

/// Payload of a packet, more or less, bytes.
const SEGMENT: u64 = 1400;

/// What paths have delivered in the latest of some short windows, but for those at the end of the transfer, when not all of
/// them have something to deliver any more.
#[derive(Clone, Debug)]
pub struct Glance {
    latest: Vec<(Carrier, u64)>,
    /// In such a time.
    length: Duration,
    /// Until then.
    ended: Duration,
    /// The window that is open.
    window: Window,
    /// That of the slowest path, before it has a queue.
    round_trip: Duration,
    /// When more than one of them had delivered something for the first time.
    shared: Option<Duration>,
    /// When they were let in.
    first: Window,
    finishes: Vec<Finish>,
}

/// What a path has delivered since they were let in, and when it last did.
#[derive(Clone, Copy, Debug)]
struct Finish {
    ends: Ends,
    amount: u64,
    at: Duration,
    /// The most in a window, bytes per second.
    peak: u64,
}

/// A path that is behind, and the best one.
type Behind = (Ends, Ends);

impl Glance {
    pub fn begin(carriers: &[Carrier], now: Duration) -> Self {
        let window = Window::begin(carriers, now);
        Self {
            latest: Vec::new(),
            length: Duration::ZERO,
            ended: now,
            window: window.clone(),
            round_trip: slowest(carriers),
            shared: None,
            first: window,
            finishes: Vec::new(),
        }
    }

    /// Notes what they have delivered by now.
    pub fn advance(&mut self, carriers: &[Carrier], now: Duration) {
        self.follow(carriers, now);
        let length = now.saturating_sub(self.window.begun);
        if length < self.round_trip {
            return;
        }
        let delivered = self.window.delivered(carriers);
        self.window = Window::begin(carriers, now);
        for (one, amount) in &delivered {
            let known = self.finishes.iter_mut().find(|known| known.ends == one.ends);
            known.into_iter().for_each(|known| known.peak = known.peak.max(per_second(*amount, length)));
        }
        let before = per_second(total(&self.latest), self.length);
        if per_second(total(&delivered), length) < before / 2 {
            return;
        }
        let is_sharing = delivered.iter().filter(|(_, amount)| *amount > 0).count() > 1;
        self.shared = self.shared.or(is_sharing.then_some(now));
        (self.latest, self.length, self.ended) = (delivered, length, now);
    }

    /// Less than a segment is an answer, not a part of the transfer.
    fn follow(&mut self, carriers: &[Carrier], now: Duration) {
        for (Carrier { ends, .. }, amount) in self.first.delivered(carriers) {
            match self.finishes.iter_mut().find(|known| known.ends == ends) {
                Some(known) if amount >= known.amount + SEGMENT => (known.amount, known.at) = (amount, now),
                None if amount >= SEGMENT => self.finishes.push(Finish { ends, amount, at: now, peak: 0 }),
                _ => {}
            }
        }
    }

    /// The transfer has ended after such a time; `is_shared` where several paths carried from its beginning. Tells of paths
    /// that are longer than the best one no more than that they were let in too early for a transfer as short as this, and
    /// which have fallen behind.
    pub fn end(&self, lasted: Duration, is_shared: bool) -> Vec<Shown> {
        let mut behind = self.slow();
        if is_shared {
            behind.extend(self.late());
        }
        let mut shown = self.longer(lasted);
        for (ends, best) in behind {
            match shown.iter_mut().find(|known| known.ends == ends) {
                Some(known) => known.worth.lags = true,
                None => shown.push(Shown { ends, best, worth: Worth { pays_after: lasted * 2, lags: true } }),
            }
        }
        shown
    }

    /// What those are worth that are longer than the best one.
    fn longer(&self, lasted: Duration) -> Vec<Shown> {
        let Some((best, _)) = best(&self.latest).filter(|_| self.is_telling()) else { return Vec::new() };
        let total = total(&self.latest);
        let worth = |one, amount| Worth {
            pays_after: pays_after(one, amount, total, self.length).min(lasted * 2),
            lags: false,
        };
        let longer = self.latest.iter().filter(|(one, _)| one.rtt > best.rtt);
        longer
            .map(|(one, amount)| Shown { ends: one.ends, best: best.ends, worth: worth(one, *amount) })
            .collect()
    }

    /// When it last was over, all paths may have found their rates.
    fn is_telling(&self) -> bool {
        self.shared.is_some_and(|shared| self.ended >= shared + self.round_trip * SLOW_START)
    }

    /// Those that never came near the rate of the best one in the time for it. What was handed something only once may have had
    /// nothing else to deliver.
    fn slow(&self) -> Vec<Behind> {
        if !self.is_telling() {
            return Vec::new();
        }
        self.behind(|known| known.peak, |one, best| one.amount > BURST && lags(one.peak, best.peak))
    }

    /// Those that the end of the transfer has waited for: they took half as long again as the best one, which would have
    /// delivered their part too by then. What ends at the same time has kept up, whatever it has delivered: that may have begun
    /// later.
    fn late(&self) -> Vec<Behind> {
        let took = |known: &Finish| known.at.saturating_sub(self.first.begun);
        let rate = |known: &Finish| per_second(known.amount, took(known));
        self.behind(rate, |one, best| {
            took(one) * 2 >= took(best) * 3 && per_second(one.amount + best.amount, took(one)) < rate(best)
        })
    }

    /// Those that fall behind the one of the greatest rate.
    fn behind(
        &self,
        rate: impl Fn(&Finish) -> u64,
        falls_behind: impl Fn(&Finish, &Finish) -> bool,
    ) -> Vec<Behind> {
        let Some(best) = self.finishes.iter().max_by_key(|known| rate(known)) else { return Vec::new() };
        let behind = self.finishes.iter().filter(|one| falls_behind(one, best));
        behind.map(|one| (one.ends, best.ends)).collect()
    }
}
