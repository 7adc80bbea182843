//! The serving end of transfers: listens in a host, answers each connection on a thread of its own.

use super::meter::Meter;
use super::wire::{Account, Channel, Job, Ledger, Order, receive_bulk, send_bulk};
use super::{Options, Protocol};
use crate::host::Host;
use crate::rng::Rng;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// An order must come this soon after the connection.
const ORDER_DEADLINE: Duration = Duration::from_secs(60);

/// A listening server; dropping it closes all its connections.
pub struct Server {
    host: Arc<Host>,
    protocol: Protocol,
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: EventFd,
    meters: Mutex<HashMap<u64, Arc<Meter>>>,
    next: AtomicU64,
    /// To be cut off when the server is dropped.
    streams: Mutex<Vec<TcpStream>>,
}

impl Server {
    /// Listens on a free port of the host, in both families.
    ///
    /// # Errors
    /// When the sockets cannot be made.
    pub fn start(host: &Arc<Host>, protocol: Protocol) -> Result<Self> {
        let v4 = listen(host, protocol, (Ipv4Addr::UNSPECIFIED, 0).into())?;
        let port = v4.local_addr()?.port();
        let v6 = listen(host, protocol, (Ipv6Addr::UNSPECIFIED, port).into())?;
        let shared = Arc::new(Shared {
            stop: EventFd::new().context("make an event descriptor")?,
            meters: Mutex::default(),
            next: AtomicU64::new(1),
            streams: Mutex::default(),
        });
        let worker = shared.clone();
        let thread = thread::Builder::new().name("server".into()).spawn(move || worker.serve(&[v4, v6]))?;
        Ok(Self { host: host.clone(), protocol, port, shared, thread: Some(thread) })
    }

    /// What its sockets speak.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a client with these options connects to.
    ///
    /// # Errors
    /// When the host has no fitting address.
    pub fn address(&self, options: &Options) -> Result<SocketAddr> {
        if let Some(to) = options.to {
            return Ok((to, self.port).into());
        }
        let addresses = self.host.addresses()?;
        let mut fitting = addresses.iter().map(|address| address.net.addr()).filter(|address| {
            is_global(*address) && options.bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4())
        });
        let address =
            fitting.next().with_context(|| format!("{} has no fitting address", self.host.name()))?;
        Ok((address, self.port).into())
    }

    /// Makes a meter known under a number that goes into the order, so that what arrives here is seen there.
    pub(super) fn register(&self, meter: &Arc<Meter>) -> u64 {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.meters).insert(id, meter.clone());
        id
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, listeners: &[TcpListener; 2]) {
        let mut handlers = Vec::new();
        loop {
            let [one, two] =
                listeners.each_ref().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            let mut fds = [one, two, PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
            let polled = poll(&mut fds, PollTimeout::NONE);
            if polled.is_err() || fds[2].any() == Some(true) {
                break;
            }
            for (stream, _) in listeners.iter().filter_map(|listener| listener.accept().ok()) {
                handlers.extend(self.admit(stream));
            }
        }
        for stream in lock(&self.streams).drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        handlers.into_iter().for_each(|handler| drop(handler.join()));
    }

    fn admit(self: &Arc<Self>, stream: TcpStream) -> Option<JoinHandle<()>> {
        lock(&self.streams).push(stream.try_clone().ok()?);
        let shared = self.clone();
        Some(thread::spawn(move || shared.handle(Channel::new(stream, Instant::now() + ORDER_DEADLINE))))
    }

    /// A client that goes away before it has ordered anything concerns nobody else.
    fn handle(&self, mut channel: Channel) {
        let Ok(order) = channel.receive_json::<Order>() else { return };
        let Some(meter) = lock(&self.meters).remove(&order.id) else { return };
        channel.set_deadline(Instant::now() + order.deadline);
        if let Err(error) = carry_out(&mut channel, &order, &meter) {
            meter.end(Err(format!("server: {error:#}")));
            // The client must not wait for its own deadline.
            drop(channel.stream().shutdown(Shutdown::Both));
        }
    }
}

fn carry_out(channel: &mut Channel, order: &Order, meter: &Meter) -> Result<()> {
    let socket = SockRef::from(channel.stream());
    if let Some(name) = &order.congestion {
        socket
            .set_tcp_congestion(name.as_bytes())
            .with_context(|| format!("use congestion control {name}"))?;
    }
    if order.hold {
        channel.send(0, |_| ())?;
        channel.receive(None)?;
    }
    let account = match order.job {
        Job::BulkUp => receive_bulk(channel, meter)?,
        Job::BulkDown => send_bulk(channel, order.amount, order.id)?,
        Job::RequestResponse => answer(channel, order)?,
    };
    channel.send_json(&account)
}

fn answer(channel: &mut Channel, order: &Order) -> Result<Account> {
    channel.stream().set_nodelay(true)?;
    let (mut ledger, mut rng) = (Ledger::default(), Rng::new(!order.id));
    loop {
        let request = channel.receive(None)?;
        if request.is_empty() {
            return Ok(ledger.account());
        }
        ledger.add(request);
        ledger.add(channel.send(order.response, |frame| rng.fill(frame))?);
    }
}

fn listen(host: &Host, protocol: Protocol, address: SocketAddr) -> Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol.number()))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(128)?;
        Ok(socket.into())
    };
    host.run(open).with_context(|| format!("listen on {address} on {}", host.name()))
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Protocol {
    pub(super) fn number(self) -> socket2::Protocol {
        match self {
            Self::Tcp => socket2::Protocol::TCP,
            Self::Mptcp => socket2::Protocol::MPTCP,
        }
    }
}
