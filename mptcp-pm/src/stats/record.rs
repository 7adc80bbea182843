//! What is kept of a subflow: who it is, and of its last sample what somebody may ask for. Thousands of these are kept.
use std::net::SocketAddr;

use mptcp_common::coupled::Algorithm;
use mptcp_common::path_stats::{Established, Kept, Live, Sample};

use super::{coupling, ends};

/// Who a subflow is. Its ends stay bytes, in half of the room that socket addresses take.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// When it was established or found; nanoseconds.
    pub since_ns: u64,
    /// Its connection.
    pub token: u32,
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
    family: u16,
    /// How it came to be, if that is understood.
    pub way: Option<Established>,
    /// It is older than the program.
    pub adopted: bool,
}

impl Identity {
    /// What the program says of it.
    pub fn of(kept: &Kept) -> Self {
        Self {
            since_ns: kept.since_ns,
            token: kept.token,
            local: kept.local,
            remote: kept.remote,
            local_port: kept.local_port,
            remote_port: kept.remote_port,
            family: kept.family,
            way: Established::at(kept.way),
            adopted: kept.adopted != 0,
        }
    }

    /// The local end.
    pub fn local(&self) -> SocketAddr {
        ends::address(self.family, self.local, self.local_port)
    }

    /// The remote end.
    pub fn remote(&self) -> SocketAddr {
        ends::address(self.family, self.remote, self.remote_port)
    }
}

/// The last figures of a subflow, in the units of the record ([`Live`], [`Kept`]).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) at_ns: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) received: u64,
    pub(super) retransmitted: u64,
    /// 0 while there is none.
    pub(super) delivery_rate: u64,
    pub(super) delivery_rate_max: u64,
    /// When data last got through; 0 for never.
    pub(super) progress_ns: u64,
    pub(super) segments_sent: u32,
    pub(super) segments_received: u32,
    pub(super) segments_retransmitted: u32,
    pub(super) timeouts: u32,
    pub(super) rtt_us: u32,
    pub(super) rtt_deviation_us: u32,
    pub(super) rtt_min_us: u32,
    pub(super) cwnd: u32,
    pub(super) mss: u32,
    pub(super) in_flight: u32,
    pub(super) state: u8,
    /// One of the two ends asked for backup.
    pub(super) backup: bool,
    /// Its congestion control, where that is a coupled one.
    pub(super) algorithm: Option<Algorithm>,
}

impl Last {
    pub(super) fn of(sample: &Sample) -> Self {
        let Sample { live, kept } = sample;
        Self {
            at_ns: live.at_ns,
            sent: live.bytes_sent,
            acknowledged: live.bytes_acked,
            received: live.bytes_received,
            retransmitted: live.bytes_retransmitted,
            delivery_rate: live.delivery_rate,
            delivery_rate_max: kept.delivery_rate_max,
            progress_ns: live.delivered_ns.max(live.received_ns),
            segments_sent: live.segments_out,
            segments_received: live.segments_in,
            segments_retransmitted: live.segments_retransmitted,
            timeouts: kept.timeouts,
            rtt_us: live.rtt_us,
            rtt_deviation_us: live.rtt_deviation_us,
            rtt_min_us: live.rtt_min_us,
            cwnd: live.cwnd,
            mss: live.mss,
            in_flight: live.in_flight,
            state: live.state,
            backup: is_backup(live),
            algorithm: coupling::algorithm(live),
        }
    }
}

/// Whether one of the two ends asked for backup.
pub const fn is_backup(live: &Live) -> bool {
    live.backup_by_us != 0 || live.backup_by_peer != 0
}
