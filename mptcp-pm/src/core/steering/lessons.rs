//! What the ways have added to long transfers of late: the next transfer with the same host need not find it out again.
//!
//! A transfer learns only after a second or more that a path adds little, when a short one is over. What it has learned
//! holds for the two ways, the direction and the host: how fast a path is depends on all of them. Mostly it is the access
//! that is slow, though, and then with every host: what several have shown is expected of those that nothing is known of.
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// Accesses change, and so do the networks behind them: after this it is found out again.
const HOLDS_FOR: Duration = Duration::from_secs(600);

/// So many others make an expectation: one alone may be far away itself.
const OTHERS: usize = 3;

/// No more is expected of a host than this: a transfer that goes on for half of it finds out what this one is like.
const EXPECTED: Duration = Duration::from_secs(4);

/// The oldest are forgotten first.
const MOST: usize = 64;

/// Of two ways, one beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The local address of the one.
    pub way: IpAddr,
    /// That of the other one, which delivered more.
    pub best: IpAddr,
    /// The host at the other end.
    pub remote: IpAddr,
    /// We send more than we receive.
    pub sends: bool,
}

impl Beside {
    /// Whether this is the same, but for the host.
    fn is_like(&self, other: &Self) -> bool {
        Self { remote: other.remote, ..*self } == *other
    }
}

/// What a way has shown to be worth beside a better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worth {
    /// How long a transfer takes to gain what the way costs its end.
    pub pays_after: Duration,
    /// It fell behind the other one: it delivered much less, or the end of the transfer waited for it.
    pub lags: bool,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Lessons(VecDeque<Lesson>);

#[derive(Clone, Debug)]
struct Lesson {
    of: Beside,
    worth: Worth,
    at: Duration,
}

impl Lessons {
    /// A transfer has shown what a way is worth.
    pub fn learn(&mut self, of: Beside, worth: Worth, now: Duration) {
        self.0.retain(|known| known.of != of && now < known.at + HOLDS_FOR);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Lesson { of, worth, at: now });
    }

    /// What a way is worth, with this host or as with most others; none where that is not known.
    pub fn worth(&self, of: &Beside, now: Duration) -> Option<Worth> {
        let counts = |known: &&Lesson| now < known.at + HOLDS_FOR && known.of.is_like(of);
        let known = || self.0.iter().filter(counts);
        if let Some(own) = known().find(|known| known.of.remote == of.remote) {
            return Some(own.worth);
        }
        let mut others: Vec<Duration> = known().map(|known| known.worth.pays_after.min(EXPECTED)).collect();
        others.sort_unstable();
        let lag = known().filter(|known| known.worth.lags).count();
        (others.len() >= OTHERS)
            .then(|| Worth { pays_after: others[others.len() / 2], lags: lag > others.len() / 2 })
    }

    /// Ways that are no more: an address that comes back may be that of another network.
    pub fn retain(&mut self, exists: impl Fn(IpAddr) -> bool) {
        self.0.retain(|known| exists(known.of.way) && exists(known.of.best));
    }
}
