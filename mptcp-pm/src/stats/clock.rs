//! When the windows begin and end: at the same moments for every subflow and every uplink.
//!
//! Each window is made of two slots. What comes in is counted in the current one; when that is two thirds of the
//! window long, it becomes the previous one. A window is both together: with a reading each second it is two thirds to
//! four thirds of its name long and ends at the last reading; that of one second reaches from reading to reading.
//! A gap without readings makes a slot long. Such a window tells its true length, once; as soon as the current slot
//! has something to tell, a previous one of more than twice the window is left out.

/// One second, ten seconds, one minute, ten minutes.
pub(super) const WINDOWS: usize = 4;

/// The window by which means of round-trip times are weighted: that of ten seconds.
pub(super) const LATELY: usize = 1;

/// What the windows are named after.
pub(super) const LENGTHS_NS: [u64; WINDOWS] =
    [1_000_000_000, 10_000_000_000, 60_000_000_000, 600_000_000_000];

/// The windows whose current slot has become the previous one.
pub(super) type Turned = [bool; WINDOWS];

/// The beginnings of all slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    /// The end of the last reading.
    now_ns: u64,
    slots: [Slots; WINDOWS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slots {
    previous_ns: u64,
    current_ns: u64,
}

impl Clock {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { now_ns, slots: [Slots { previous_ns: now_ns, current_ns: now_ns }; WINDOWS] }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Ends a reading. Slots that are long enough become previous ones.
    pub(super) fn advance(&mut self, now_ns: u64) -> Turned {
        self.now_ns = self.now_ns.max(now_ns);
        let mut turned = [false; WINDOWS];
        for (window, slots) in self.slots.iter_mut().enumerate() {
            if self.now_ns - slots.current_ns >= LENGTHS_NS[window] * 2 / 3 {
                *slots = Slots { previous_ns: slots.current_ns, current_ns: self.now_ns };
                turned[window] = true;
            }
        }
        turned
    }

    /// Whether a window takes in its previous slot.
    pub(super) fn takes_previous(&self, window: usize) -> bool {
        let slots = self.slots[window];
        let is_gap = slots.current_ns - slots.previous_ns > 2 * LENGTHS_NS[window];
        !is_gap || slots.current_ns == self.now_ns
    }

    /// How long a window is, seconds, for what began at a time.
    pub(super) fn seconds(&self, window: usize, since_ns: u64) -> f64 {
        let slots = self.slots[window];
        let start = if self.takes_previous(window) { slots.previous_ns } else { slots.current_ns };
        seconds(self.now_ns.saturating_sub(start.max(since_ns)))
    }

    /// How long the last full slot of the shortest window was, seconds.
    pub(super) fn last_second(&self) -> f64 {
        seconds(self.slots[0].current_ns - self.slots[0].previous_ns)
    }
}

/// Nanoseconds in seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn with_a_reading_each_second_windows_are_about_as_long_as_their_names() {
        let mut clock = Clock::new(5 * SECOND);
        for second in 6..5000 {
            clock.advance(second * SECOND);
            for (window, length) in LENGTHS_NS.map(seconds).into_iter().enumerate() {
                let age = (second - 5) as f64;
                let found = clock.seconds(window, 0);
                assert!(found >= age.min(length * 2.0 / 3.0), "{window} at {second}: {found}");
                assert!(found <= length * 4.0 / 3.0 + 1.0, "{window} at {second}: {found}");
            }
            assert_eq!(clock.seconds(0, 0), 1.0);
        }
    }

    #[test]
    fn a_gap_is_told_and_then_left_out() {
        let mut clock = Clock::new(0);
        clock.advance(SECOND);
        let hours = 7200 * SECOND;
        clock.advance(hours);
        assert!((0..WINDOWS).all(|window| clock.seconds(window, 0) >= 7199.0));
        clock.advance(hours + SECOND);
        assert_eq!([0, 1, 2, 3].map(|window| clock.seconds(window, 0)), [1.0; WINDOWS]);
        clock.advance(hours + 5 * SECOND);
        assert_eq!([0, 1, 2, 3].map(|window| clock.seconds(window, 0)), [4.0, 5.0, 5.0, 5.0]);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut clock = Clock::new(10 * SECOND);
        clock.advance(SECOND);
        assert_eq!((clock.now_ns(), clock.seconds(0, 0)), (10 * SECOND, 0.0));
    }
}
