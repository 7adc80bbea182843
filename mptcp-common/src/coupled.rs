//! Coupled congestion control: what the subflows of a connection tell each other, and how their windows follow from it.
//!
//! Windows `w` are packets, round-trip times `rtt` eighths of a microsecond, as the kernel keeps them. Each subflow tells
//! its rate `x = w / rtt`. With its share `g = x / sum(x)` of the connection's rate, the first term of all three
//! algorithms is `g^2 / w`: `(w / rtt^2) / (sum w / rtt)^2` is the same. So one fixed-point format does for shares
//! ([`SHARE`]), and one for what a window grows by ([`PACKET`]), over windows from 1 to 2^20 and times from 1 µs to 10 s,
//! and neither needs more than 64 bits. No function panics or overflows, whatever it is given.
pub mod balia;
pub mod bound;
pub mod lia;
pub mod olia;
pub mod reno;

use crate::MAX_SUBFLOWS;

/// One packet, in the unit that increases and credits are in. Less than one part of it is lost with each increase.
pub const PACKET: i64 = 1 << PACKET_BITS;

const PACKET_BITS: u32 = 40;

/// The whole rate of a connection, in the unit of a subflow's share.
const SHARE: u64 = 1 << SHARE_BITS;

const SHARE_BITS: u32 = 30;

/// The greatest window that rates tell apart, packets; greater ones count as this.
pub const MAX_WINDOW: u32 = 1 << 20;

/// The least round-trip time that rates tell apart, eighths of a microsecond: 1 µs.
pub const MIN_RTT: u32 = 8;

/// The bits after the point of a rate. With this many, the least one (one packet in 10 s) has 13 bits, and the sum of the
/// greatest ones 61.
const RATE_BITS: u32 = 40;

/// One of the algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 6356.
    Lia,
    /// draft-khalili-mptcp-congestion-control.
    Olia,
    /// draft-walid-mptcp-congestion-control.
    Balia,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lia, Self::Olia, Self::Balia];

    /// The name that the kernel and its users know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lia => "lia",
            Self::Olia => "olia",
            Self::Balia => "balia",
        }
    }

    /// How much the window of one of the subflows grows for each packet acknowledged to it in congestion avoidance, in
    /// units of 1 / [`PACKET`].
    pub fn increase(self, paths: &Paths, own: &Figures) -> i64 {
        match self {
            Self::Lia => lia::increase(paths, own),
            Self::Olia => olia::increase(paths, own),
            Self::Balia => balia::increase(paths, own),
        }
    }
}

/// A connection: the key of the map of what its subflows tell each other. Addresses are reused when connections end,
/// tokens are not soon.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Connection {
    /// The kernel's address of it (`mptcp_sock`).
    pub address: u64,
    /// Its local token (RFC 8684 section 3.2).
    pub token: u32,
    /// Unused; 0.
    pub padding: u32,
}

/// One of the places that the subflows of a connection have: the key of the map of those that are taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The connection.
    pub of: Connection,
    /// Below [`MAX_SUBFLOWS`].
    pub index: u64,
}

/// What one subflow tells the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Figures {
    /// Its rate ([`rate`]); 0 for no subflow.
    pub rate: u64,
    /// How good its path is ([`olia::quality`]).
    pub quality: u64,
    /// Its window, packets.
    pub window: u32,
    /// The token of its connection.
    pub token: u32,
    /// 1: as what it counts. The kernel's verifier follows a number that is counted up in ones through each of its values,
    /// and gives up; of what is read from memory it follows none.
    pub one: u64,
}

impl Figures {
    /// The figures of a subflow of the connection with this token; `between_losses` is explained at [`olia::quality`].
    #[inline(always)]
    pub fn new(token: u32, window: u32, rtt: u32, between_losses: u64) -> Self {
        Self { rate: rate(window, rtt), quality: olia::quality(between_losses, rtt), window, token, one: 1 }
    }

    /// Whether they are those of a subflow of the same connection, with a measured round-trip time. Figures that are told
    /// while the last ones are removed may end up with another connection.
    #[inline(always)]
    pub fn is_beside(&self, own: &Self) -> bool {
        self.rate != 0 && self.token == own.token
    }
}

/// A rate, `window / rtt` in a fixed-point format; 0 while there is no round-trip time or no window.
#[inline(always)]
pub fn rate(window: u32, rtt: u32) -> u64 {
    if rtt == 0 {
        return 0;
    }
    let window = if window < MAX_WINDOW { window } else { MAX_WINDOW };
    let rtt = if rtt > MIN_RTT { rtt } else { MIN_RTT };
    quotient((window as u64) << RATE_BITS, rtt as u64)
}

/// The subflows of a connection, each in its place; places that are free are zero.
pub type Paths = [Figures; MAX_SUBFLOWS];

/// How many subflows the connection of one of them has, itself included, whose round-trip times have been measured.
#[inline(always)]
pub fn number(paths: &Paths, own: &Figures) -> u64 {
    let mut number = 0u64;
    for path in paths {
        if path.is_beside(own) {
            number = number.wrapping_add(path.one);
        }
    }
    number
}

/// The rate of a whole connection, prepared for division.
#[derive(Clone, Copy, Debug)]
struct Total {
    shift: u32,
    rate: u64,
}

impl Total {
    #[inline(always)]
    fn of(paths: &Paths, own: &Figures) -> Self {
        let mut rate = 0u64;
        for path in paths {
            if path.is_beside(own) {
                rate = rate.wrapping_add(path.rate);
            }
        }
        // So many bits that a rate with SHARE_BITS more fits into 64.
        let bits = 64 - (rate | 1).leading_zeros();
        let shift = bits.saturating_sub(64 - SHARE_BITS);
        Self { shift, rate: rate.wrapping_shr(shift) }
    }

    /// What part of it a rate is; at most [`SHARE`].
    #[inline(always)]
    fn share(self, rate: u64) -> u64 {
        let share = quotient(rate.wrapping_shr(self.shift).wrapping_shl(SHARE_BITS), self.rate);
        // More only if another subflow has changed its figures meanwhile.
        if share < SHARE { share } else { SHARE }
    }
}

/// The greatest rate of any subflow.
#[inline(always)]
fn greatest_rate(paths: &Paths, own: &Figures) -> u64 {
    let mut greatest = 0;
    for path in paths {
        if path.is_beside(own) && path.rate > greatest {
            greatest = path.rate;
        }
    }
    greatest
}

/// `share^2 / window`, in units of 1 / [`PACKET`].
#[inline(always)]
fn squared_by_window(share: u64, window: u32) -> i64 {
    (quotient(share.wrapping_mul(share), at_least_one(window)) >> (2 * SHARE_BITS - PACKET_BITS)) as i64
}

/// What plain TCP adds for each acknowledged packet: one packet for each window of them (RFC 5681 section 3.1).
#[inline(always)]
fn of_plain_tcp(window: u32) -> i64 {
    quotient(PACKET as u64, at_least_one(window)) as i64
}

#[inline(always)]
fn at_least_one(window: u32) -> u64 {
    if window == 0 { 1 } else { window as u64 }
}

/// A division that cannot fail: 0 for no divisor.
#[inline(always)]
fn quotient(dividend: u64, divisor: u64) -> u64 {
    dividend.checked_div(divisor).unwrap_or(0)
}

/// The least window that a decrease leads to, packets, as in `tcp_reno_ssthresh` (net/ipv4/tcp_cong.c).
pub const MIN_WINDOW: u32 = 2;

/// Adds the increase of so many acknowledged packets to a credit of less than one packet, and takes whole packets out of
/// it: the new window and the new credit. The window does not fall below [`MIN_WINDOW`] by it.
///
/// `increase` is at most two packets for each that is acknowledged, whatever the algorithm.
#[inline(always)]
pub fn apply(window: u32, credit: i64, increase: i64, acked: u32) -> (u32, i64) {
    let acked = if acked < MAX_WINDOW { acked } else { MAX_WINDOW };
    let credit = credit.wrapping_add(increase.wrapping_mul(acked as i64));
    // Towards the lesser, so that what is left of the credit is never negative.
    let packets = credit >> PACKET_BITS;
    let window = (window as i64).wrapping_add(packets);
    let window = if window > MIN_WINDOW as i64 { window as u32 } else { MIN_WINDOW };
    (window, credit & (PACKET - 1))
}

#[cfg(test)]
mod tests;
