//! Follows links, addresses, routes and rules through routing netlink.
use std::{collections::VecDeque, io};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{RouteNetlinkMessage, address::AddressMessage, link::LinkMessage};
use netlink_packet_route::{route::RouteMessage, rule::RuleMessage};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{setsockopt, sockopt},
};

use super::{
    convert::{self, Object},
    mirror::Mirror,
};
use crate::core::world::{Change, Snapshot};

/// What [`Watch::next`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something is different.
    Change(Change),
    /// Messages were lost (`ENOBUFS`), or a snapshot was not finished: what was known is to be replaced by
    /// [`Watch::snapshot`].
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
    /// The kernel refused a dump.
    #[error("dump {object}: {source}")]
    Dump {
        /// What was asked for.
        object: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Every dump was interrupted by changes.
    #[error("dump {object}: interrupted {DUMP_ATTEMPTS} times, because something changes it all the time")]
    Churn {
        /// What was asked for.
        object: &'static str,
    },
}

/// A subscription to links, addresses, routes and rules, with a copy of them that tells changes from repetitions.
pub struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
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

/// The kernel sends at most 32 KiB at once in a dump (`netlink_dump` in `net/netlink/af_netlink.c`).
const BUFFER: usize = 64 * 1024;

/// The receive buffer does not grow beyond this.
const LARGEST_RECEIVE_BUFFER: usize = 16 << 20;

const DUMP_ATTEMPTS: usize = 16;

impl Watch {
    /// Subscribes in the network namespace of the calling thread. Changes are told from now on; what is there
    /// already is told by [`Watch::snapshot`], to be called next.
    pub fn open() -> Result<Self, Error> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed("open"))?;
        socket.socket_mut().bind_auto().map_err(failed("bind"))?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group).map_err(failed("join a group"))?;
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(BUFFER),
            mirror: Mirror::default(),
            pending: VecDeque::new(),
            lost: true,
        })
    }

    /// All that is there now. What changes while it is read is told by [`Watch::next`] afterwards. Should the
    /// future be dropped, the next notice is [`Notice::Lost`].
    pub async fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.lost = true;
        // What was told so far is older than the dump. After a loss it may also be wrong: of something that was
        // made and removed, only the first may have been told.
        self.discard()?;
        let dump = dump(&mut self.buffer).await?;
        self.mirror = Mirror::default();
        self.mirror.reconcile(dump);
        self.lost = false;
        Ok(self.mirror.snapshot().clone())
    }

    /// The next notice. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Notice, Error> {
        loop {
            if std::mem::take(&mut self.lost) {
                return Ok(Notice::Lost);
            }
            if let Some(change) = self.pending.pop_front() {
                return Ok(Notice::Change(change));
            }
            if self.mirror.in_doubt() {
                let dump = dump(&mut self.buffer).await?;
                self.pending.extend(self.mirror.reconcile(dump));
                continue;
            }
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer).await {
                Ok(sender) => self.take_in(&sender),
                Err(error) if is_overrun(&error) => self.overrun()?,
                Err(source) => return Err(Error::Socket { operation: "read", source }),
            }
        }
    }

    /// The next change, if it is there already: what belongs together is then acted on together. A loss, and what is
    /// in doubt, are for [`Watch::next`].
    pub fn waiting(&mut self) -> Result<Option<Change>, Error> {
        while !self.lost && self.pending.is_empty() && !self.mirror.in_doubt() {
            self.buffer.clear();
            match self.socket.socket_ref().recv_from(&mut self.buffer, 0) {
                Ok((_, sender)) => self.take_in(&sender),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_overrun(&error) => self.overrun()?,
                Err(source) => return Err(Error::Socket { operation: "read", source }),
            }
        }
        Ok(if self.lost { None } else { self.pending.pop_front() })
    }

    /// The size of the receive buffer in bytes, as the kernel accounts it.
    pub fn receive_buffer(&self) -> Result<usize, Error> {
        self.socket.socket_ref().get_rx_buf_sz().map_err(failed("get the receive buffer"))
    }

    fn take_in(&mut self, sender: &SocketAddr) {
        if !is_kernel(sender) {
            return;
        }
        for message in messages(&self.buffer) {
            match convert::decode(message) {
                Ok(Some(message)) => self.pending.extend(self.mirror.apply(message)),
                Ok(None) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// Reads away what waits in the socket.
    fn discard(&mut self) -> Result<(), Error> {
        self.pending.clear();
        loop {
            self.buffer.clear();
            match self.socket.socket_ref().recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_overrun(&error) => self.overrun()?,
                Err(source) => return Err(Error::Socket { operation: "read", source }),
            }
        }
    }

    /// Doubles the receive buffer, so that the next storm fits.
    fn overrun(&mut self) -> Result<(), Error> {
        self.lost = true;
        let socket = self.socket.socket_ref();
        let size = self.receive_buffer()?;
        if size < LARGEST_RECEIVE_BUFFER {
            // The kernel doubles what it is told, to account for its overhead (socket(7)). Beyond
            // net.core.rmem_max it takes CAP_NET_ADMIN; without, the buffer grows as far as it may.
            setsockopt(socket, sockopt::RcvBufForce, &size)
                .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &size))
                .map_err(|errno| failed("enlarge the receive buffer")(errno.into()))?;
        }
        tracing::info!(
            was = size,
            now = self.receive_buffer()?,
            "routing netlink messages lost, reading all again"
        );
        Ok(())
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Socket { operation, source }
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

/// Other processes may send to a netlink socket too.
fn is_kernel(sender: &SocketAddr) -> bool {
    sender.port_number() == 0
}

/// The messages of one datagram. A remainder that is no message ends it.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = NetlinkBuffer::new_checked(datagram).ok()?.length() as usize;
        let message = &datagram[..len];
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Dumps over a socket of its own, so that replies never mix with notifications, nor with those to a dump whose
/// future was dropped.
async fn dump(buffer: &mut Vec<u8>) -> Result<Snapshot, Error> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed("open"))?;
    socket.socket_mut().bind_auto().map_err(failed("bind"))?;
    let mut snapshot = Snapshot::default();
    // Links first: their dump waits for the kernel to finish a change that it has begun to tell of.
    for (object, request) in requests() {
        for found in dump_one(&socket, buffer, object, request).await? {
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

async fn dump_one(
    socket: &TokioSocket,
    buffer: &mut Vec<u8>,
    object: &'static str,
    request: RouteNetlinkMessage,
) -> Result<Vec<Object>, Error> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    for _ in 0..DUMP_ATTEMPTS {
        socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.map_err(failed("write"))?;
        if let Some(found) = replies(socket, buffer, object).await? {
            return Ok(found);
        }
    }
    Err(Error::Churn { object })
}

/// The replies to one dump request; none where a change made them inconsistent.
async fn replies(
    socket: &TokioSocket,
    buffer: &mut Vec<u8>,
    object: &'static str,
) -> Result<Option<Vec<Object>>, Error> {
    let mut found = Vec::new();
    let mut interrupted = false;
    loop {
        buffer.clear();
        let sender = socket.recv_from(buffer).await.map_err(failed("read"))?;
        for message in messages(buffer).filter(|_| is_kernel(&sender)) {
            let header = NetlinkBuffer::new(message);
            interrupted |= header.flags() & NLM_F_DUMP_INTR != 0;
            match header.message_type() {
                NLMSG_DONE | NLMSG_ERROR => {
                    end_of_dump(message).map_err(|source| Error::Dump { object, source })?;
                    return Ok((!interrupted).then_some(found));
                }
                _ => match convert::decode(message) {
                    Ok(message) => found.extend(message.map(|message| message.object)),
                    Err(error) => tracing::warn!("{error}"),
                },
            }
        }
    }
}

/// Both the message that ends a dump and the one that refuses it begin with an error number.
fn end_of_dump(message: &[u8]) -> io::Result<()> {
    let code = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|m| m.payload) {
        Ok(NetlinkPayload::Done(done)) => done.code,
        Ok(NetlinkPayload::Error(error)) => error.raw_code(),
        _ => 0,
    };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.abs())) }
}
