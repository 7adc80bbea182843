//! When to try again, and when to stop trying: no action is repeated for ever.
use std::collections::BTreeMap;
use std::time::Duration;

use super::action::Subject;
use super::world::IfIndex;

/// An action that fails so many times without a change in the world is given up.
pub const MAX_ATTEMPTS: u32 = 8;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// An attempt that is this old no longer counts.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The attempts at every subject, lately.
#[derive(Clone, Debug, Default)]
pub struct Retries {
    attempts: BTreeMap<Subject, Attempts>,
}

#[derive(Clone, Debug)]
struct Attempts {
    count: u32,
    last: Duration,
    ifindex: Option<IfIndex>,
    error: Option<String>,
}

/// Whether a subject may be attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Now,
    /// Not before this time.
    NotBefore(Duration),
    /// Not until something changes.
    GivenUp,
}

impl Retries {
    /// Whether a subject may be attempted now.
    pub fn verdict(&self, subject: &Subject, now: Duration) -> Verdict {
        let Some(attempts) = self.attempts.get(subject) else { return Verdict::Now };
        if attempts.error.is_some() && attempts.count >= MAX_ATTEMPTS {
            return Verdict::GivenUp;
        }
        let until = attempts.last + pause(attempts);
        if until <= now { Verdict::Now } else { Verdict::NotBefore(until) }
    }

    /// Records an attempt. One that succeeded counts too: having to do it again says that it had no effect, or that
    /// somebody undoes it.
    pub fn record(
        &mut self,
        subject: Subject,
        ifindex: Option<IfIndex>,
        error: Option<String>,
        now: Duration,
    ) {
        let fresh = Attempts { count: 0, last: now, ifindex, error: None };
        let attempts = self.attempts.entry(subject).or_insert(fresh);
        attempts.count += 1;
        attempts.last = now;
        attempts.error = error;
    }

    /// An interface has changed: what failed there, or had to be done there, may now be otherwise.
    pub fn forgive(&mut self, ifindex: IfIndex) {
        self.attempts.retain(|_, attempts| attempts.ifindex != Some(ifindex));
    }

    /// Forgets everything: the configuration is another.
    pub fn forgive_all(&mut self) {
        self.attempts.clear();
    }

    /// Forgets what is long ago and no longer wanted.
    pub fn prune(&mut self, wanted: impl Fn(&Subject) -> bool, now: Duration) {
        self.attempts
            .retain(|subject, attempts| wanted(subject) || now.saturating_sub(attempts.last) < FORGET_AFTER);
    }

    /// The error of the last attempt at each subject that failed.
    pub fn errors(&self) -> impl Iterator<Item = (&Subject, &str, bool)> {
        self.attempts.iter().filter_map(|(subject, attempts)| {
            let error = attempts.error.as_deref()?;
            Some((subject, error, attempts.count >= MAX_ATTEMPTS))
        })
    }
}

/// An attempt that succeeded may be repeated at once, once: adding what an event has just removed is no fight.
fn pause(attempts: &Attempts) -> Duration {
    let free = if attempts.error.is_none() { 3 } else { 1 };
    match attempts.count.checked_sub(free) {
        None => Duration::ZERO,
        Some(step) => FIRST_PAUSE * 2_u32.saturating_pow(step.min(24)),
    }
}

/// Passes over the world, paced: a burst at once, then a steady rate. Under endless churn the daemon still acts, and
/// still sleeps.
#[derive(Clone, Debug)]
pub struct Pacer {
    full_at: Duration,
}

impl Pacer {
    const BURST: u32 = 16;
    const REFILL: Duration = Duration::from_millis(25);

    /// A full bucket.
    pub const fn new() -> Self {
        Self { full_at: Duration::ZERO }
    }

    /// When the next pass may be made.
    pub fn next(&self) -> Duration {
        self.full_at.saturating_sub(Self::REFILL * (Self::BURST - 1))
    }

    /// Takes a pass, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let allowed = self.next() <= now;
        if allowed {
            self.full_at = self.full_at.max(now) + Self::REFILL;
        }
        allowed
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new()
    }
}
