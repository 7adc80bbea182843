//! A netlink socket as a place where datagrams go and come from, so that tests can put another in its place.
use std::{fmt, future::poll_fn, io, os::fd::AsFd};

use netlink_sys::{AsyncSocket, SocketAddr};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use super::wire::Wire;

/// Larger than any datagram of a dump: the kernel fills at most 32 KiB (`netlink_dump`).
const FIRST_BUFFER: usize = 36 << 10;

/// A datagram and the port that sent it; the kernel's port is 0.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The sender's port.
    pub sender: u32,
    /// One or more netlink messages.
    pub bytes: &'a [u8],
}

/// Sends and receives whole datagrams.
pub trait Datagrams {
    /// The own port.
    fn port(&self) -> u32;

    /// Sends one to the kernel.
    fn send(&mut self, datagram: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Receives the next one. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// `ENOBUFS` when datagrams were lost; of notifications, more are lost without another word until all that waits has been
    /// read (`netlink_overrun`, net/netlink/af_netlink.c). `EMSGSIZE` when one was longer than the buffer, which then grows.
    fn receive(&mut self) -> impl Future<Output = io::Result<Datagram<'_>>> + Send;
}

/// A netlink socket under tokio.
pub struct KernelSocket {
    socket: Wire,
    port: u32,
    buffer: Vec<u8>,
}

impl KernelSocket {
    /// Opens and binds a socket. Must be called within a tokio runtime.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Wire::new(protocol)?;
        socket.socket_ref().set_ext_ack(true)?;
        socket.socket_ref().set_cap_ack(true)?;
        let port = socket.socket_mut().bind_auto()?.port_number();
        Ok(Self { socket, port, buffer: Vec::with_capacity(FIRST_BUFFER) })
    }

    /// Joins a multicast group.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.socket.socket_ref().add_membership(group)
    }

    /// The size of the receive buffer in bytes, as the kernel accounts it: twice what was asked for (socket(7)).
    pub fn receive_buffer(&self) -> io::Result<usize> {
        self.socket.socket_ref().get_rx_buf_sz()
    }

    /// Makes room for `bytes` of unread datagrams; without the privilege only up to `net.core.rmem_max`.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        let socket = self.socket.socket_ref().as_fd();
        setsockopt(&socket, sockopt::RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes))
            .map_err(io::Error::from)
    }
}

impl Datagrams for KernelSocket {
    fn port(&self) -> u32 {
        self.port
    }

    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        match self.socket.try_send_to(datagram, &kernel) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| self.socket.poll_send_to(context, datagram, &kernel)).await.map(drop)
            }
            result => result,
        }
    }

    async fn receive(&mut self) -> io::Result<Datagram<'_>> {
        let Self { socket, buffer, .. } = self;
        buffer.clear();
        // The kernel answers before `send` returns: most answers are here already, without a wait.
        let sender = match socket.try_recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| socket.poll_recv_from(context, buffer)).await?
            }
            result => result?,
        };
        self.whole(&sender)
    }
}

impl KernelSocket {
    /// Receives the next datagram if it is there already, and fails with `EAGAIN` otherwise.
    ///
    /// # Errors
    /// Those of [`Datagrams::receive`].
    pub fn try_receive(&mut self) -> io::Result<Datagram<'_>> {
        self.buffer.clear();
        let sender = self.socket.try_recv_from(&mut self.buffer)?;
        self.whole(&sender)
    }

    /// What was received, if all of it was.
    fn whole(&mut self, sender: &SocketAddr) -> io::Result<Datagram<'_>> {
        let buffer = &mut self.buffer;
        if buffer.len() == buffer.capacity() {
            // Its end may be cut off. The next one finds a larger buffer.
            buffer.reserve(buffer.len() * 2);
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        Ok(Datagram { sender: sender.port_number(), bytes: buffer })
    }
}

impl fmt::Debug for KernelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSocket").field("port", &self.port).finish_non_exhaustive()
    }
}
