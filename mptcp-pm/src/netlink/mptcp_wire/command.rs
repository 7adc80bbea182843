//! The commands of the path manager and their answers: both have the same shape.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, Emitable};
use netlink_packet_generic::{GenlHeader, constants::GENL_HDRLEN};
use nix::libc::{AF_INET, AF_INET6};

use crate::{
    core::world::{Endpoint, EndpointFlags, IfIndex, Limits},
    netlink::attributes::{append_all, parse_all},
};

/// The version of the family (`MPTCP_PM_VER`).
const VERSION: u8 = 1;

/// What the path manager is asked for (`MPTCP_PM_CMD_*`); an answer repeats the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Adds an endpoint.
    AddAddr = 1,
    /// Deletes an endpoint.
    DelAddr = 2,
    /// Gets one endpoint, or dumps all; with a token those of one connection (userspace path manager).
    GetAddr = 3,
    /// Deletes all endpoints.
    FlushAddrs = 4,
    /// Sets the limits.
    SetLimits = 5,
    /// Gets the limits.
    GetLimits = 6,
    /// Changes flags of an endpoint, or the priority of subflows of one connection.
    SetFlags = 7,
    /// Announces an address to the peer of one connection (ADD_ADDR).
    Announce = 8,
    /// Withdraws an address from the peer of one connection (RM_ADDR).
    Remove = 9,
    /// Makes a subflow.
    SubflowCreate = 10,
    /// Ends a subflow.
    SubflowDestroy = 11,
}

attributes! {
    /// The attributes of a command or its answer (`MPTCP_PM_ATTR_*`).
    pub enum Attribute {
        /// An endpoint or a local address.
        Addr(Vec<AddrAttribute>) = 1,
        /// How many announced addresses are accepted.
        RcvAddAddrs(u32) = 2,
        /// How many subflows beside the initial one.
        Subflows(u32) = 3,
        /// The connection, by its local token.
        Token(u32) = 4,
        /// The id of a local address.
        LocId(u8) = 5,
        /// A remote address.
        AddrRemote(Vec<AddrAttribute>) = 6,
    }
}

attributes! {
    /// The attributes of an address (`MPTCP_PM_ADDR_ATTR_*`).
    pub enum AddrAttribute {
        /// `AF_INET` or `AF_INET6`.
        Family(u16) = 1,
        /// The address id.
        Id(u8) = 2,
        /// The IPv4 address.
        Addr4(Ipv4Addr) = 3,
        /// The IPv6 address.
        Addr6(Ipv6Addr) = 4,
        /// The port, in host order.
        Port(u16) = 5,
        /// The bits of [`EndpointFlags`].
        Flags(u32) = 6,
        /// The interface.
        IfIndex(i32) = 7,
    }
}

/// The generic-netlink body of a command.
pub fn encode(command: Command, attributes: &[Attribute]) -> Vec<u8> {
    let mut body = vec![0; GENL_HDRLEN];
    GenlHeader { cmd: command as u8, version: VERSION }.emit(&mut body);
    append_all(attributes, &mut body);
    body
}

/// Reads the body of a command or answer: its number and its attributes.
///
/// # Errors
/// A body that ends too early, or a known attribute whose length is wrong.
pub fn decode(body: &[u8]) -> Result<(u8, Vec<Attribute>), DecodeError> {
    let header = GenlHeader::parse(body)?;
    Ok((header.cmd, parse_all(&body[GENL_HDRLEN..])?))
}

/// An address as far as it is to be told to the kernel: what is `None` is left out. An id of 0 must be left
/// out when an endpoint is added: 6.18 makes a hidden endpoint of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddrSpec {
    /// The address.
    pub addr: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
    /// The address id.
    pub id: Option<u8>,
    /// The flags.
    pub flags: Option<EndpointFlags>,
    /// The interface.
    pub ifindex: Option<IfIndex>,
}

impl AddrSpec {
    /// Its attributes, in the order in which the kernel writes them.
    pub fn attributes(&self) -> Vec<AddrAttribute> {
        let family = self.addr.map(|addr| AddrAttribute::Family(family_number(&addr)));
        let addr = self.addr.map(|addr| match addr {
            IpAddr::V4(addr) => AddrAttribute::Addr4(addr),
            IpAddr::V6(addr) => AddrAttribute::Addr6(addr),
        });
        [
            family,
            self.id.map(AddrAttribute::Id),
            self.port.map(AddrAttribute::Port),
            self.flags.map(|flags| AddrAttribute::Flags(flags.bits())),
            self.ifindex.map(|index| AddrAttribute::IfIndex(index.cast_signed())),
            addr,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The endpoint in an answer to [`Command::GetAddr`].
///
/// # Errors
/// An answer without an endpoint, or an endpoint without an address.
pub fn endpoint(attributes: &[Attribute]) -> Result<Endpoint, DecodeError> {
    let addr = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Addr(addr) => Some(addr),
        _ => None,
    });
    let mut addr_of = None;
    let (mut id, mut port, mut ifindex, mut flags) = (0, 0, None, EndpointFlags::empty());
    for attribute in addr.ok_or("no endpoint")? {
        match attribute {
            AddrAttribute::Id(value) => id = *value,
            AddrAttribute::Addr4(value) => addr_of = Some(IpAddr::V4(*value)),
            AddrAttribute::Addr6(value) => addr_of = Some(IpAddr::V6(*value)),
            AddrAttribute::Port(value) => port = *value,
            AddrAttribute::Flags(value) => flags = EndpointFlags::from_bits_retain(*value),
            AddrAttribute::IfIndex(value) => {
                ifindex = Some(value.cast_unsigned()).filter(|index| *index != 0)
            }
            AddrAttribute::Family(_) | AddrAttribute::Other(_) => {}
        }
    }
    Ok(Endpoint { id, addr: addr_of.ok_or("an endpoint without an address")?, port, ifindex, flags })
}

/// The limits in an answer to [`Command::GetLimits`].
///
/// # Errors
/// An answer that lacks one.
pub fn limits(attributes: &[Attribute]) -> Result<Limits, DecodeError> {
    let (mut accepted, mut subflows) = (None, None);
    for attribute in attributes {
        match attribute {
            Attribute::RcvAddAddrs(value) => accepted = Some(*value),
            Attribute::Subflows(value) => subflows = Some(*value),
            _ => {}
        }
    }
    let subflows = subflows.ok_or("no limit of subflows")?;
    Ok(Limits { subflows, add_addr_accepted: accepted.ok_or("no limit of accepted addresses")? })
}

const fn family_number(addr: &IpAddr) -> u16 {
    match addr {
        IpAddr::V4(_) => AF_INET as u16,
        IpAddr::V6(_) => AF_INET6 as u16,
    }
}
