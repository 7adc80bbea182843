//! Datagrams, for measuring a link itself: round trips, rates, and what exactly went in and came out.

use crate::host::Host;
use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of IP and UDP headers before the payload.
pub fn overhead(address: IpAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
}

/// A UDP server that notes every datagram and, if asked, sends it back.
pub struct Sink {
    port: u16,
    stop: Arc<EventFd>,
    arrivals: Arc<Arrivals>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Arrivals {
    list: Mutex<Vec<Arrival>>,
    changed: Condvar,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When the server read it.
    pub at: Instant,
    /// Its payload in bytes.
    pub size: usize,
    /// The number that [`Flow`] gave it; 0 when it is too short for one.
    pub number: u64,
}

impl Sink {
    /// Listens on a free port of the host in both families.
    ///
    /// # Errors
    /// When the sockets cannot be made.
    pub fn start(host: &Host, echo: bool) -> Result<Self> {
        let v4 = listen(host, (Ipv4Addr::UNSPECIFIED, 0).into())?;
        let port = v4.local_addr()?.port();
        let v6 = listen(host, (Ipv6Addr::UNSPECIFIED, port).into())?;
        let (stop, arrivals) = (Arc::new(EventFd::new()?), Arc::<Arrivals>::default());
        let (end, list) = (stop.clone(), arrivals.clone());
        let thread = thread::Builder::new().name("sink".into()).spawn(move || {
            crate::keep_time();
            serve(&[v4, v6], &end, &list, echo);
        })?;
        Ok(Self { port, stop, arrivals, thread: Some(thread) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything that arrived so far, in order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().clone()
    }

    /// Waits until this many datagrams have arrived.
    ///
    /// # Errors
    /// When they have not after `timeout`.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Result<()> {
        self.arrivals.wait(timeout, |list| list.len() >= count)
    }

    /// Waits until a datagram with this number or a higher one has arrived.
    ///
    /// # Errors
    /// When it has not after `timeout`.
    pub fn wait_for_number(&self, number: u64, timeout: Duration) -> Result<()> {
        self.arrivals.wait(timeout, |list| list.last().is_some_and(|arrival| arrival.number >= number))
    }
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, arrival: Arrival) {
        self.lock().push(arrival);
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&[Arrival]) -> bool) -> Result<()> {
        let result = self.changed.wait_timeout_while(self.lock(), timeout, |list| !done(list));
        let (list, _) = result.unwrap_or_else(PoisonError::into_inner);
        ensure!(
            done(&list),
            "only {} datagrams arrived in {timeout:?}, the last: {:?}",
            list.len(),
            list.last()
        );
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A socket of a host, bound to an interface and connected to a peer.
pub struct Flow {
    socket: UdpSocket,
    next: u64,
}

impl Flow {
    /// Opens it, from `bind` if given.
    ///
    /// # Errors
    /// When the socket cannot be made, bound or connected.
    pub fn open(host: &Host, interface: Option<&str>, bind: Option<IpAddr>, to: SocketAddr) -> Result<Self> {
        let open = || -> std::io::Result<UdpSocket> {
            let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
            socket.bind_device(interface.map(str::as_bytes))?;
            if let Some(bind) = bind {
                socket.bind(&SocketAddr::from((bind, 0)).into())?;
            }
            socket.connect(&to.into())?;
            Ok(socket.into())
        };
        let socket = host.run(open).with_context(|| format!("open a flow from {} to {to}", host.name()))?;
        Ok(Self { socket, next: 0 })
    }

    /// The address that it sends to.
    ///
    /// # Errors
    /// When the socket cannot say.
    pub fn peer(&self) -> Result<IpAddr> {
        Ok(self.socket.peer_addr().context("ask for the peer's address")?.ip())
    }

    /// Sends one datagram of `size` payload bytes (at least 8), numbered from 0 on; returns when.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send(&mut self, size: usize) -> Result<Instant> {
        let mut payload = vec![0; size.max(8)];
        payload[..8].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        let at = Instant::now();
        self.socket.send(&payload).context("send a datagram")?;
        Ok(at)
    }

    /// Sends datagrams at an even pace of `rate` bit/s of IP packets for `duration`; returns when each went out.
    ///
    /// # Errors
    /// When the kernel does not take one.
    pub fn pace(&mut self, rate: f64, size: usize, duration: Duration) -> Result<Vec<Instant>> {
        let bytes = size + overhead(self.peer()?);
        let gap = Duration::from_secs_f64(bytes as f64 * 8.0 / rate);
        let (mut sent, mut due) = (Vec::new(), Instant::now());
        let end = due + duration;
        while due < end {
            // The pace is part of the traffic, so this is no waiting for an event.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            sent.push(self.send(size)?);
            due += gap;
        }
        Ok(sent)
    }

    /// Sends one datagram and waits for its echo; `None` when it does not come within `timeout`.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn round_trip(&mut self, timeout: Duration) -> Result<Option<Duration>> {
        let number = self.next;
        let sent = self.send(8)?;
        let mut reply = [0; 8];
        while let Some(left) = timeout.checked_sub(sent.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(&mut reply) {
                Ok(8) if u64::from_be_bytes(reply) == number => return Ok(Some(sent.elapsed())),
                // An echo of an earlier one, the timeout, or an ICMP error that the timeout will tell of.
                _ => {}
            }
        }
        Ok(None)
    }

    /// The shortest of some round trips, which is that of the path and not of a busy machine; `None` when no
    /// echo comes within `timeout`.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn ping(&mut self, count: usize, timeout: Duration) -> Result<Option<Duration>> {
        let trips: Result<Vec<_>> = (0..count).map(|_| self.round_trip(timeout)).collect();
        Ok(trips?.into_iter().flatten().min())
    }
}

fn listen(host: &Host, address: SocketAddr) -> Result<UdpSocket> {
    let open = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_recv_buffer_size(8 << 20)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    host.run(open).with_context(|| format!("listen on {address} on {}", host.name()))
}

fn serve(sockets: &[UdpSocket; 2], stop: &EventFd, arrivals: &Arrivals, echo: bool) {
    let mut buffer = vec![0; 65_536];
    loop {
        let [one, two] = sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let mut fds = [one, two, PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err() || fds[2].any() == Some(true) {
            return;
        }
        for socket in sockets {
            while let Ok((size, from)) = socket.recv_from(&mut buffer) {
                let at = Instant::now();
                let number = buffer[..size].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                if echo {
                    // What cannot be sent back is missing at the other end, which is where it shows.
                    drop(socket.send_to(&buffer[..size], from));
                }
                arrivals.push(Arrival { at, size, number });
            }
        }
    }
}
