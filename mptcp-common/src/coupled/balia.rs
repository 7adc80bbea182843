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

/// The window after a loss, packets: the slow start threshold.
///
/// `w_r - w_r / 2 * min(a, 1.5)`, but at least [`MIN_WINDOW`]. The greatest rate is at least that of this subflow, so that
/// it loses between a half and three quarters.
#[inline(always)]
pub fn after_loss(paths: &Paths, own: &Figures) -> u32 {
    let total = Total::of(paths, own);
    let (share, greatest) = (total.share(own.rate), total.share(greatest_rate(paths, own)));
    let window = u64::from(own.window);
    let lost = if 2 * greatest >= 3 * share {
        (3 * window).div_ceil(4)
    } else {
        // Less than three quarters, as just seen; rounded up, as the kernel's Reno does it.
        quotient(window * greatest, share).div_ceil(2)
    };
    let rest = own.window.saturating_sub(lost as u32);
    if rest > MIN_WINDOW { rest } else { MIN_WINDOW }
}
