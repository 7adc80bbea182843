//! OLIA, the "opportunistic linked increases algorithm": draft-khalili-mptcp-congestion-control-05; R. Khalili, N. Gast,
//! M. Popovic, J.-Y. Le Boudec, "MPTCP is not Pareto-optimal", CoNEXT 2012. Checked against the authors' implementation
//! for Linux (net/mptcp/mptcp_olia.c of the out-of-tree kernel), not against the draft's own words.
use super::{Figures, PACKET, Paths, Total, at_least_one, quotient, squared_by_window};

/// How good a path is, an ordered number: `bytes / rtt^2`, where the bytes are the greater of those that were acknowledged
/// between the last two losses and those since the last one.
///
/// This is proportional to the square of the rate that plain TCP would have there, and what the authors' implementation
/// ranks by. Others quote the draft as ranking by `bytes^2 / rtt`, which is not in accord with either.
#[inline(always)]
pub fn quality(bytes: u64, rtt: u32) -> u64 {
    if bytes == 0 || rtt == 0 {
        return 0;
    }
    // A floating-point number whose bits are ordered as its value: an exponent, then 32 bits that begin with a one.
    let by_bytes = bytes.leading_zeros();
    let squared = rtt as u64 * rtt as u64;
    let by_time = squared.leading_zeros();
    // From 2^63 and below 2^64, by from 2^31 and below 2^32: between 2^31 and 2^33.
    let ratio = quotient(bytes.wrapping_shl(by_bytes), squared.wrapping_shl(by_time) >> 32);
    let (mantissa, carry) = if ratio >> 32 == 0 { (ratio, 0) } else { (ratio >> 1, 1) };
    let exponent = (64 + by_time + carry - by_bytes) as u64;
    exponent << 32 | (mantissa & u32::MAX as u64)
}

/// How much the window of one of the subflows grows for each packet acknowledged to it in congestion avoidance, in units
/// of 1 / [`PACKET`]; negative when it shrinks.
///
/// For each acknowledged packet `(w_r / rtt_r^2) / (sum w_p / rtt_p)^2 + alpha_r / w_r`.
#[inline(always)]
pub fn increase(paths: &Paths, own: &Figures) -> i64 {
    squared_by_window(Total::of(paths, own).share(own.rate), own.window) + opportunistic(paths, own)
}

/// `alpha_r / w_r`, where `n` is the number of paths and `alpha_r` is
/// - On a path that is among the best, but not among those with the largest window: `1 / n`, divided among these paths.
/// - On a path with the largest window, when there are such: `-1 / n`, divided among those with the largest window.
/// - Otherwise 0.
#[inline(always)]
fn opportunistic(paths: &Paths, own: &Figures) -> i64 {
    let (mut number, mut largest, mut best) = (0u64, 0, 0);
    for path in paths {
        if path.is_beside(own) {
            number = number.wrapping_add(path.one);
            if path.window > largest {
                largest = path.window;
            }
            if path.quality > best {
                best = path.quality;
            }
        }
    }
    let (mut with_largest, mut best_but_small) = (0u64, 0u64);
    for path in paths {
        if path.is_beside(own) {
            if path.window == largest {
                with_largest = with_largest.wrapping_add(path.one);
            } else if path.quality == best {
                best_but_small = best_but_small.wrapping_add(path.one);
            }
        }
    }
    let divided = |among: u64| {
        quotient(PACKET as u64, number.wrapping_mul(among).wrapping_mul(at_least_one(own.window))) as i64
    };
    if best_but_small == 0 {
        0
    } else if own.window == largest {
        -divided(with_largest)
    } else if own.quality == best {
        divided(best_but_small)
    } else {
        0
    }
}
