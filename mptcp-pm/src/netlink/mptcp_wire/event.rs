//! The events of the path manager, and how to read what they say.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bitflags::bitflags;
use netlink_packet_core::{DecodeError, Emitable};
use netlink_packet_generic::{GenlHeader, constants::GENL_HDRLEN};
use nix::errno::Errno;

pub use crate::netlink::attributes::BigEndian;
use crate::{
    core::world::{Family, IfIndex},
    netlink::attributes::{append_all, parse_all},
};

/// What has happened (`MPTCP_EVENT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A connection begins; it may be long until it is established.
    Created,
    /// A connection can have more subflows.
    Established,
    /// A connection has ended.
    Closed,
    /// The peer has announced an address.
    Announced,
    /// The peer has withdrawn an address.
    Removed,
    /// A subflow has been established.
    SubEstablished,
    /// A subflow has ended.
    SubClosed,
    /// The peer has changed the priority of a subflow.
    SubPriority,
    /// The path manager listens on an endpoint's port (between 6.1 and 6.12).
    ListenerCreated,
    /// It does so no more.
    ListenerClosed,
    /// An event that has no name here.
    Other(u8),
}

const KINDS: [(u8, Kind); 10] = [
    (1, Kind::Created),
    (2, Kind::Established),
    (3, Kind::Closed),
    (6, Kind::Announced),
    (7, Kind::Removed),
    (10, Kind::SubEstablished),
    (11, Kind::SubClosed),
    (13, Kind::SubPriority),
    (15, Kind::ListenerCreated),
    (16, Kind::ListenerClosed),
];

impl Kind {
    /// The kernel's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            named => KINDS.iter().find(|(_, kind)| *kind == named).map_or(0, |(number, _)| *number),
        }
    }
}

impl From<u8> for Kind {
    fn from(number: u8) -> Self {
        KINDS.iter().find(|(known, _)| *known == number).map_or(Self::Other(number), |(_, kind)| *kind)
    }
}

attributes! {
    /// The attributes of an event (`MPTCP_ATTR_*`).
    pub enum Attribute {
        /// The connection, by its local token.
        Token(u32) = 1,
        /// `AF_INET` or `AF_INET6`.
        Family(u16) = 2,
        /// The id of the local address.
        LocId(u8) = 3,
        /// The id of the remote address.
        RemId(u8) = 4,
        /// The local IPv4 address.
        Saddr4(Ipv4Addr) = 5,
        /// The local IPv6 address.
        Saddr6(Ipv6Addr) = 6,
        /// The remote IPv4 address.
        Daddr4(Ipv4Addr) = 7,
        /// The remote IPv6 address.
        Daddr6(Ipv6Addr) = 8,
        /// The local port.
        Sport(BigEndian) = 9,
        /// The remote port.
        Dport(BigEndian) = 10,
        /// Whether the peer asked for backup.
        Backup(u8) = 11,
        /// The error of a subflow's socket.
        Error(u8) = 12,
        /// The bits of [`Flags`].
        Flags(u16) = 13,
        /// A time.
        Timeout(u32) = 14,
        /// The interface that the subflow is bound to.
        IfIndex(i32) = 15,
        /// The reason in the peer's MP_TCPRST (RFC 8684, section 3.6).
        ResetReason(u32) = 16,
        /// The flags in the peer's MP_TCPRST.
        ResetFlags(u32) = 17,
        /// Whether this end has accepted the connection; bit 1 of the flags since 6.18.
        ServerSide(u8) = 18,
    }
}

bitflags! {
    /// The flags of a connection (`MPTCP_PM_EV_FLAG_*`); bits that have no name here are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u16 {
        /// The peer refuses subflows to the address of the initial one.
        const DENY_JOIN_ID0 = 1 << 0;
        /// This end has accepted the connection.
        const SERVER_SIDE = 1 << 1;
        /// Bits that a later kernel may name.
        const _ = !0;
    }
}

/// An event: its attributes in the kernel's order, and accessors for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has happened.
    pub kind: Kind,
    /// What the kernel says of it.
    pub attributes: Vec<Attribute>,
}

/// Defines an accessor that returns the value of an attribute, if the event has it.
macro_rules! accessor {
    ($($(#[$doc:meta])* $vis:vis $name:ident: $type:ty = $pattern:pat => $value:expr;)+) => {$(
        $(#[$doc])*
        $vis fn $name(&self) -> Option<$type> {
            self.attributes.iter().find_map(|attribute| match attribute {
                $pattern => Some($value),
                _ => None,
            })
        }
    )+};
}

impl Event {
    accessor! {
        /// The connection, by its local token; LISTENER events have none.
        pub token: u32 = Attribute::Token(token) => *token;
        /// The id of the local address.
        pub local_id: u8 = Attribute::LocId(id) => *id;
        /// The id of the remote address.
        pub remote_id: u8 = Attribute::RemId(id) => *id;
        /// Whether the peer asked for backup; what this end asked for is in sock_diag.
        pub backup: bool = Attribute::Backup(backup) => *backup != 0;
        /// Why a subflow has ended, when the connection outlives it.
        pub error: Errno = Attribute::Error(errno) => Errno::from_raw(i32::from(*errno));
        /// The interface, when the subflow is bound to one.
        pub ifindex: IfIndex = Attribute::IfIndex(index) => index.cast_unsigned();
        /// The reason in the peer's MP_TCPRST (RFC 8684, section 3.6).
        pub reset_reason: u32 = Attribute::ResetReason(reason) => *reason;
        /// The flags in the peer's MP_TCPRST.
        pub reset_flags: u32 = Attribute::ResetFlags(flags) => *flags;
        /// The local address; IPv4 even where the socket is an IPv6 one that speaks IPv4.
        pub local_addr: IpAddr = addr @ (Attribute::Saddr4(_) | Attribute::Saddr6(_)) => address(addr)?;
        /// The remote address; IPv4 even where the socket is an IPv6 one that speaks IPv4.
        pub remote_addr: IpAddr = addr @ (Attribute::Daddr4(_) | Attribute::Daddr6(_)) => address(addr)?;
        /// The local port.
        pub local_port: u16 = Attribute::Sport(port) => port.0;
        /// The remote port.
        pub remote_port: u16 = Attribute::Dport(port) => port.0;
        raw_flags: u16 = Attribute::Flags(flags) => *flags;
        raw_server_side: u8 = Attribute::ServerSide(server_side) => *server_side;
    }

    /// The flags of the connection, wherever this kernel puts them.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::from_bits_retain(self.raw_flags().unwrap_or(0));
        if self.raw_server_side().is_some_and(|server_side| server_side != 0) {
            flags |= Flags::SERVER_SIDE;
        }
        flags
    }

    /// The family of the addresses. ANNOUNCED does not say it: it is read off the address.
    pub fn family(&self) -> Option<Family> {
        self.remote_addr().or_else(|| self.local_addr()).map(|addr| Family::of(&addr))
    }

    /// The local end; a port that is not told is 0.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local_addr().map(|addr| SocketAddr::new(addr, self.local_port().unwrap_or(0)))
    }

    /// The remote end; a port that is not told is 0.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote_addr().map(|addr| SocketAddr::new(addr, self.remote_port().unwrap_or(0)))
    }

    /// Reads the generic-netlink body of an event.
    ///
    /// # Errors
    /// A body that ends too early, or a known attribute whose length is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let header = GenlHeader::parse(body)?;
        Ok(Self { kind: header.cmd.into(), attributes: parse_all(&body[GENL_HDRLEN..])? })
    }

    /// The generic-netlink body, as the kernel writes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![0; GENL_HDRLEN];
        GenlHeader { cmd: self.kind.number(), version: 1 }.emit(&mut body);
        append_all(&self.attributes, &mut body);
        body
    }
}

fn address(attribute: &Attribute) -> Option<IpAddr> {
    match attribute {
        Attribute::Saddr4(addr) | Attribute::Daddr4(addr) => Some(IpAddr::V4(*addr)),
        Attribute::Saddr6(addr) | Attribute::Daddr6(addr) => Some(addr.to_canonical()),
        _ => None,
    }
}
