//! What a window can have come to since it was last seen: a bound on what the kernel makes of it in between.
//!
//! The kernel takes for the window what a congestion control answers to a loss (`ssthresh`) and to its being undone
//! (`undo_cwnd`), unchecked. Where a kernel does not run the program that it has been given for that, the answer is
//! whatever lies on its stack: the trampoline (`arch_prepare_bpf_trampoline`, arch/x86/net/bpf_jit_comp.c) returns a place that
//! it has never written to when `__bpf_prog_enter` (kernel/bpf/trampoline.c) says not to run the program. Linux up to 7.3 always
//! runs those of `struct_ops`; kernels with changes of their own do not. What such a kernel leaves out at the beginning of a
//! recovery, the look at its end puts right.
use super::reno;

/// What is known of a window: between two looks it only shrinks, or comes back to what it was before a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The window when it was last seen, or what was made of it then; packets.
    pub latest: u32,
    /// The window before the latest loss, packets.
    pub before_loss: u32,
}

/// By so much the kernel's own window may be larger, packets: what is on its way and one more after a timeout
/// (`tcp_enter_loss`), with what limited transmit (RFC 3042, two) and a probe for the tail (RFC 8985 section 7.3, one) have added.
const BESIDE: u32 = 4;

impl Known {
    /// The greatest window that it was.
    #[inline(always)]
    pub fn greatest(self) -> u32 {
        if self.latest > self.before_loss { self.latest } else { self.before_loss }
    }

    /// Whether a window can have come of it.
    #[inline(always)]
    pub fn allows(self, window: u32) -> bool {
        window <= self.greatest().saturating_add(BESIDE)
    }

    /// What is known after a loss that the kernel found this window before.
    #[inline(always)]
    pub fn after_loss_of(self, before: u32) -> Self {
        Self { before_loss: if self.allows(before) { before } else { self.before_loss }, ..self }
    }

    /// The window in place of one that cannot be: as after a loss.
    #[inline(always)]
    pub fn mended(self) -> u32 {
        reno::after_loss(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MIN_WINDOW;
    use super::*;

    #[test]
    fn a_window_may_shrink_and_come_back() {
        let known = Known { latest: 50, before_loss: 100 };
        assert!([0, 2, 50, 75, 100, 104].into_iter().all(|window| known.allows(window)));
        assert!([105, 1 << 20, u32::MAX].into_iter().all(|window| !known.allows(window)));
        assert_eq!(known.mended(), 25);
        let full = Known { latest: u32::MAX, before_loss: 0 };
        assert!(full.allows(u32::MAX));
    }

    #[test]
    fn what_was_before_a_loss_is_believed_when_it_can_be() {
        let known = Known { latest: 50, before_loss: 10 };
        assert_eq!(known.after_loss_of(48).before_loss, 48);
        assert_eq!(known.after_loss_of(4_000_000).before_loss, 10);
    }

    /// What happens to a sender; each with whether the programs run then, and what the kernel takes for an answer if not.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Grows(u32),
        Loses,
        Times,
        Recovers,
        IsUndone,
    }

    /// The kernel (net/ipv4/tcp_input.c) with the programs of the object `coupled`, as far as windows go.
    #[derive(Debug)]
    struct Sender {
        window: u32,
        threshold: u32,
        prior: u32,
        known: Known,
    }

    impl Sender {
        fn look(&mut self) {
            if self.prior == 0 {
                self.known.latest = self.window;
            }
            if !self.known.allows(self.window) {
                self.window = self.known.mended();
                self.threshold = self.window;
            }
        }

        fn step(&mut self, step: Step, runs: bool, stack: u32) {
            match step {
                Step::Grows(by) if runs => {
                    self.look();
                    // At most twice as large in a round trip.
                    self.window += by.min(self.window).max(1);
                    self.known.latest = self.window;
                }
                Step::Grows(_) => {}
                Step::Loses | Step::Times => {
                    self.prior = self.window;
                    self.threshold = if runs { reno::after_loss(self.window) } else { stack };
                    if matches!(step, Step::Times) {
                        self.window = 1;
                    }
                    if runs {
                        self.look();
                        self.known = self.known.after_loss_of(self.prior);
                    }
                }
                Step::Recovers => {
                    self.window = self.threshold;
                    if runs {
                        self.look();
                    }
                }
                Step::IsUndone => {
                    self.window = if runs { reno::undone(self.window, self.prior) } else { stack };
                    if runs {
                        self.look();
                    }
                }
            }
        }
    }

    proptest! {
        /// Whatever lies on the stack: when a program has run again, the window is one that it was before, or less.
        #[test]
        fn no_window_jumps_though_programs_are_not_run(
            steps in prop::collection::vec(
                (prop_oneof![
                    (1u32..100).prop_map(Step::Grows),
                    Just(Step::Loses), Just(Step::Times), Just(Step::Recovers), Just(Step::IsUndone),
                ], any::<bool>(), any::<u32>()),
                1..200,
            ),
        ) {
            let mut sender =
                Sender { window: 10, threshold: u32::MAX >> 1, prior: 0, known: Known { latest: 10, before_loss: 0 } };
            let mut greatest = sender.window;
            for (step, runs, stack) in steps {
                // Nothing is left to recover from while nothing was lost.
                if matches!(step, Step::Recovers | Step::IsUndone) && sender.prior == 0 {
                    continue;
                }
                sender.step(step, runs, stack);
                if runs {
                    let bound = match step {
                        Step::Grows(by) => greatest + BESIDE + by.max(1),
                        _ => greatest + BESIDE,
                    };
                    prop_assert!(sender.window <= bound.max(MIN_WINDOW), "{sender:?} after {step:?}, {greatest} before");
                    greatest = greatest.max(sender.window);
                }
            }
        }
    }
}
