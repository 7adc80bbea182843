//! How long a transfer has shown itself to be: whether other paths are worth while.
//!
//! Earliest completion first (Lim et al., CoNEXT 2017) lets a slow path in when what is left to send takes longer over
//! the fast path alone than over the slow one. How much is left only the application knows; a transfer that has gone on for
//! some time is expected to go on for as long again. So the slow path is let in after a few of its round-trip times: less
//! would not pay for its slow start and for the wait for its last segment.
use std::time::Duration;

/// So many round-trip times of the slowest path make a transfer long.
const LONG: u32 = 4;

/// Shorter is never long.
const AT_LEAST: Duration = Duration::from_millis(150);

/// Slower than this, in bytes per second, a transfer is not limited by its path: messages, a call, a film.
const FAST: u64 = 250_000;

/// A transfer that moves less between two looks is not about to become long.
const SOME: u64 = 8 << 10;

/// A pause of this length ends a transfer.
const PAUSE: Duration = Duration::from_millis(400);

/// How long nothing is known of what will be sent, after a connection has begun or data flows again.
pub const FRESH: Duration = Duration::from_secs(1);

/// What a reading says beside what has moved.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// There is more to send than the windows take.
    pub backlogged: bool,
    /// It is of all subflows.
    pub whole: bool,
    /// The least round-trip time of the slowest path.
    pub slowest: Duration,
}

/// The transfer that a connection is at.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    moved: u64,
    /// When the last bytes moved.
    last: Duration,
    /// When it began, and what had moved by then.
    began: Option<(Duration, u64)>,
    long: bool,
    /// It moved much when it last moved something.
    brisk: bool,
}

impl Flow {
    /// What has moved in all by now. Tells whether that is more than before.
    pub fn advance(&mut self, moved: u64, look: Look, now: Duration) -> bool {
        let Look { backlogged, whole, slowest } = look;
        let grown = moved.saturating_sub(self.moved);
        self.moved = moved;
        // Between two readings that both saw something move nobody looked: that is no pause. Nor is it one when something
        // waits to be sent, and only its path fails.
        if grown == 0 && whole && !backlogged && now.saturating_sub(self.last) > PAUSE + slowest {
            (self.began, self.long, self.brisk) = (None, false, false);
        }
        if grown > 0 {
            let was_brisk = std::mem::replace(&mut self.brisk, backlogged || grown >= SOME);
            let was_little = self.amount() < grown + SOME;
            if self.brisk && !was_brisk && was_little {
                // What went before was a question and its answer.
                self.began = None;
            }
            self.last = now;
            self.began.get_or_insert((now, moved));
            let is_old = self.lasts(now) >= (slowest * LONG).max(AT_LEAST);
            let is_large = backlogged || self.amount() > FAST;
            self.long |= is_old && is_large && self.rate(now) >= FAST;
        }
        grown > 0
    }

    /// What had moved on a subflow that is no more is no longer counted.
    pub fn forget(&mut self, moved: u64) {
        self.moved = self.moved.saturating_sub(moved);
        self.began = self.began.map(|(at, before)| (at, before.saturating_sub(moved)));
    }

    /// How long the transfer has lasted.
    pub fn lasts(&self, now: Duration) -> Duration {
        self.began.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(at))
    }

    /// Whether nothing is under way.
    pub const fn is_over(&self) -> bool {
        self.began.is_none()
    }

    /// How long the transfer took that is over, or has taken so far.
    pub fn lasted(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |(at, _)| self.last.saturating_sub(at))
    }

    /// At what rate the transfer has moved data so far, bytes per second.
    pub fn rate(&self, now: Duration) -> u64 {
        per_second(self.amount(), self.lasts(now))
    }

    /// What the transfer has moved so far, bytes.
    fn amount(&self) -> u64 {
        self.began.map_or(0, |(_, before)| self.moved.saturating_sub(before))
    }

    /// Whether the transfer may soon be long: messages, a call never are, and are not worth looking at often.
    pub const fn is_brisk(&self) -> bool {
        self.brisk
    }

    /// Whether the transfer is long.
    pub const fn is_long(&self) -> bool {
        self.long
    }
}

/// So much in such a time, per second.
pub fn per_second(amount: u64, length: Duration) -> u64 {
    amount.saturating_mul(1000) / u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1)
}
