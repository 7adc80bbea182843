//! What the kernel says of a TCP socket that is a subflow (`INET_ULP_INFO_MPTCP`, `include/uapi/linux/mptcp_pm.h`).
use bitflags::bitflags;

use super::Bytes;

attributes! {
    /// What the protocol above TCP says (`INET_ULP_INFO_*`).
    pub enum UlpAttribute {
        /// The name of the protocol.
        Name(String) = 1,
        /// TLS in the kernel.
        Tls(Bytes) = 2,
        /// MPTCP.
        Mptcp(Vec<SubflowAttribute>) = 3,
    }
}

attributes! {
    /// What MPTCP says of a subflow (`MPTCP_SUBFLOW_ATTR_*`).
    pub enum SubflowAttribute {
        /// The peer's token.
        TokenRemote(u32) = 1,
        /// The local token.
        TokenLocal(u32) = 2,
        /// The sequence number to write next, relative to the subflow's first.
        RelativeWriteSequence(u32) = 3,
        /// The first sequence number of the present mapping.
        MapSequence(u64) = 4,
        /// Its place in the subflow.
        MapSubflowSequence(u32) = 5,
        /// The subflow's first sequence number.
        SubflowOffset(u32) = 6,
        /// The length of the present mapping.
        MapLength(u16) = 7,
        /// The bits of [`SubflowFlags`].
        Flags(u32) = 8,
        /// The id of the remote address.
        IdRemote(u8) = 9,
        /// The id of the local address.
        IdLocal(u8) = 10,
    }
}

bitflags! {
    /// The flags of a subflow (`MPTCP_SUBFLOW_FLAG_*`); bits that have no name here are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SubflowFlags: u32 {
        /// The peer sent MP_CAPABLE.
        const MCAP_REM = 1 << 0;
        /// This end sent MP_CAPABLE.
        const MCAP_LOC = 1 << 1;
        /// The peer sent MP_JOIN.
        const JOIN_REM = 1 << 2;
        /// This end sent MP_JOIN.
        const JOIN_LOC = 1 << 3;
        /// The peer asks for backup.
        const BKUP_REM = 1 << 4;
        /// This end asks for backup.
        const BKUP_LOC = 1 << 5;
        /// The handshake is complete.
        const FULLY_ESTABLISHED = 1 << 6;
        /// It is connected.
        const CONNECTED = 1 << 7;
        /// The present mapping is valid.
        const MAPVALID = 1 << 8;
        /// Bits that a later kernel may name.
        const _ = !0;
    }
}

/// What MPTCP says of a subflow, in one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubflowInfo {
    /// The peer's token; 0 for the initial subflow.
    pub token_remote: u32,
    /// The local token: which connection it belongs to.
    pub token_local: u32,
    /// The sequence number to write next, relative to the subflow's first.
    pub relative_write_sequence: u32,
    /// The first sequence number of the present mapping.
    pub map_sequence: u64,
    /// Its place in the subflow.
    pub map_subflow_sequence: u32,
    /// The subflow's first sequence number.
    pub subflow_offset: u32,
    /// The length of the present mapping.
    pub map_length: u16,
    /// Its flags.
    pub flags: SubflowFlags,
    /// The id of the remote address.
    pub id_remote: u8,
    /// The id of the local address.
    pub id_local: u8,
}

impl From<&[SubflowAttribute]> for SubflowInfo {
    fn from(attributes: &[SubflowAttribute]) -> Self {
        let mut info = Self::default();
        for attribute in attributes {
            match attribute {
                SubflowAttribute::TokenRemote(value) => info.token_remote = *value,
                SubflowAttribute::TokenLocal(value) => info.token_local = *value,
                SubflowAttribute::RelativeWriteSequence(value) => info.relative_write_sequence = *value,
                SubflowAttribute::MapSequence(value) => info.map_sequence = *value,
                SubflowAttribute::MapSubflowSequence(value) => info.map_subflow_sequence = *value,
                SubflowAttribute::SubflowOffset(value) => info.subflow_offset = *value,
                SubflowAttribute::MapLength(value) => info.map_length = *value,
                SubflowAttribute::Flags(value) => info.flags = SubflowFlags::from_bits_retain(*value),
                SubflowAttribute::IdRemote(value) => info.id_remote = *value,
                SubflowAttribute::IdLocal(value) => info.id_local = *value,
                SubflowAttribute::Other(_) => {}
            }
        }
        info
    }
}
