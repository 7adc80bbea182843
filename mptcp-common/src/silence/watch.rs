//! When a subflow counts as late, silent or quiet, and when to look at it again: one step for each look.
//!
//! **Due** is the moment by which something should have come: a round trip after the oldest segment on its way was sent,
//! and not before what came last. Where acknowledgements come in a row this is the moment of the last one, however long
//! the queue is that they came through; of a message after a pause it is a round trip after the message.
//!
//! **Silent** is who is overdue by [`Wait::grace_us`]; **late** by half of that:
//!
//! | part | µs | why |
//! |---|---|---|
//! | four deviations | `4 mdev` | as in RFC 6298: nearly all round trips are shorter |
//! | an eighth of the round trip | `srtt / 8` | what varies grows with the way |
//! | processing | 40 000 | bursts of a radio link, schedulers and timers of both ends |
//! | or a delayed acknowledgement | 50 000 | while no more than one segment's bytes are out: `TCP_DELACK_MIN` (40 ms), a tick |
//! | recovery | `srtt / 4` | RACK waits as long before it sends again what is lost (RFC 8985) |
//! | few on a lossy way | `2 srtt` + 200 000 | less than four segments, of which no fate is known, may all be lost: until a tail loss probe is answered (RFC 8985 section 7.2) |
//!
//! When the oldest segment is sent again before that, the answer to this one is what is due; once in a silence, as
//! retransmissions that are not answered go on for minutes.
//!
//! A subflow that has paused and gone on by itself may do so again: for a while it is not late before a pause a quarter
//! longer. Neither is one on an interface whose pauses the daemon knows of.
//!
//! **Quiet** is an inflow that came in each of four looks in a row and then stopped for a round trip and 20 ms, or
//! for three of the gaps that it had anyway, if that is longer. The deviation has no part in this: of who only receives it is
//! half of the handshake's round trip.
//!
//! A machine that was itself away, which is seen by a look that comes late, gives a path one more chance.
use core::hint::black_box;

use super::Kind;

const MS: u64 = 1_000_000;

/// The round trip where none has been measured: RFC 6298 section 2.
const UNKNOWN_RTT_US: u64 = 1_000_000;
const PROCESSING_US: u64 = 40_000;
const DELAYED_ACK_US: u64 = 50_000;
/// The longest of what a tail loss probe waits for, beside the round trips.
const PROBE_US: u64 = 200_000;
/// So many segments are not lost together by chance.
const MANY: u32 = 4;
/// A longer pause is an outage, from which nothing is learned.
const LONGEST_PAUSE: u64 = 250 * MS;
/// For so long a pause is remembered.
const MEMORY: u64 = 30_000 * MS;
/// An inflow in so many looks in a row is steady.
const STEADY: u32 = 4;
/// The gap that any inflow may have.
const GAP_US: u64 = 20_000;
/// After so long without anything there are no more looks.
const REST: u64 = 2_000 * MS;
/// Where something is expected, after so long.
const LONG_REST: u64 = 10_000 * MS;
/// While a silence lasts, looks are a quarter of it apart, and at least and at most this.
const SOONEST_AGAIN: u64 = 25 * MS;
const LATEST_AGAIN: u64 = 250 * MS;
/// A timer cannot be set to a time that has passed.
const AT_ONCE: u64 = MS / 20;
/// The longest time between two looks.
const LONGEST: u64 = 1_000 * MS;
/// A look that comes later than this says that the machine was away.
const AWAY: u64 = 5 * MS;

/// What a socket shows at one look.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub now_ns: u64,
    /// When it last did something that was noticed besides looks.
    pub touched_ns: u64,
    /// When something last came, as far as the kernel dates it.
    pub heard_ns: u64,
    /// When the oldest segment on its way was sent, or sent again, if there is one.
    pub oldest_ns: u64,
    /// When what is on its way began to be sent, if that was after a pause; else 0.
    pub began_ns: u64,
    /// Segments received, those without data included.
    pub segments_in: u32,
    /// Segments with data received.
    pub data_segments_in: u32,
    /// Segments that are not acknowledged.
    pub in_flight: u32,
    /// Those of them that may still be on their way: not known to have arrived, nor to be lost.
    pub awaited: u32,
    /// The smoothed round-trip time, microseconds; 0 for none.
    pub rtt_us: u32,
    /// Its mean deviation, microseconds.
    pub deviation_us: u32,
    /// Silence that is usual on this interface, microseconds.
    pub patience_us: u32,
    /// What is out fits into one segment, so that the peer may delay its acknowledgement.
    pub is_small: bool,
    /// The kernel knows of something lost.
    pub is_recovering: bool,
    /// Loss is usual on this path.
    pub is_lossy: bool,
    /// The peer may send more.
    pub may_receive: bool,
}

/// What is kept of a subflow between two looks. All zeros before the first one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The last look; 0 for none.
    looked_ns: u64,
    /// When the next one was to be; 0 for no time.
    planned_ns: u64,
    /// When something last came.
    heard_ns: u64,
    /// Since when something is on its way and nothing has come; 0 while that is not so.
    since_ns: u64,
    /// When something should have come, if there is such a silence.
    due_ns: u64,
    /// When the silence began of which something was told.
    told_since_ns: u64,
    /// The longest pause after which it went on by itself, and when that was.
    pause_ns: u64,
    paused_ns: u64,
    /// When, as of the last look, the inflow will be quiet, and something overdue.
    quiet_ns: u64,
    overdue_ns: u64,
    /// The gaps between the segments of the inflow, microseconds: the longest mean of late.
    usual_gap_us: u64,
    segments_in: u32,
    data_segments_in: u32,
    /// Looks in a row at which data had come.
    steady: u32,
    /// The gravest [`Kind`] that was told of this silence; 0 for none.
    told: u32,
    /// Whether what was out at the beginning of the silence fits into one segment: 1 if so.
    small: u32,
    /// Whether the machine's own absence has been made up for in this silence: 1 if so.
    spared: u32,
    /// Whether the oldest segment was sent again in this silence, and its answer awaited: 1 if so.
    repeated: u32,
    /// Unused; 0.
    padding: u32,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be told, and how long the silence has lasted, nanoseconds.
    pub told: Option<(Kind, u64)>,
    /// With [`Kind::Heard`] the number of the gravest kind that was told before.
    pub after: u64,
    /// In how many nanoseconds to look again; 0 for not before something happens.
    pub again_ns: u64,
}

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The round trip.
    pub rtt_us: u64,
    /// How much later than due is silent.
    pub grace_us: u64,
}

impl Wait {
    /// For what a socket shows. `small`: all that was on its way fits into one segment.
    #[inline(always)]
    pub fn of(look: &Look, small: bool) -> Self {
        let rtt_us = if look.rtt_us == 0 { UNKNOWN_RTT_US } else { look.rtt_us as u64 };
        let mut grace_us = 4 * look.deviation_us as u64 + rtt_us / 8;
        grace_us += if small { DELAYED_ACK_US } else { PROCESSING_US };
        if look.is_recovering {
            grace_us += rtt_us / 4;
        }
        if look.is_lossy && look.awaited < MANY {
            grace_us += 2 * rtt_us + PROBE_US;
        }
        Self { rtt_us, grace_us }
    }

    /// How long an inflow may pause that otherwise has gaps of this length.
    #[inline(always)]
    fn gap_us(&self, usual_us: u64) -> u64 {
        larger(self.rtt_us + GAP_US, 3 * usual_us)
    }
}

impl Watch {
    /// One look: takes note of what the socket shows, says what is to be told, and when to look again.
    #[inline(always)]
    pub fn look(&mut self, look: &Look) -> Outcome {
        let mut outcome = Outcome::default();
        let heard_before_ns = self.heard_ns;
        if look.segments_in != self.segments_in || self.looked_ns == 0 {
            self.hear(look, &mut outcome);
        }
        self.quiet_ns = self.follow_inflow(look, heard_before_ns, &mut outcome);
        self.overdue_ns = self.judge(look, &mut outcome);
        // What was found out is read again: the verifier need not go through all that may follow from it.
        let this = black_box(self);
        this.data_segments_in = look.data_segments_in;
        this.segments_in = look.segments_in;
        this.looked_ns = look.now_ns;
        outcome.again_ns = this.plan(look, smaller(this.quiet_ns, this.overdue_ns));
        outcome
    }

    /// Something has come since the last look: a silence has ended.
    #[inline(always)]
    fn hear(&mut self, look: &Look, outcome: &mut Outcome) {
        self.heard_ns = smaller(larger(look.heard_ns, self.looked_ns), look.now_ns);
        if self.told != 0 {
            let silence = self.heard_ns.saturating_sub(self.told_since_ns);
            outcome.told = Some((Kind::Heard, silence));
            outcome.after = self.told as u64;
            self.learn(silence, look.now_ns);
        }
        self.told = 0;
        self.since_ns = 0;
        self.spared = 0;
        self.repeated = 0;
    }

    /// A pause has ended of which something was told.
    #[inline(always)]
    fn learn(&mut self, pause_ns: u64, now_ns: u64) {
        if self.told >= Kind::Late as u32 && pause_ns <= LONGEST_PAUSE {
            self.pause_ns = larger(pause_ns, self.pause_ns(now_ns));
            self.paused_ns = now_ns;
        }
    }

    /// The longest pause of late.
    #[inline(always)]
    fn pause_ns(&self, now_ns: u64) -> u64 {
        if now_ns < self.paused_ns + MEMORY { self.pause_ns } else { 0 }
    }

    /// Something is on its way: is the answer overdue? Returns when it will be.
    #[inline(always)]
    fn judge(&mut self, look: &Look, outcome: &mut Outcome) -> u64 {
        if look.in_flight == 0 {
            self.since_ns = 0;
            return u64::MAX;
        }
        let wait = self.wait(look);
        let now = look.now_ns;
        let again_ns = now + again(now.saturating_sub(self.since_ns));
        if self.told >= Kind::Silent as u32 {
            return again_ns;
        }
        let half_ns = wait.grace_us * 1000 / 2;
        let pause_ns = self.pause_ns(now);
        let patience_ns = larger(pause_ns + pause_ns / 4, look.patience_us as u64 * 1000);
        let patient_ns = self.since_ns + patience_ns;
        let late_ns = larger(self.due_ns + half_ns, patient_ns);
        if now < late_ns {
            return late_ns;
        }
        if outcome.told.is_some() {
            // One thing at a time.
            return now;
        }
        if self.was_away(look) {
            return now + half_ns;
        }
        if self.told < Kind::Late as u32 {
            self.tell(Kind::Late, self.since_ns, look, outcome);
        } else if now >= late_ns + half_ns {
            self.tell(Kind::Silent, self.since_ns, look, outcome);
            return again_ns;
        }
        late_ns + half_ns
    }

    /// How long to wait, in a silence that begins or goes on.
    #[inline(always)]
    fn wait(&mut self, look: &Look) -> Wait {
        let begins = self.since_ns == 0;
        if begins {
            self.small = look.is_small as u32;
        }
        let wait = Wait::of(look, self.small != 0);
        let rtt_ns = wait.rtt_us * 1000;
        if begins {
            let sent_ns = if look.began_ns == 0 { look.oldest_ns } else { look.began_ns };
            let sent_ns = smaller(sent_ns, look.now_ns);
            self.since_ns = larger(self.heard_ns, sent_ns);
            self.due_ns = larger(self.heard_ns, sent_ns + rtt_ns);
        }
        let is_over = look.now_ns >= self.due_ns + wait.grace_us * 1000;
        if look.oldest_ns > self.since_ns && self.repeated == 0 && !is_over {
            self.repeated = 1;
            self.due_ns = larger(self.due_ns, smaller(look.oldest_ns, look.now_ns) + rtt_ns);
        }
        wait
    }

    /// Follows what comes in. Returns when its absence will be conspicuous.
    #[inline(always)]
    fn follow_inflow(&mut self, look: &Look, heard_before_ns: u64, outcome: &mut Outcome) -> u64 {
        let now = look.now_ns;
        let segments = look.data_segments_in.wrapping_sub(self.data_segments_in);
        if segments != 0 && self.looked_ns != 0 {
            // Before the first of them nothing flowed.
            if self.steady > 0 {
                let gap_us = self.heard_ns.saturating_sub(heard_before_ns) / 1000 / segments as u64;
                self.usual_gap_us = larger(gap_us, self.usual_gap_us - self.usual_gap_us / 8);
            }
            self.steady = if self.steady < STEADY { self.steady + 1 } else { STEADY };
        }
        if self.told == Kind::Quiet as u32 {
            return now + again(now.saturating_sub(self.told_since_ns));
        }
        // What is on its way is the better evidence.
        if self.steady == 0 || look.in_flight > 0 || self.told != 0 {
            return u64::MAX;
        }
        let quiet_ns = larger(
            self.heard_ns + Wait::of(look, false).gap_us(self.usual_gap_us) * 1000,
            self.heard_ns + look.patience_us as u64 * 1000,
        );
        if now < quiet_ns || outcome.told.is_some() {
            return quiet_ns;
        }
        if self.steady >= STEADY && look.may_receive {
            if self.was_away(look) {
                return now + GAP_US * 1000;
            }
            self.tell(Kind::Quiet, self.heard_ns, look, outcome);
        }
        self.steady = 0;
        self.usual_gap_us = 0;
        u64::MAX
    }

    #[inline(always)]
    fn tell(&mut self, kind: Kind, since_ns: u64, look: &Look, outcome: &mut Outcome) {
        self.told = kind as u32;
        self.told_since_ns = since_ns;
        outcome.told = Some((kind, look.now_ns.saturating_sub(since_ns)));
    }

    /// Whether this look comes much later than it was to, for the first time in this silence: then what has come may
    /// not have been dealt with yet.
    #[inline(always)]
    fn was_away(&mut self, look: &Look) -> bool {
        let away = self.planned_ns != 0 && look.now_ns > self.planned_ns + AWAY && self.spared == 0;
        if away {
            self.spared = 1;
        }
        away
    }

    /// In how many nanoseconds to look again.
    #[inline(always)]
    fn plan(&mut self, look: &Look, next_ns: u64) -> u64 {
        let now = look.now_ns;
        let is_expecting = look.in_flight > 0 || self.steady > 0 || self.told != 0;
        let rest = if is_expecting { LONG_REST } else { REST };
        let active_ns = larger(larger(self.heard_ns, self.since_ns), look.touched_ns);
        if now > active_ns + rest {
            self.planned_ns = 0;
            return 0;
        }
        let mut next = smaller(next_ns, now + LONGEST);
        if look.in_flight == 0 && now <= active_ns + REST {
            // What is sent just after this look would be late then.
            let wait = Wait::of(look, true);
            next = smaller(next, now + (wait.rtt_us + wait.grace_us / 2) * 1000);
        }
        self.planned_ns = larger(next, now + AT_ONCE);
        self.planned_ns - now
    }
}

/// How long after a look the next one is, while a silence lasts of which all was told.
#[inline(always)]
fn again(silence_ns: u64) -> u64 {
    smaller(larger(silence_ns / 4, SOONEST_AGAIN), LATEST_AGAIN)
}

#[inline(always)]
fn larger(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests;
