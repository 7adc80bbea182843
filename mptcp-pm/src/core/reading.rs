//! What has to be read of the kernel, and when: it is tried for as long as the daemon lives, at growing intervals.
use std::time::Duration;

use super::event::Failure;
use super::retry::Pacer;

/// Something that is read as a whole.
#[derive(Clone, Debug)]
pub struct Source {
    /// It was read once.
    known: bool,
    /// It has to be read.
    due: bool,
    /// It has to be read before anything is planned.
    urgent: bool,
    /// It is being read, and that was urgent.
    pressing: bool,
    /// It cannot be read, and nobody waits any longer.
    given_up: bool,
    failures: u32,
    /// Not before this time, because it failed.
    after: Duration,
    /// Not before this time, unless it is urgent, because others go first.
    patient: Duration,
    error: Option<String>,
    pacer: Pacer,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long [`Source::look_later`] waits. What tells of a new access comes in several messages within a millisecond, and
/// reading takes as long: it must not stand between them. What others do about it comes some time later anyway.
const LATER: Duration = Duration::from_millis(100);

impl Source {
    /// Never read, and due; paced so that endless churn does not make it the only thing that is done.
    pub const fn new(pacer: Pacer) -> Self {
        let (known, due, urgent, pressing, given_up) = (false, true, true, false, false);
        Self {
            known,
            due,
            urgent,
            pressing,
            given_up,
            failures: 0,
            after: Duration::ZERO,
            patient: Duration::ZERO,
            error: None,
            pacer,
        }
    }

    /// It may be different now.
    pub fn look(&mut self) {
        self.due = !self.given_up;
        self.patient = Duration::ZERO;
    }

    /// It may be different now or soon, and nobody waits for it.
    pub fn look_later(&mut self, now: Duration) {
        if !self.is_due() {
            self.look();
            self.patient = now + LATER;
        }
    }

    /// It is different now, and nothing can be planned before it is read.
    pub fn look_first(&mut self) {
        self.urgent = !self.given_up;
    }

    /// Somebody waits for the end: what failed before does not delay the next attempts.
    pub fn hurry(&mut self) {
        (self.failures, self.after) = (0, Duration::ZERO);
    }

    /// Whether it was read once.
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// Whether it has to be read.
    pub const fn is_due(&self) -> bool {
        self.due || self.urgent
    }

    /// Whether it has to be read before anything is planned.
    pub const fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// When it may be read next.
    pub fn next(&self) -> Duration {
        let patient = if self.urgent { Duration::ZERO } else { self.patient };
        self.after.max(patient).max(self.pacer.next())
    }

    /// It is being read from now on: what happens meanwhile may or may not be in the answer.
    pub fn begin(&mut self, now: Duration) {
        (self.due, self.urgent, self.pressing) = (false, false, self.urgent);
        self.pacer.take(now);
    }

    /// It was read.
    pub fn succeeded(&mut self) {
        self.known = true;
        (self.failures, self.after, self.error) = (0, Duration::ZERO, None);
    }

    /// It could not be read. With a limit of `attempts`, what was known before has to do from then on.
    pub fn failed(&mut self, failure: Failure, attempts: Option<u32>, now: Duration) {
        self.error = Some(failure.text);
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.after = now + pause.min(LONGEST_PAUSE);
        self.failures += 1;
        self.given_up = attempts.is_some_and(|attempts| self.failures >= attempts);
        self.due = !self.given_up;
        self.urgent = (self.urgent || self.pressing) && !self.given_up;
    }

    /// Why it could not be read at the last attempt.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}
