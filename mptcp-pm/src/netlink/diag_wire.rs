//! The bytes of sock_diag for MPTCP and TCP sockets (`include/uapi/linux/inet_diag.h`).
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::DecodeError;
use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP};

use self::fields::Fields;
pub use self::{
    mptcp_info::{MptcpFlags, MptcpInfo},
    subflow::{SubflowAttribute, SubflowFlags, SubflowInfo, UlpAttribute},
    tcp_info::TcpInfo,
};
pub use super::attributes::Bytes;
use super::attributes::{append_all, parse_all};
use crate::core::world::{Family, IfIndex};

mod fields;
mod mptcp_info;
mod subflow;
mod tcp_info;

/// The type of requests and of their answers (`SOCK_DIAG_BY_FAMILY`).
pub const BY_FAMILY: u16 = 20;
/// The length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// The length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;

/// Which sockets to dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MPTCP connections.
    Mptcp,
    /// TCP sockets, the subflows among them.
    Tcp,
}

/// `IPPROTO_MPTCP`: too large for the request's own field.
const IPPROTO_MPTCP: u32 = 262;

/// The state of a socket (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the states of RFC 9293, and the kernel's `NewSynRecv`")]
pub enum State {
    Established = 1,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    /// A state that has no name here.
    Unknown,
}

impl State {
    const NAMED: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// Its bit in the set of states that a request asks for.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl From<u8> for State {
    fn from(number: u8) -> Self {
        Self::NAMED.into_iter().find(|state| *state as u8 == number).unwrap_or(Self::Unknown)
    }
}

attributes! {
    /// What a request says beside its fixed part (`INET_DIAG_REQ_*`).
    pub enum RequestAttribute {
        /// A protocol number that does not fit the fixed part (since 5.9).
        Protocol(u32) = 3,
    }
}

attributes! {
    /// What an answer says beside its fixed part (`INET_DIAG_*`).
    pub enum Attribute {
        /// `struct mptcp_info` or `struct tcp_info`.
        Info(Bytes) = 2,
        /// The name of the congestion control.
        Congestion(String) = 4,
        /// The socket mark, for CAP_NET_ADMIN only.
        Mark(u32) = 15,
        /// What the protocol above TCP says, for CAP_NET_ADMIN only.
        Ulp(Vec<UlpAttribute>) = 19,
        /// The control group (version 2) that made the socket.
        Cgroup(u64) = 21,
    }
}

/// The fixed part of an answer: which socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The family of the socket; an IPv6 one may speak IPv4.
    pub family: Family,
    /// Its state.
    pub state: State,
    /// Its local end; IPv4 even where the socket is an IPv6 one that speaks IPv4.
    pub local: SocketAddr,
    /// Its remote end, likewise.
    pub remote: SocketAddr,
    /// The interface that it is bound to.
    pub ifindex: Option<IfIndex>,
    /// The kernel's name of the socket, never used again (`SO_COOKIE`).
    pub cookie: u64,
    /// How often its oldest data was retransmitted without an answer.
    pub retransmits: u8,
    /// Bytes received that the application has not read; for listeners the connections not yet accepted.
    pub receive_queue: u32,
    /// Bytes written that the peer has not acknowledged; for listeners the limit of the receive queue.
    pub send_queue: u32,
    /// The user that made it.
    pub uid: u32,
    /// Its inode, 0 when no process has it.
    pub inode: u32,
}

/// A socket and what the kernel says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The fixed part.
    pub socket: Socket,
    /// The rest.
    pub attributes: Vec<Attribute>,
}

/// The body of a request for the sockets of one family and protocol in any of some states ([`State::bit`]).
pub fn encode(family: Family, protocol: Protocol, states: u32) -> Vec<u8> {
    let mut body = vec![0; REQUEST];
    body[0] = match family {
        Family::V4 => AF_INET as u8,
        Family::V6 => AF_INET6 as u8,
    };
    body[2] = extension(2) | extension(4);
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    match protocol {
        // Field `sdiag_protocol` stays 0: a kernel that knows no attribute then finds nothing, instead of TCP.
        Protocol::Mptcp => append_all(&[RequestAttribute::Protocol(IPPROTO_MPTCP)], &mut body),
        Protocol::Tcp => body[1] = IPPROTO_TCP as u8,
    }
    body
}

/// The bit that asks for an attribute (`idiag_ext`).
const fn extension(attribute: u8) -> u8 {
    1 << (attribute - 1)
}

impl Message {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// A body that ends too early, an unknown family, or a known attribute whose length is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let (fixed, attributes) = body.split_at_checked(MESSAGE).ok_or("a socket cut short")?;
        let fields = Fields(fixed);
        let socket = socket(family(fields)?, fields).ok_or("a socket cut short")?;
        Ok(Self { socket, attributes: parse_all(attributes)? })
    }

    /// The attributes as the kernel writes them; the fixed part is only read.
    pub fn encode_attributes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        append_all(&self.attributes, &mut bytes);
        bytes
    }
}

fn socket(family: Family, fields: Fields<'_>) -> Option<Socket> {
    Some(Socket {
        family,
        state: fields.u8(1)?.into(),
        local: SocketAddr::new(address(family, fields.array(8)?), fields.port(4)?),
        remote: SocketAddr::new(address(family, fields.array(24)?), fields.port(6)?),
        ifindex: fields.u32(40).filter(|index| *index != 0),
        cookie: u64::from(fields.u32(44)?) | u64::from(fields.u32(48)?) << 32,
        retransmits: fields.u8(3)?,
        receive_queue: fields.u32(56)?,
        send_queue: fields.u32(60)?,
        uid: fields.u32(64)?,
        inode: fields.u32(68)?,
    })
}

fn family(fields: Fields<'_>) -> Result<Family, DecodeError> {
    match fields.u8(0).map(i32::from) {
        Some(AF_INET) => Ok(Family::V4),
        Some(AF_INET6) => Ok(Family::V6),
        other => Err(format!("a socket of family {other:?}").into()),
    }
}

fn address(family: Family, bytes: [u8; 16]) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        Family::V6 => Ipv6Addr::from(bytes).to_canonical(),
    }
}
