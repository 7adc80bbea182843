//! `struct tcp_info` (`include/uapi/linux/tcp.h`): what the kernel knows of a subflow's path.
use std::time::Duration;

use netlink_packet_core::DecodeError;

use super::fields::Fields;

/// What the kernel knows of a subflow's path, as far as the daemon uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Retransmission time-outs in a row without an answer.
    pub retransmits: u8,
    /// Zero-window and keep-alive probes in a row without an answer.
    pub probes: u8,
    /// How often the retransmission timer was doubled.
    pub backoff: u8,
    /// The retransmission time-out.
    pub rto: Duration,
    /// The largest segment that is sent, bytes.
    pub snd_mss: u32,
    /// Segments in flight.
    pub unacked: u32,
    /// Segments thought to be lost.
    pub lost: u32,
    /// Retransmitted segments in flight.
    pub retrans: u32,
    /// Since data was last sent.
    pub last_data_sent: Duration,
    /// Since data was last received.
    pub last_data_received: Duration,
    /// Since an acknowledgement was last received.
    pub last_ack_received: Duration,
    /// The path's MTU, bytes.
    pub pmtu: u32,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rttvar: Duration,
    /// The slow-start threshold, segments.
    pub ssthresh: u32,
    /// The congestion window, segments.
    pub cwnd: u32,
    /// Segments that were retransmitted, ever.
    pub total_retrans: u32,
    /// The pacing rate, bytes per second; all bits set when there is none.
    pub pacing_rate: u64,
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes written but not sent.
    pub notsent_bytes: u32,
    /// The smallest round-trip time of late; all bits set before the first.
    pub min_rtt: Duration,
    /// The rate at which data arrived at the peer of late, bytes per second.
    pub delivery_rate: u64,
    /// Whether the application, not the path, limited [`Self::delivery_rate`].
    pub delivery_rate_app_limited: bool,
    /// Microseconds with data in flight.
    pub busy_time: u64,
    /// Microseconds limited by the peer's window.
    pub rwnd_limited: u64,
    /// Microseconds limited by the send buffer.
    pub sndbuf_limited: u64,
    /// Bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Bytes that were retransmitted.
    pub bytes_retrans: u64,
    /// Duplicates that the peer reported: retransmissions in vain.
    pub dsack_dups: u32,
    /// How often reordering was seen.
    pub reord_seen: u32,
}

impl TcpInfo {
    /// Reads the structure.
    ///
    /// # Errors
    /// One shorter than that of 4.19.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        read(Fields(bytes)).ok_or_else(|| format!("tcp_info of {} bytes", bytes.len()).into())
    }
}

fn read(fields: Fields<'_>) -> Option<TcpInfo> {
    Some(TcpInfo {
        retransmits: fields.u8(2)?,
        probes: fields.u8(3)?,
        backoff: fields.u8(4)?,
        // The first bit of a bit field: the lowest on little-endian machines, else the highest.
        delivery_rate_app_limited: fields.u8(7)? & if cfg!(target_endian = "little") { 1 } else { 0x80 } != 0,
        rto: fields.microseconds(8)?,
        snd_mss: fields.u32(16)?,
        unacked: fields.u32(24)?,
        lost: fields.u32(32)?,
        retrans: fields.u32(36)?,
        last_data_sent: fields.milliseconds(44)?,
        last_data_received: fields.milliseconds(52)?,
        last_ack_received: fields.milliseconds(56)?,
        pmtu: fields.u32(60)?,
        rtt: fields.microseconds(68)?,
        rttvar: fields.microseconds(72)?,
        ssthresh: fields.u32(76)?,
        cwnd: fields.u32(80)?,
        total_retrans: fields.u32(100)?,
        pacing_rate: fields.u64(104)?,
        bytes_acked: fields.u64(120)?,
        bytes_received: fields.u64(128)?,
        notsent_bytes: fields.u32(144)?,
        min_rtt: fields.microseconds(148)?,
        delivery_rate: fields.u64(160)?,
        busy_time: fields.u64(168)?,
        rwnd_limited: fields.u64(176)?,
        sndbuf_limited: fields.u64(184)?,
        bytes_sent: fields.u64(200)?,
        bytes_retrans: fields.u64(208)?,
        dsack_dups: fields.u32(216)?,
        reord_seen: fields.u32(220)?,
    })
}
