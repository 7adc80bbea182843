//! LIA, the "linked increases algorithm": RFC 6356.
use super::{Figures, Paths, Total, of_plain_tcp, squared_by_window};

/// How much the window of one of the subflows grows for each packet acknowledged to it in congestion avoidance, in units
/// of 1 / [`super::PACKET`].
///
/// RFC 6356 section 3, equation 1, in packets: `min(alpha / w_total, 1 / w_i)`, where by equation 2 `alpha = w_total
/// max(w_i / rtt_i^2) / (sum w_i / rtt_i)^2`. The total window cancels out, and what remains of the first term is
/// `max(g_i^2 / w_i)` with the shares of the module above.
#[inline(always)]
pub fn increase(paths: &Paths, own: &Figures) -> i64 {
    let total = Total::of(paths, own);
    let mut coupled = 0;
    for path in paths {
        if path.is_beside(own) {
            let candidate = squared_by_window(total.share(path.rate), path.window);
            if candidate > coupled {
                coupled = candidate;
            }
        }
    }
    let alone = of_plain_tcp(own.window);
    if coupled < alone { coupled } else { alone }
}
