//! When to try again, and when to stop trying: no action is repeated for ever.
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::action::{Deed, Subject};

/// What has to be done so many times without a change in the world is given up.
pub const MAX_ATTEMPTS: u32 = 16;

/// The same at the very end, when somebody waits for it.
pub const LAST_ATTEMPTS: u32 = 5;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The first one after the kernel has refused a priority: of a subflow that joins it takes none before the other end has confirmed
/// that, a round trip after it says that there is one (`__mptcp_subflow_active`, net/mptcp/protocol.h). Until then what is better
/// carries nothing.
const UNCONFIRMED: Duration = Duration::from_millis(10);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What succeeds may be repeated so many times at once: adding what an event has just removed is no fight.
const FREE: u32 = 3;

/// Up to so many subjects no room is made for more.
const FEW: usize = 4;

/// An attempt that is this much older than its pause no longer counts.
const fn forget_after(subject: &Subject) -> Duration {
    match subject {
        // That it failed is known only when TCP has given up, after two minutes.
        Subject::Subflows(_) | Subject::Part(_, Deed::Create, ..) => Duration::from_secs(600),
        _ => Duration::from_secs(60),
    }
}

/// The attempts at every subject, lately.
#[derive(Clone, Debug)]
pub struct Retries {
    /// Sorted by subject. Each connection has one or two, for which a tree would have room for eleven.
    attempts: Vec<(Subject, Attempts)>,
    limit: u32,
}

#[derive(Clone, Debug)]
struct Attempts {
    count: u32,
    last: Duration,
    error: Option<Box<str>>,
    /// It was wanted when that was last looked at.
    wanted: bool,
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

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: Vec::new(), limit: MAX_ATTEMPTS }
    }
}

impl Retries {
    /// Begins anew with less patience.
    pub fn hurry(&mut self) {
        *self = Self { limit: LAST_ATTEMPTS, ..Self::default() };
    }

    /// Whether a subject may be attempted now.
    pub fn verdict(&self, subject: &Subject, now: Duration) -> Verdict {
        let Ok(place) = self.place(subject) else { return Verdict::Now };
        let (_, attempts) = &self.attempts[place];
        let until = attempts.last + attempts.pause(subject);
        match attempts.count >= self.limit {
            true => Verdict::GivenUp,
            false if until <= now => Verdict::Now,
            false => Verdict::NotBefore(until),
        }
    }

    /// Records an attempt. One that succeeded counts too: having to do it again says that it had no effect, or that
    /// somebody undoes it.
    pub fn record(&mut self, subject: Subject, error: Option<String>, now: Duration) {
        let place = self.place(&subject).unwrap_or_else(|place| {
            if self.attempts.len() < FEW {
                self.attempts.reserve_exact(1);
            }
            self.attempts
                .insert(place, (subject, Attempts { count: 0, last: now, error: None, wanted: true }));
            place
        });
        let (_, attempts) = &mut self.attempts[place];
        attempts.count += 1;
        attempts.last = now;
        attempts.error = error.map(String::into_boxed_str);
        attempts.wanted = true;
    }

    /// Something has changed in the world. What was done and what was given up may be tried at once; what fails only
    /// where the change concerns it.
    pub fn forgive(&mut self, concerned: impl Fn(&Subject) -> bool) {
        let limit = self.limit;
        self.attempts.retain(|(subject, attempts)| {
            attempts.error.is_some() && attempts.count < limit && !concerned(subject)
        });
    }

    /// What was just recorded is not tried again until something changes.
    pub fn give_up(&mut self, subject: &Subject) {
        if let Ok(place) = self.place(subject) {
            let (_, attempts) = &mut self.attempts[place];
            attempts.count = attempts.count.max(self.limit);
        }
    }

    /// Forgets everything: the configuration is another.
    pub fn forgive_all(&mut self) {
        self.attempts.clear();
    }

    /// Forgets the attempts at one subject.
    pub fn forget(&mut self, subject: &Subject) {
        if let Ok(place) = self.place(subject) {
            self.attempts.remove(place);
        }
    }

    /// Forgets what is long ago, and the errors of what is no longer wanted.
    pub fn prune(&mut self, wanted: impl Fn(&Subject) -> bool, now: Duration) {
        self.attempts.retain(|(subject, attempts)| {
            now < attempts.last + attempts.pause(subject) * 2 + forget_after(subject)
        });
        for (subject, attempts) in &mut self.attempts {
            attempts.wanted = wanted(subject);
            // How the last attempt at subflows goes is not known yet.
            let open = matches!(subject, Subject::Subflows(_) | Subject::Part(..));
            attempts.error = attempts.error.take().filter(|_| attempts.wanted || open);
        }
    }

    /// What fails or was given up: the subject, why, and whether it was given up.
    pub fn troubles(&self) -> impl Iterator<Item = (&Subject, &str, bool)> {
        const UNDONE: &str = "done again and again, without effect or undone by somebody else";
        self.attempts.iter().filter(|(_, attempts)| attempts.wanted).filter_map(|(subject, attempts)| {
            let given_up = attempts.count >= self.limit;
            let reason = attempts.error.as_deref().or(given_up.then_some(UNDONE))?;
            Some((subject, reason, given_up))
        })
    }

    /// Where a subject is, or belongs.
    fn place(&self, subject: &Subject) -> Result<usize, usize> {
        self.attempts.binary_search_by(|(known, _)| known.cmp(subject))
    }
}

impl Attempts {
    fn pause(&self, subject: &Subject) -> Duration {
        let first = match subject {
            Subject::Part(_, Deed::SetBackup, ..) if self.error.is_some() => UNCONFIRMED,
            _ => FIRST_PAUSE,
        };
        let free = if self.error.is_none() { FREE } else { 1 };
        match self.count.checked_sub(free) {
            None => Duration::ZERO,
            Some(step) => (first * 2_u32.saturating_pow(step.min(24))).min(LONGEST_PAUSE),
        }
    }
}

/// Paces what events bring about: a burst at once, then a steady rate. Under endless churn the daemon still acts, and
/// still sleeps.
#[derive(Clone, Debug)]
pub struct Pacer {
    refill: Duration,
    full_at: Duration,
}

impl Pacer {
    /// So many at once.
    pub const BURST: u32 = 16;

    /// A full bucket that gains one for each `refill`.
    pub const fn new(refill: Duration) -> Self {
        Self { refill, full_at: Duration::ZERO }
    }

    /// When the next one may be taken.
    pub fn next(&self) -> Duration {
        self.full_at.saturating_sub(self.refill * (Self::BURST - 1))
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let allowed = self.next() <= now;
        if allowed {
            self.full_at = self.full_at.max(now) + self.refill;
        }
        allowed
    }
}
