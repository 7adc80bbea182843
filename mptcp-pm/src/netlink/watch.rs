//! Follows links, addresses, routes and rules through routing netlink.
use std::{collections::VecDeque, io};

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::{RouteNetlinkMessage, address::AddressMessage, link::LinkMessage};
use netlink_packet_route::{route::RouteMessage, rule::RuleMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::{errno::Errno, libc};

use super::{
    convert::{self, Object},
    mirror::Mirror,
    transport::{Client, Datagram, Datagrams, Fault, KernelSocket, answer::HEADER},
};
use crate::core::world::{Change, Snapshot};

/// What [`Watch::next`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something is different.
    Change(Change),
    /// Something was not told (`ENOBUFS`, a socket that failed, a message that is cut short, a snapshot that was not
    /// finished): what was known is to be replaced by [`Watch::snapshot`].
    Lost,
}

/// What can go wrong with the watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket operation failed.
    #[error("{operation} of the routing netlink socket: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What is there cannot be read.
    #[error("dump {object}: {fault}")]
    Dump {
        /// What was asked for.
        object: &'static str,
        /// Why it failed.
        fault: Fault,
    },
}

/// A subscription to links, addresses, routes and rules, with a copy of them that tells changes from repetitions.
pub struct Watch {
    /// None once it has failed, until the next snapshot.
    socket: Option<KernelSocket>,
    /// How large its receive buffer is to be, in bytes as the kernel accounts it; none while the default has sufficed.
    room: Option<usize>,
    mirror: Mirror,
    pending: VecDeque<Change>,
    lost: bool,
}

/// The multicast groups (`RTNLGRP_*` of `include/uapi/linux/rtnetlink.h`): links, addresses, routes and rules of
/// both families.
pub const GROUPS: [u32; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
];

/// The receive buffer does not grow beyond this.
const LARGEST_RECEIVE_BUFFER: usize = 16 << 20;

/// How often a dump is repeated that changes interrupt.
const DUMP_ATTEMPTS: u32 = 16;

impl Watch {
    /// Subscribes in the network namespace of the calling thread. Changes are told from now on; what is there
    /// already is told by [`Watch::snapshot`], to be called next.
    pub fn open() -> Result<Self, Error> {
        let socket = Some(subscribe(None)?);
        Ok(Self { socket, room: None, mirror: Mirror::default(), pending: VecDeque::new(), lost: true })
    }

    /// All that is there now. What changes while it is read is told by [`Watch::next`] afterwards. Should the
    /// future be dropped, or fail, the next notice is [`Notice::Lost`].
    pub async fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.lost = true;
        // What was told so far is older than the dump. After a loss it may also be wrong: of something that was made and
        // removed, only the first may have been told. And until all that waits has been read, the kernel loses more
        // without another word. A new subscription has nothing of that.
        self.pending.clear();
        self.socket = Some(subscribe(self.room)?);
        let dump = dump().await?;
        self.mirror = Mirror::default();
        self.mirror.reconcile(dump);
        self.lost = false;
        Ok(self.mirror.snapshot().clone())
    }

    /// The next notice. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Notice {
        loop {
            if std::mem::take(&mut self.lost) {
                return Notice::Lost;
            }
            if let Some(change) = self.pending.pop_front() {
                return Notice::Change(change);
            }
            if self.mirror.in_doubt() {
                match dump().await {
                    Ok(dump) => self.pending.extend(self.mirror.reconcile(dump)),
                    Err(error) => {
                        tracing::warn!("{error}");
                        self.mirror = Mirror::default();
                        self.lost = true;
                    }
                }
                continue;
            }
            // A flood of messages must not keep other tasks of the thread from running.
            tokio::task::consume_budget().await;
            let Some(socket) = &mut self.socket else { return std::future::pending().await };
            let received = match socket.receive().await {
                Ok(datagram) => take_in(&datagram, &mut self.mirror, &mut self.pending),
                Err(error) => Err(error),
            };
            self.received(received);
        }
    }

    /// The next change, if it is there already: what belongs together is then acted on together. A loss, and what is
    /// in doubt, are for [`Watch::next`].
    pub fn waiting(&mut self) -> Option<Change> {
        while !self.lost && self.pending.is_empty() && !self.mirror.in_doubt() {
            let received = match self.socket.as_mut()?.try_receive() {
                Ok(datagram) => take_in(&datagram, &mut self.mirror, &mut self.pending),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => Err(error),
            };
            self.received(received);
        }
        if self.lost { None } else { self.pending.pop_front() }
    }

    /// The size of the receive buffer in bytes, as the kernel accounts it.
    pub fn receive_buffer(&self) -> Result<usize, Error> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let size = self.socket.as_ref().ok_or_else(closed).and_then(KernelSocket::receive_buffer);
        size.map_err(failed("get the receive buffer"))
    }

    /// Where something was not told, all has to be read again. A socket that fails otherwise than by that is given up.
    fn received(&mut self, received: io::Result<()>) {
        let Err(error) = received else { return };
        self.lost = true;
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOBUFS) => self.overrun(),
            Some(Errno::EINTR | Errno::EMSGSIZE) => {}
            _ if error.kind() == io::ErrorKind::InvalidData => tracing::warn!("routing netlink: {error}"),
            _ => {
                tracing::warn!("read of the routing netlink socket: {error}; subscribing anew");
                self.socket = None;
            }
        }
    }

    /// The next subscription has twice the receive buffer, so that the next storm fits.
    fn overrun(&mut self) {
        let Ok(was) = self.receive_buffer() else { return };
        let room = was.saturating_mul(2).min(LARGEST_RECEIVE_BUFFER).max(was);
        self.room = Some(room);
        tracing::info!(was, room, "routing netlink messages lost, reading all again");
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Socket { operation, source }
}

/// A new subscription. A receive buffer beyond net.core.rmem_max takes CAP_NET_ADMIN; without, it is as large as it may be.
fn subscribe(room: Option<usize>) -> Result<KernelSocket, Error> {
    let socket = KernelSocket::open(NETLINK_ROUTE).map_err(failed("open"))?;
    if let Some(room) = room
        // The kernel doubles what it is asked for (socket(7)).
        && let Err(error) = socket.set_receive_buffer(room / 2)
    {
        tracing::warn!("enlarge the receive buffer of the routing netlink socket: {error}");
    }
    for group in GROUPS {
        socket.join(group).map_err(failed("join a group"))?;
    }
    Ok(socket)
}

/// Takes in the messages of one datagram; other processes may send to a netlink socket too. Where it ends in something that
/// is no message, whatever that was to say is lost.
fn take_in(datagram: &Datagram<'_>, mirror: &mut Mirror, pending: &mut VecDeque<Change>) -> io::Result<()> {
    let mut rest = if datagram.sender == 0 { datagram.bytes } else { &[] };
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = message.length() as usize;
        match convert::decode(&rest[..length]) {
            Ok(Some(message)) => pending.extend(mirror.apply(message)),
            Ok(None) => {}
            Err(error) => tracing::warn!("{error}"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// Dumps over a socket of its own, so that replies never mix with notifications, nor with those to a dump whose
/// future was dropped.
async fn dump() -> Result<Snapshot, Error> {
    let mut client = Client::open(NETLINK_ROUTE).map_err(failed("open"))?;
    let mut snapshot = Snapshot::default();
    // Links first: their dump waits for the kernel to finish a change that it has begun to tell of.
    for (object, request) in requests() {
        let mut message = NetlinkMessage::from(request);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let found = client.dump_as(message.header.message_type, &bytes[HEADER..], found, DUMP_ATTEMPTS).await;
        for found in found.map_err(|fault| Error::Dump { object, fault })? {
            match found {
                Object::Link(link) => snapshot.links.push(link),
                Object::Address(address) => snapshot.addresses.push(address),
                Object::Route(route) => snapshot.routes.push(route),
                Object::Rule(rule) => snapshot.rules.push(rule),
            }
        }
    }
    Ok(snapshot)
}

/// The requests that together dump all, of both families.
fn requests() -> [(&'static str, RouteNetlinkMessage); 4] {
    [
        ("links", RouteNetlinkMessage::GetLink(LinkMessage::default())),
        ("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())),
        ("routes", RouteNetlinkMessage::GetRoute(RouteMessage::default())),
        ("rules", RouteNetlinkMessage::GetRule(RuleMessage::default())),
    ]
}

/// What a message of a dump is about, where that is of interest.
fn found(message: &[u8]) -> Option<Object> {
    convert::decode(message)
        .unwrap_or_else(|error| {
            tracing::warn!("{error}");
            None
        })
        .map(|message| message.object)
}
