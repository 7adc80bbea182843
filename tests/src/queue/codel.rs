//! CoDel, the "controlled delay" of RFC 8289: drops from the front of the queue when packets have been waiting too long
//! for too long, ever more often until they no longer do. Random losses hit each flow as often as it sends, so that
//! flows share a link by what they do, not by how they happen to meet in its queue.
use super::Packet;
use super::waiting::Waiting;
use std::time::Duration;

/// How a link's queue is kept short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codel {
    /// How long packets may wait for longer than `interval` (RFC 8289 section 4.4: 5 ms).
    pub target: Duration,
    /// How long they may wait longer than `target` before one is dropped: about a round-trip time (section 4.3: 100 ms).
    pub interval: Duration,
}

/// A queue of no more than one packet of this size is not worth a drop, bytes.
const LARGEST_PACKET: usize = 1500;

/// The state of section 5.3.
#[derive(Debug, Default)]
pub(super) struct State {
    /// When packets will have waited too long for a whole interval; none while they do not.
    first_above: Option<Duration>,
    dropping: bool,
    drop_next: Duration,
    /// How many were dropped since it began, and at the beginning.
    count: u32,
    last_count: u32,
}

impl State {
    /// The next packet to be sent, after those that are dropped (section 5.5, `dequeue`).
    pub(super) fn next<P>(
        &mut self,
        codel: &Codel,
        now: Duration,
        waiting: &mut Waiting<P>,
        mut drop: impl FnMut(Packet<P>),
    ) -> Option<Packet<P>> {
        let (mut packet, mut may_drop) = self.take(codel, now, waiting);
        if self.dropping {
            self.dropping = may_drop;
            while self.dropping && now >= self.drop_next {
                packet.into_iter().for_each(&mut drop);
                self.count += 1;
                (packet, may_drop) = self.take(codel, now, waiting);
                self.dropping = may_drop;
                if may_drop {
                    self.drop_next = self.after(codel, self.drop_next);
                }
            }
        } else if may_drop {
            packet.into_iter().for_each(&mut drop);
            (packet, _) = self.take(codel, now, waiting);
            self.dropping = true;
            // If it was dropping not long ago, it begins where that was enough.
            let since = self.count - self.last_count;
            let is_again = now.saturating_sub(self.drop_next) < 16 * codel.interval;
            self.count = if since > 1 && is_again { since } else { 1 };
            self.last_count = self.count;
            self.drop_next = self.after(codel, now);
        }
        packet
    }

    /// A packet, and whether it has waited for so long that it may be dropped (section 5.6, `dodequeue`).
    fn take<P>(
        &mut self,
        codel: &Codel,
        now: Duration,
        waiting: &mut Waiting<P>,
    ) -> (Option<Packet<P>>, bool) {
        let packet = waiting.pop();
        let waited_long = packet.as_ref().is_some_and(|packet| {
            now.saturating_sub(packet.since) >= codel.target && waiting.bytes() > LARGEST_PACKET
        });
        if !waited_long {
            self.first_above = None;
            return (packet, false);
        }
        let first_above = *self.first_above.get_or_insert(now + codel.interval);
        (packet, now >= first_above)
    }

    /// When the next one is dropped after one at `at` (section 5.4, `control_law`).
    fn after(&self, codel: &Codel, at: Duration) -> Duration {
        at + codel.interval.div_f64(f64::from(self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Queue, Settings, Tally};
    use super::*;
    use proptest::prelude::*;

    const CODEL: Codel = Codel { target: Duration::from_millis(5), interval: Duration::from_millis(100) };
    /// One packet of 1500 bytes in 1 ms.
    const RATE: u64 = 12_000_000;
    const SIZE: usize = 1500;

    fn link() -> Queue<()> {
        Queue::new(Settings { rate: RATE, codel: Some(CODEL), ..Settings::default() }, 0)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn burst(link: &mut Queue<()>, at: u64, packets: u64) {
        for _ in 0..packets {
            link.offer(ms(at), SIZE, ());
        }
    }

    /// Offers a packet each millisecond, so that the queue stays as long as it is but for what is dropped: when drops
    /// happened.
    fn drops(link: &mut Queue<()>, from: u64, to: u64) -> Vec<u64> {
        let mut drops = Vec::new();
        let mut before = link.counters(ms(from)).dropped_codel.packets;
        for at in from..to {
            link.offer(ms(at), SIZE, ());
            let after = link.counters(ms(at)).dropped_codel.packets;
            drops.extend((before..after).map(|_| at));
            before = after;
        }
        drops
    }

    #[test]
    fn a_standing_queue_is_dropped_from_as_the_control_law_has_it() {
        let mut link = link();
        burst(&mut link, 0, 50);
        let found = drops(&mut link, 0, 400);
        // The first that has waited for 5 ms goes out at 5 ms; then interval / sqrt(count).
        let mut expected = vec![105.0];
        for count in 1..found.len() {
            expected.push(expected[count - 1] + 100.0 / (count as f64).sqrt());
        }
        assert!(found.len() >= 4, "{found:?}");
        for (found, expected) in found.iter().zip(&expected) {
            // Packets leave each millisecond only.
            assert!((*found as f64 - expected).abs() <= 2.0, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_standing_queue_goes_away_and_then_nothing_is_dropped() {
        let mut link = link();
        burst(&mut link, 0, 50);
        drops(&mut link, 0, 10_000);
        assert!(link.waiting_bytes() <= 6 * SIZE, "{}", link.waiting_bytes());
        assert_eq!(drops(&mut link, 10_000, 20_000), Vec::<u64>::new());
        assert_eq!(link.counters(ms(20_000)).dropped_queue, Tally::default());
    }

    proptest! {
        #[test]
        fn a_burst_that_is_gone_within_an_interval_loses_nothing(packets in 1u64..100, pause in 200u64..1000) {
            let mut link = link();
            for number in 0..5 {
                burst(&mut link, number * pause, packets);
            }
            prop_assert_eq!(link.counters(ms(10_000)).dropped(), Tally::default());
        }

        #[test]
        fn what_waits_no_longer_than_the_target_is_not_dropped(gaps in prop::collection::vec(1000u64..3000, 1..500)) {
            let mut link = link();
            let mut now = Duration::ZERO;
            for gap in gaps {
                now += Duration::from_micros(gap);
                link.offer(now, SIZE, ());
            }
            prop_assert_eq!(link.counters(now + ms(100)).dropped(), Tally::default());
        }

        #[test]
        fn overload_is_held_back_by_dropping_ever_more(load in 2u64..5) {
            let mut link = link();
            let mut dropped = Vec::new();
            for second in 0..4 {
                for at in second * 1000..second * 1000 + 1000 {
                    burst(&mut link, at, load);
                }
                dropped.push(link.counters(ms(second * 1000 + 999)).dropped_codel.packets);
            }
            let grown: Vec<u64> = dropped.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(grown.is_sorted() && dropped[0] > 0, "{:?}", dropped);
        }
    }
}
