//! The path manager's events, as they come.
use std::collections::VecDeque;

use futures_util::FutureExt as _;
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

use super::look_up;
use crate::netlink::{
    mptcp_wire::{EVENT_GROUP, event::Event},
    transport::{Client, Datagrams, Error, Fault, KernelSocket},
};

/// Room for unread events; the default is for a few hundred only.
const BUFFER: usize = 4 << 20;

/// What a reader of events gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An event.
    Event(Event),
    /// Events were lost: what they would have said must be read from sock_diag. Those that came before have been told.
    Lost,
}

/// A member of the group of events.
#[derive(Debug)]
pub struct Events<S = KernelSocket> {
    socket: S,
    family: u16,
    ready: VecDeque<Event>,
    /// Some were lost, and that is to be told when nothing waits in the socket: until then the kernel loses more of them
    /// without another word (`NETLINK_S_CONGESTED`, net/netlink/af_netlink.c).
    lost: bool,
}

impl Events {
    /// Joins the group of events; they come from then on. Being a member also tells the userspace path manager
    /// that somebody is there: without one the kernel refuses joins and drops ADD_ADDRs.
    ///
    /// # Errors
    /// A kernel without MPTCP or without events (before 5.12); no CAP_NET_ADMIN.
    pub async fn open() -> Result<Self, Error> {
        let failed = |fault: Fault| Error::new("join multicast group", EVENT_GROUP, fault);
        let mut client = Client::open(NETLINK_GENERIC).map_err(|error| failed(error.into()))?;
        let family = look_up(&mut client).await?;
        let group = family.groups.iter().find(|(name, _)| name == EVENT_GROUP);
        let (_, group) = group.ok_or_else(|| {
            failed(Fault::Unsupported("this kernel reports no MPTCP events; use one since 5.12"))
        })?;
        let socket = KernelSocket::open(NETLINK_GENERIC).map_err(|error| failed(error.into()))?;
        socket.set_receive_buffer(BUFFER).map_err(|error| failed(error.into()))?;
        socket.join(*group).map_err(|error| failed(error.into()))?;
        Ok(Self::over(socket, family.id))
    }
}

impl<S: Datagrams> Events<S> {
    /// Reads from another transport the messages of type `family`.
    pub const fn over(socket: S, family: u16) -> Self {
        Self { socket, family, ready: VecDeque::new(), lost: false }
    }

    /// The next event. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// A socket that fails or an event that cannot be understood; the next one may be read all the same.
    pub async fn next(&mut self) -> Result<Notice, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Notice::Event(event));
            }
            // A flood of events must not keep other tasks of the thread from running.
            tokio::task::consume_budget().await;
            let received = match self.lost {
                false => self.receive().await,
                true => match self.receive().now_or_never() {
                    Some(received) => received,
                    None => {
                        self.lost = false;
                        return Ok(Notice::Lost);
                    }
                },
            };
            match received {
                Err(Fault::Socket(error)) if is_loss(&error) => self.lost = true,
                result => result.map_err(|fault| Error::new("read", "MPTCP events", fault))?,
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Fault> {
        let Self { socket, family, ready, .. } = self;
        let datagram = socket.receive().await?;
        let mut rest = if datagram.sender == 0 { datagram.bytes } else { &[] };
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest)?;
            if message.message_type() == *family {
                ready.push_back(Event::decode(message.payload())?);
            }
            rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn is_loss(error: &std::io::Error) -> bool {
    [Errno::ENOBUFS, Errno::EMSGSIZE, Errno::EINTR]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}
