//! How much a subflow may hold beyond what is under way.

/// It is fitted no more often than this, nanoseconds: the kernel measures once in a round trip (`tcp_rtt_estimator`,
/// net/ipv4/tcp_input.c), which may be short.
pub const EVERY_NS: u64 = 10_000_000;

/// What it holds beyond the difference of the paths, microseconds of its rate: who writes may be late by as much.
const SLACK_US: u64 = 50_000;

/// More than this is not made up for a slower path, microseconds: something is wrong with that one.
const MOST_US: u64 = 500_000;

/// The bound before anything was measured, bytes: what the scheduler hands out at a time. A subflow that has stood by and now
/// takes over has not been asked for more when it hears what has arrived already. With less, the scheduler would not fill
/// a first flight of that size: it asks again only when something is acknowledged.
pub const FIRST: u32 = 64 << 10;

/// The bound from the first acknowledgement after a rest to the next measurement, bytes. Such an acknowledgement says what has
/// arrived over another path, but the scheduler hands out once more before the kernel looks at that (`ack_update_msk`,
/// net/mptcp/options.c). More than a segment, of which Nagle's algorithm may hold back the last one.
pub const AFTER_REST: u32 = 10 << 10;

/// Whether a subflow had nothing to measure for much longer than an answer takes, by the time since the last
/// measurement, nanoseconds, and its smoothed round-trip time, microseconds.
pub const fn has_rested(since_ns: u64, own_us: u32) -> bool {
    since_ns / 1000 > 4 * own_us as u64
}

/// The window that subflows begin with, segments (`TCP_INIT_CWND`, include/net/tcp.h).
pub const USUAL_WINDOW: u32 = 10;

/// Never less, bytes: half of what the scheduler hands out at a time (`MPTCP_SEND_BURST_SIZE`).
const LEAST: u64 = 32 << 10;

/// The bound, bytes, for a subflow that is paced at `rate` bytes per second, by its own smoothed round-trip time and
/// that of the slowest subflow that carries, microseconds.
///
/// The scheduler compares how long the queues of subflows last, what is under way included. The queue of a shorter path
/// has to be able to last as long as the round trip of the longer one: else the longer path gets nothing.
pub const fn bound(rate: u64, own_us: u32, slowest_us: u32) -> u32 {
    let difference = slowest_us.saturating_sub(own_us) as u64;
    let us = if difference < MOST_US { difference + SLACK_US } else { MOST_US + SLACK_US };
    // Below 2^32 and 2^20: their product is a number of 64 bits.
    let rate = if rate < u32::MAX as u64 { rate } else { u32::MAX as u64 };
    let bytes = rate * us / 1_000_000;
    if bytes < LEAST { LEAST as u32 } else { bytes as u32 }
}

/// Whether a bound is so far from the present one that it is worth setting: by more than an eighth. 0 is none.
pub const fn differs(present: u32, fitting: u32) -> bool {
    present == 0 || fitting.abs_diff(present) > present / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_holds_what_a_long_one_has_under_way() {
        // 50 Mbit/s and 20 ms beside 80 ms; alone; and the long one itself, with 20 Mbit/s.
        assert_eq!(bound(6_250_000, 20_000, 80_000), 687_500);
        assert_eq!(bound(6_250_000, 20_000, 20_000), 312_500);
        assert_eq!(bound(2_500_000, 80_000, 80_000), 125_000);
    }

    #[test]
    fn no_rate_and_no_round_trip_lead_beyond_the_bounds() {
        assert_eq!(bound(0, 0, u32::MAX), 32 << 10);
        assert_eq!(bound(u64::MAX, 0, u32::MAX), (u64::from(u32::MAX) * 550_000 / 1_000_000) as u32);
        assert_eq!(bound(u64::MAX, u32::MAX, 0), (u64::from(u32::MAX) * 50_000 / 1_000_000) as u32);
    }

    #[test]
    fn only_what_was_silent_for_several_round_trips_has_rested() {
        assert!(!has_rested(400_000_000, 100_000) && has_rested(400_001_000, 100_000));
        assert!(!has_rested(0, 0) && has_rested(u64::MAX, u32::MAX));
        assert!(AFTER_REST < FIRST && FIRST > LEAST as u32);
    }

    #[test]
    fn small_differences_are_not_followed() {
        assert!(differs(0, 0) && differs(u32::MAX, 80_000));
        assert!(!differs(80_000, 90_000));
        assert!(differs(80_000, 90_001) && differs(80_000, 69_999));
    }
}
