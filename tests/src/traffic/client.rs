//! The asking end of transfers, in the foreground or behind a handle.

use super::meter::{Meter, Progress, slowest};
use super::server::Server;
use super::wire::{Account, Channel, Job, Ledger, Order, receive_bulk, send_bulk};
use super::{Options, Protocol, Report, Spoken};
use crate::host::Host;
use crate::rng::Rng;
use anyhow::{Context, Result, anyhow, ensure};
use socket2::{Domain, SockRef, Socket, Type};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Sends content to the server and waits until it has confirmed it.
///
/// # Errors
/// When the transfer fails or its deadline passes.
pub fn bulk_up(host: &Arc<Host>, server: &Server, options: Options) -> Result<Report> {
    start(host, server, Job::BulkUp, options)?.join()
}

/// Receives content from the server.
///
/// # Errors
/// When the transfer fails or its deadline passes.
pub fn bulk_down(host: &Arc<Host>, server: &Server, options: Options) -> Result<Report> {
    start(host, server, Job::BulkDown, options)?.join()
}

/// Exchanges messages with the server, one after the other.
///
/// # Errors
/// When the exchange fails or its deadline passes.
pub fn request_response(host: &Arc<Host>, server: &Server, options: Options) -> Result<Report> {
    start(host, server, Job::RequestResponse, options)?.join()
}

/// Starts a transfer in the background.
///
/// # Errors
/// When the server has no address that fits, or no thread can be made.
pub fn start(host: &Arc<Host>, server: &Server, job: Job, options: Options) -> Result<Transfer> {
    let meter = Arc::new(Meter::new());
    let stream = Arc::new(OnceLock::new());
    let (release, released) = mpsc::channel();
    let work = Work {
        host: host.clone(),
        to: server.address(&options)?,
        protocol: options.protocol.unwrap_or(server.protocol()),
        deadline: Instant::now() + options.deadline,
        id: server.register(&meter),
        meter: meter.clone(),
        stream: stream.clone(),
        job,
        options,
    };
    let thread = thread::Builder::new().name("transfer".into()).spawn(move || work.run(&released))?;
    Ok(Transfer { meter, stream, release, thread: Some(thread) })
}

/// A transfer that goes on; dropping it breaks its connection off.
pub struct Transfer {
    meter: Arc<Meter>,
    stream: Arc<OnceLock<TcpStream>>,
    release: mpsc::Sender<()>,
    thread: Option<JoinHandle<Result<Report>>>,
}

impl Transfer {
    /// Lets the content begin that [`Options::hold`] holds.
    ///
    /// # Errors
    /// When the transfer has ended.
    pub fn go(&self) -> Result<()> {
        self.release.send(()).context("the transfer has ended before its content could begin")
    }

    /// Bytes of content that have arrived at the receiver so far.
    pub fn bytes(&self) -> u64 {
        self.meter.bytes()
    }

    /// Since it was started; the time base of its progress.
    pub fn elapsed(&self) -> Duration {
        self.meter.elapsed()
    }

    /// Its progress so far.
    pub fn progress(&self) -> Progress {
        self.meter.progress()
    }

    /// The client's address and port, once connected.
    pub fn local(&self) -> Option<SocketAddr> {
        self.stream.get()?.local_addr().ok()
    }

    /// Waits until this many bytes of content have arrived at the receiver.
    ///
    /// # Errors
    /// When they have not after `timeout`, or when the transfer ends before.
    pub fn wait_for(&self, bytes: u64, timeout: Duration) -> Result<()> {
        self.meter.wait_for(bytes, timeout)
    }

    /// Whether it has ended, well or not.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it at once: what has not been acknowledged yet is forgotten.
    pub fn abort(self) {
        if let Some(stream) = self.stream.get() {
            // Where it cannot be set, the connection ends a little later.
            drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }

    /// Waits for its end; no longer than its deadline.
    ///
    /// # Errors
    /// When it has failed.
    pub fn join(mut self) -> Result<Report> {
        let thread = self.thread.take().context("the transfer has no thread")?;
        thread.join().map_err(|_| anyhow!("the transfer has panicked"))?
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.get().filter(|_| self.thread.is_some()) {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// All that the transfer's thread needs.
struct Work {
    host: Arc<Host>,
    to: SocketAddr,
    protocol: Protocol,
    deadline: Instant,
    id: u64,
    meter: Arc<Meter>,
    stream: Arc<OnceLock<TcpStream>>,
    job: Job,
    options: Options,
}

/// What the client knows after the content has ended: when each request went out and how long it took.
type Exchanges = Vec<(Duration, Duration)>;

impl Work {
    fn run(self, released: &mpsc::Receiver<()>) -> Result<Report> {
        let result = self.transfer(released);
        self.meter.end(result.as_ref().map(drop).map_err(|error| format!("{error:#}")));
        result.map_err(|error| match self.meter.failure() {
            Some(failure) => error.context(failure),
            None => error,
        })
    }

    fn transfer(&self, released: &mpsc::Receiver<()>) -> Result<Report> {
        let stream =
            self.connect().with_context(|| format!("connect from {} to {}", self.host.name(), self.to))?;
        let port = stream.local_addr()?.port();
        self.stream.get_or_init(|| stream.try_clone().expect("duplicate a descriptor"));
        let mut channel = Channel::new(stream, self.deadline);
        let what = || format!("{:?} to {}", self.job, self.to);
        let begun = self.order(&mut channel, released).with_context(what)?;
        let (client, exchanges) = self.exchange(&mut channel).with_context(what)?;
        let server: Account = channel.receive_json().with_context(what)?;
        let duration = self.meter.elapsed();
        let spoken = self.spoken(port)?;
        ensure!(client.bytes == server.bytes, "sent {} bytes, received {}", client.bytes, server.bytes);
        let messages = self.job == Job::RequestResponse;
        let stall = if messages { slowest(&exchanges)? } else { self.meter.stall() };
        let (asked, latencies) = exchanges.into_iter().unzip();
        Ok(Report {
            bytes: server.bytes,
            duration,
            begun,
            client_sha256: client.sha256,
            server_sha256: server.sha256,
            stall,
            progress: self.meter.progress(),
            asked,
            latencies,
            carried: channel.carried(),
            spoken,
        })
    }

    fn connect(&self) -> Result<TcpStream> {
        let options = &self.options;
        let open = || -> Result<TcpStream> {
            let socket =
                Socket::new(Domain::for_address(self.to), Type::STREAM, Some(self.protocol.number()))?;
            if let Some(interface) = &options.interface {
                socket.bind_device(Some(interface.as_bytes()))?;
            }
            if let Some(bind) = options.bind {
                socket.bind(&SocketAddr::from((bind, 0)).into())?;
            }
            if let Some(name) = &options.congestion {
                let set = socket.set_tcp_congestion(name.as_bytes());
                set.with_context(|| format!("use congestion control {name}"))?;
            }
            socket
                .connect_timeout(&self.to.into(), self.deadline.saturating_duration_since(Instant::now()))?;
            Ok(socket.into())
        };
        self.host.run(open)
    }

    /// Orders, and waits where the content is held; returns when it was let go.
    fn order(&self, channel: &mut Channel, released: &mpsc::Receiver<()>) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        channel.send_json(&Order {
            id: self.id,
            job: self.job,
            amount: self.options.amount,
            congestion: self.options.congestion.clone(),
            response: self.options.response,
            hold: self.options.hold,
            deadline: left,
        })?;
        if !self.options.hold {
            return Ok(Duration::ZERO);
        }
        // The kernel opens further subflows only once something has come back.
        channel.receive(None)?;
        released.recv_timeout(left).context("wait for the word to begin")?;
        let begun = self.meter.elapsed();
        channel.send(0, |_| ())?;
        Ok(begun)
    }

    fn exchange(&self, channel: &mut Channel) -> Result<(Account, Exchanges)> {
        match self.job {
            Job::BulkUp => Ok((send_bulk(channel, self.options.amount, self.id)?, Vec::new())),
            Job::BulkDown => Ok((receive_bulk(channel, &self.meter)?, Vec::new())),
            Job::RequestResponse => self.ask(channel),
        }
    }

    fn ask(&self, channel: &mut Channel) -> Result<(Account, Exchanges)> {
        channel.stream().set_nodelay(true)?;
        let (mut ledger, mut rng, mut exchanges) = (Ledger::default(), Rng::new(self.id), Vec::new());
        let (started, mut asked) = (self.meter.elapsed(), 0);
        loop {
            let at = self.meter.elapsed();
            let size = self.options.amount.next(asked, at - started, self.options.request);
            let request = channel.send(size, |frame| rng.fill(frame))?;
            if request.is_empty() {
                return Ok((ledger.account(), exchanges));
            }
            asked += size as u64;
            ledger.add(request);
            ledger.add(channel.receive(Some(&self.meter))?);
            exchanges.push((at, self.meter.elapsed() - at));
            // The pace is part of the traffic, so this is no waiting for an event.
            thread::sleep((at + self.options.interval).saturating_sub(self.meter.elapsed()));
        }
    }

    /// Asks the kernel what the connection from this port speaks.
    fn spoken(&self, port: u16) -> Result<Spoken> {
        if self.protocol == Protocol::Tcp {
            return Ok(Spoken::Tcp);
        }
        let output = self.host.command("ss").args(["-MniHO", &format!("sport = :{port}")]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mptcp = text.split_whitespace().any(|word| word == "remote_key");
        let fallback = text.split_whitespace().any(|word| word == "fallback");
        Ok(if mptcp && !fallback { Spoken::Mptcp } else { Spoken::Fallback })
    }
}
