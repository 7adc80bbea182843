//! The changes that the daemons are to notice, written to the kernel by this process itself: no program has to start
//! between the clock and the request.

use anyhow::{Context, Result, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::net::Ipv4Addr;
use tests::Host;

/// The address that comes and goes.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
const PREFIX: u8 = 24;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const METRIC: u32 = 700;
/// An acknowledgement, also one with the request in it, is shorter.
const LONGEST: usize = 8192;

/// Messages that were made before the clock runs, to be sent in one datagram.
pub struct Datagram {
    bytes: Vec<u8>,
    messages: usize,
}

/// The datagrams of an interface.
pub struct Datagrams {
    /// The address appears, and with it the default route.
    pub appear: Datagram,
    /// The address vanishes; the kernel takes the route along.
    pub vanish: Datagram,
    /// The interface goes down.
    pub down: Datagram,
    /// The interface comes up.
    pub up: Datagram,
}

impl Datagrams {
    pub fn of(ifindex: u32) -> Self {
        let add = NLM_F_CREATE | NLM_F_EXCL;
        let route = RouteNetlinkMessage::NewRoute(route(ifindex));
        Self {
            appear: datagram(vec![(add, RouteNetlinkMessage::NewAddress(address(ifindex))), (add, route)]),
            vanish: datagram(vec![(0, RouteNetlinkMessage::DelAddress(address(ifindex)))]),
            down: datagram(vec![(0, RouteNetlinkMessage::SetLink(link(ifindex, LinkFlags::empty())))]),
            up: datagram(vec![(0, RouteNetlinkMessage::SetLink(link(ifindex, LinkFlags::Up)))]),
        }
    }
}

/// A connection to routing netlink in a host.
pub struct Requests(Socket);

impl Requests {
    pub fn open(host: &Host) -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            std::io::Result::Ok(socket)
        };
        host.run(open).map(Self).context("open routing netlink")
    }

    /// Sends; the kernel has done it, and told everybody, when this returns.
    pub fn send(&self, datagram: &Datagram) -> Result<()> {
        self.0
            .send_to(&datagram.bytes, &SocketAddr::new(0, 0), 0)
            .map(drop)
            .context("write to routing netlink")
    }

    /// Reads what the kernel says of the datagram that was sent last.
    pub fn check(&self, datagram: &Datagram) -> Result<()> {
        for _ in 0..datagram.messages {
            let mut answer = Vec::with_capacity(LONGEST);
            self.0.recv_from(&mut answer, 0)?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?;
            let NetlinkPayload::Error(error) = answer.payload else { continue };
            ensure!(error.code.is_none(), "the kernel refuses a change: {}", error.to_io());
        }
        Ok(())
    }
}

fn datagram(messages: Vec<(u16, RouteNetlinkMessage)>) -> Datagram {
    let mut datagram = Datagram { bytes: Vec::new(), messages: messages.len() };
    for (flags, message) in messages {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.finalize();
        let start = datagram.bytes.len();
        datagram.bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
        message.serialize(&mut datagram.bytes[start..]);
    }
    datagram
}

fn address(ifindex: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = PREFIX;
    message.header.index = ifindex;
    message.attributes =
        vec![AddressAttribute::Local(ADDRESS.into()), AddressAttribute::Address(ADDRESS.into())];
    message
}

fn route(ifindex: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Dhcp,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet(GATEWAY)),
        RouteAttribute::Oif(ifindex),
        RouteAttribute::Priority(METRIC),
    ];
    message
}

fn link(ifindex: u32, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    message
}
