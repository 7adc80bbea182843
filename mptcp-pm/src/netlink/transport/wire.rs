//! The socket of every netlink client: tokio's, and below it the place where a test can come between it and the kernel.
use std::{
    cell::RefCell,
    io,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::BufMut;
use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};

/// Stands between a socket and the kernel and does to datagrams what a kernel in trouble would.
pub trait Between: Send {
    /// A datagram for the kernel; `None` lets it pass, else the sender is told this, and the kernel hears nothing.
    fn send(&mut self, socket: &TokioSocket, datagram: &[u8]) -> Option<io::Result<()>>;

    /// The next datagram for the socket, and the port that it comes from.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        socket: &TokioSocket,
    ) -> Poll<io::Result<(Vec<u8>, u32)>>;
}

/// A datagram and its sender.
type Received = (Vec<u8>, SocketAddr);

type Maker = Box<dyn Fn() -> Box<dyn Between>>;

thread_local! {
    static MAKER: RefCell<Option<Maker>> = const { RefCell::new(None) };
}

/// From now on each netlink socket that this thread opens has something between it and the kernel. For tests: nothing in
/// this crate calls it.
pub fn come_between(maker: impl Fn() -> Box<dyn Between> + 'static) {
    MAKER.set(Some(Box::new(maker)));
}

/// Sockets that this thread opens from now on are the kernel's alone again.
pub fn step_aside() {
    MAKER.set(None);
}

/// A netlink socket under tokio.
pub(in crate::netlink) struct Wire {
    socket: TokioSocket,
    between: Option<Mutex<Box<dyn Between>>>,
}

impl Wire {
    /// Sends without waiting.
    pub(super) fn try_send_to(&self, datagram: &[u8], to: &SocketAddr) -> io::Result<()> {
        match self.instead(datagram) {
            Some(told) => told,
            None => self.socket_ref().send_to(datagram, to, 0).map(drop),
        }
    }

    /// Receives without waiting.
    pub(super) fn try_recv_from(&self, buffer: &mut Vec<u8>) -> io::Result<SocketAddr> {
        if self.between.is_none() {
            return self.socket_ref().recv_from(buffer, 0).map(|(_, sender)| sender);
        }
        match self.poll_recv_from(&mut Context::from_waker(Waker::noop()), buffer) {
            Poll::Ready(received) => received,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// What a sender is told in place of what the kernel would say.
    fn instead(&self, datagram: &[u8]) -> Option<io::Result<()>> {
        let between = self.between.as_ref()?;
        between.lock().unwrap_or_else(PoisonError::into_inner).send(&self.socket, datagram)
    }

    /// What comes next by way of whatever stands between; `None` where nothing does.
    fn poll_between(&self, context: &mut Context<'_>) -> Option<Poll<io::Result<Received>>> {
        let between = self.between.as_ref()?;
        let mut between = between.lock().unwrap_or_else(PoisonError::into_inner);
        let received = between.poll_receive(context, &self.socket);
        Some(received.map_ok(|(bytes, port)| (bytes, SocketAddr::new(port, 0))))
    }
}

impl AsyncSocket for Wire {
    fn socket_ref(&self) -> &Socket {
        self.socket.socket_ref()
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.socket.socket_mut()
    }

    fn new(protocol: isize) -> io::Result<Self> {
        let between = MAKER.with_borrow(|maker| maker.as_ref().map(|make| Mutex::new(make())));
        Ok(Self { socket: TokioSocket::new(protocol)?, between })
    }

    fn poll_send(&self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        match self.instead(datagram) {
            Some(told) => Poll::Ready(told.map(|()| datagram.len())),
            None => self.socket.poll_send(context, datagram),
        }
    }

    fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        datagram: &[u8],
        to: &SocketAddr,
    ) -> Poll<io::Result<usize>> {
        match self.instead(datagram) {
            Some(told) => Poll::Ready(told.map(|()| datagram.len())),
            None => self.socket.poll_send_to(context, datagram, to),
        }
    }

    fn poll_recv<B: BufMut>(&self, context: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<()>> {
        self.poll_recv_from(context, buffer).map_ok(drop)
    }

    fn poll_recv_from<B: BufMut>(
        &self,
        context: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<io::Result<SocketAddr>> {
        let Some(received) = self.poll_between(context) else {
            return self.socket.poll_recv_from(context, buffer);
        };
        let (bytes, sender) = ready!(received)?;
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(sender))
    }

    fn poll_recv_from_full(&self, context: &mut Context<'_>) -> Poll<io::Result<Received>> {
        self.poll_between(context).unwrap_or_else(|| self.socket.poll_recv_from_full(context))
    }
}
