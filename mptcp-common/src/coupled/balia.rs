//! BALIA, the "balanced linked adaptation": draft-walid-mptcp-congestion-control-04; Q. Peng, A. Walid, J. Hwang, S. Low,
//! "Multipath TCP: analysis, design, and implementation", IEEE/ACM Transactions on Networking 24(1), 2016.
//! Checked against the authors' implementation for Linux (net/mptcp/mptcp_balia.c of the out-of-tree kernel), not against
//! the draft's own words.
use super::{
    Figures, MIN_WINDOW, PACKET_BITS, Paths, SHARE_BITS, Total, at_least_one, greatest_rate, quotient,
};

/// How much the window of one of the subflows grows for each packet acknowledged to it in congestion avoidance, in units
/// of 1 / [`super::PACKET`].
///
/// For each acknowledged packet `(x_r / rtt_r) / (sum x)^2 * (1 + a)/2 * (4 + a)/5` with `a = max(x) / x_r`. With
/// shares this is `(g_r + g_max) (4 g_r + g_max) / (10 w_r)`, which `a` cannot make overflow.
#[inline(always)]
pub fn increase(paths: &Paths, own: &Figures) -> i64 {
    let total = Total::of(paths, own);
    let (share, greatest) = (total.share(own.rate), total.share(greatest_rate(paths, own)));
    // At most 10 * 2^60.
    let product = (share + greatest).wrapping_mul(4 * share + greatest);
    let by_window = quotient(product, 10 * at_least_one(own.window));
    (by_window >> (2 * SHARE_BITS - PACKET_BITS)) as i64
}

/// A whole window, in the unit of [`loss`].
const WHOLE: u64 = 1 << 16;

/// What a loss takes of a window when no other subflow is there: a half, as with Reno.
pub const LOSS_ALONE: u32 = 1 << 15;

/// What a loss takes of the window of one of the subflows: `1/2 * min(a, 1.5)`, in units of 1 / 2^16.
///
/// The greatest rate is at least that of this subflow, so that it is between a half and three quarters.
#[inline(always)]
pub fn loss(paths: &Paths, own: &Figures) -> u32 {
    let total = Total::of(paths, own);
    let (share, greatest) = (total.share(own.rate), total.share(greatest_rate(paths, own)));
    if 2 * greatest >= 3 * share {
        return (WHOLE as u32 / 4) * 3;
    }
    // Shares have 30 bits.
    let loss = quotient(greatest.wrapping_mul(WHOLE / 2), share) as u32;
    if loss > LOSS_ALONE { loss } else { LOSS_ALONE }
}

/// The window after a loss, packets: the slow start threshold, at least [`MIN_WINDOW`]. No loss takes less than
/// [`LOSS_ALONE`], also before anything is known.
#[inline(always)]
pub fn after_loss(window: u32, loss: u32) -> u32 {
    let loss = if loss > LOSS_ALONE { loss } else { LOSS_ALONE };
    let lost = (window as u64).wrapping_mul(loss as u64).wrapping_add(WHOLE - 1) / WHOLE;
    let rest = window.saturating_sub(lost as u32);
    if rest > MIN_WINDOW { rest } else { MIN_WINDOW }
}
