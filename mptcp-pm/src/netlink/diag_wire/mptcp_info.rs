//! `struct mptcp_info` (`include/uapi/linux/mptcp.h`): what the kernel counts per connection.
use std::time::Duration;

use bitflags::bitflags;
use netlink_packet_core::DecodeError;

use super::fields::Fields;

bitflags! {
    /// The flags of a connection (`MPTCP_INFO_FLAG_*`); bits that have no name here are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MptcpFlags: u32 {
        /// It has fallen back to plain TCP.
        const FALLBACK = 1 << 0;
        /// The peer's key is known.
        const REMOTE_KEY_RECEIVED = 1 << 1;
        /// Bits that a later kernel may name.
        const _ = !0;
    }
}

/// What the kernel counts per connection. A field that the running kernel lacks is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MptcpInfo {
    /// How many subflows there are beside the initial one.
    pub extra_subflows: u8,
    /// How many addresses were announced.
    pub add_addr_signal: u8,
    /// How many of the peer's announced addresses were used.
    pub add_addr_accepted: u8,
    /// The limit of [`Self::extra_subflows`].
    pub limit_extra_subflows: u8,
    /// How many endpoints have the flag `signal`.
    pub endpoints_signal: u8,
    /// The limit of [`Self::add_addr_accepted`].
    pub limit_add_addr_accepted: u8,
    /// Its flags.
    pub flags: MptcpFlags,
    /// Its local token.
    pub token: u32,
    /// The next sequence number to be written.
    pub write_seq: u64,
    /// The first sequence number that the peer has not acknowledged.
    pub snd_una: u64,
    /// The next sequence number that is expected.
    pub rcv_nxt: u64,
    /// How many local addresses were used for subflows.
    pub local_addr_used: Option<u8>,
    /// How many endpoints have the flag `subflow`.
    pub endpoints_subflow: Option<u8>,
    /// Whether data has checksums.
    pub checksum: Option<bool>,
    /// How often data was retransmitted, on whatever subflow.
    pub retransmits: Option<u32>,
    /// Bytes that were retransmitted.
    pub bytes_retransmitted: Option<u64>,
    /// Bytes sent.
    pub bytes_sent: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: Option<u64>,
    /// How many subflows there are, the initial one included.
    pub subflows_total: Option<u8>,
    /// How many endpoints have the flag `laminar`; 0 where the kernel does not know it.
    pub endpoints_laminar: Option<u8>,
    /// How many endpoints have the flag `fullmesh`; 0 where the kernel does not tell.
    pub endpoints_fullmesh: Option<u8>,
    /// Since data was last sent.
    pub last_data_sent: Option<Duration>,
    /// Since data was last received.
    pub last_data_received: Option<Duration>,
    /// Since an acknowledgement was last received.
    pub last_ack_received: Option<Duration>,
}

impl MptcpInfo {
    /// Reads the structure.
    ///
    /// # Errors
    /// One shorter than that of 5.9.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        read(Fields(bytes)).ok_or_else(|| format!("mptcp_info of {} bytes", bytes.len()).into())
    }
}

fn read(fields: Fields<'_>) -> Option<MptcpInfo> {
    Some(MptcpInfo {
        extra_subflows: fields.u8(0)?,
        add_addr_signal: fields.u8(1)?,
        add_addr_accepted: fields.u8(2)?,
        limit_extra_subflows: fields.u8(3)?,
        endpoints_signal: fields.u8(4)?,
        limit_add_addr_accepted: fields.u8(5)?,
        flags: MptcpFlags::from_bits_retain(fields.u32(8)?),
        token: fields.u32(12)?,
        write_seq: fields.u64(16)?,
        snd_una: fields.u64(24)?,
        rcv_nxt: fields.u64(32)?,
        local_addr_used: fields.u8(40),
        endpoints_subflow: fields.u8(41),
        checksum: fields.u8(42).map(|enabled| enabled != 0),
        retransmits: fields.u32(44),
        bytes_retransmitted: fields.u64(48),
        bytes_sent: fields.u64(56),
        bytes_received: fields.u64(64),
        bytes_acked: fields.u64(72),
        subflows_total: fields.u8(80),
        endpoints_laminar: fields.u8(81),
        endpoints_fullmesh: fields.u8(82),
        last_data_sent: fields.milliseconds(84),
        last_data_received: fields.milliseconds(88),
        last_ack_received: fields.milliseconds(92),
    })
}
