//! A network whose client is watched.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mptcp_common::path_stats::Kept;
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::silence::{Alarm, Kind, Silence};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tests::daemon::PATIENCE;
use tests::observer::Observer;
use tests::traffic::{self, Job, Options, Server, Transfer};
use tests::{Family, Lab, Outage, Scenario};
use tokio::runtime::Runtime;

/// No test lasts longer.
pub const EVER: Duration = Duration::from_secs(600);
/// Whoever is looked at at all is looked at more often.
const REST: Duration = Duration::from_millis(1500);

/// Two providers; the client is not watched yet.
pub struct Unwatched {
    // The order is that of Drop: the network is last.
    pub observer: Observer,
    server: Server,
    runtime: Runtime,
    pub lab: Lab,
}

impl Unwatched {
    pub fn start() -> Result<Self> {
        let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let observer = Observer::attach(lab.host("client"))?;
        let server = Server::start(lab.host("server"), traffic::Protocol::Mptcp)?;
        Ok(Self { observer, server, runtime, lab })
    }

    /// Traffic that flows by now: of messages so many that the deviation is that of the path.
    pub fn traffic(&self, job: Job, options: Options) -> Result<Transfer> {
        let enough = if job == Job::RequestResponse { 40 * 1000 } else { 4 << 20 };
        self.traffic_of(job, options, enough)
    }

    /// Traffic that has moved so many bytes by now.
    pub fn traffic_of(&self, job: Job, options: Options, bytes: u64) -> Result<Transfer> {
        let traffic = traffic::start(self.lab.host("client"), &self.server, job, options)?;
        traffic.wait_for(bytes, PATIENCE)?;
        Ok(traffic)
    }

    /// The only subflow.
    pub fn subflow(&self) -> Result<Kept> {
        let living = self.observer.living()?;
        let [sample] = living.as_slice() else { anyhow::bail!("not one subflow: {living:?}") };
        Ok(sample.kept)
    }

    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        Ok(self.lab.host("client").run(|| nix::net::if_::if_nametoindex(interface))?)
    }

    pub fn watched(self) -> Result<Net> {
        let silence = self.lab.host("client").run(|| {
            let _inside = self.runtime.enter();
            Silence::attach(&Kernel::default()).context("attaching")
        })?;
        ensure!(silence.absent().is_empty(), "{:?}", silence.absent());
        Ok(Net { silence, unwatched: self })
    }
}

/// The same, the client watched.
pub struct Net {
    pub silence: Silence,
    unwatched: Unwatched,
}

impl Deref for Net {
    type Target = Unwatched;

    fn deref(&self) -> &Unwatched {
        &self.unwatched
    }
}

impl Net {
    pub fn start() -> Result<Self> {
        Unwatched::start()?.watched()
    }

    /// Begins a silent outage, all that was told before forgotten; when it began, nanoseconds of `CLOCK_MONOTONIC`.
    pub fn outage(&mut self, link: &str) -> Result<u64> {
        while self.silence.waiting().is_some() {}
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        self.lab.link(link).outage(Outage::Silent)?;
        Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
    }

    pub fn next(&mut self) -> Result<Alarm> {
        let next = async { tokio::time::timeout(PATIENCE, self.silence.next()).await };
        let alarm = self.unwatched.runtime.block_on(next);
        Ok(alarm.with_context(|| format!("nothing was told in {PATIENCE:?}"))??)
    }

    /// What is told of the silence that ends with this kind.
    pub fn told_until(&mut self, last: Kind) -> Result<Vec<Alarm>> {
        let mut alarms = Vec::new();
        loop {
            let alarm = self.next()?;
            if alarm.kind == Kind::Heard {
                alarms.clear();
            } else {
                alarms.push(alarm);
            }
            if alarm.kind == last {
                return Ok(alarms);
            }
        }
    }

    /// Waits until the kernel's retransmission timers have expired so many times from now on.
    pub fn await_timeouts(&mut self, number: usize) -> Result<()> {
        let before = self.unwatched.observer.timeouts().len();
        self.unwatched
            .observer
            .await_that("timeouts", |observer| observer.timeouts().len() >= before + number)
    }

    /// Waits until nobody is looked at any more.
    pub fn await_rest(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let before = self.silence.counts()?.looks;
            // Nothing tells that nothing happens.
            std::thread::sleep(REST);
            let now = self.silence.counts()?.looks;
            if now == before {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{} looks in {REST:?}, after {PATIENCE:?}", now - before);
        }
    }
}

/// How long after the last sign of life, and after the outage began, each was told.
pub fn say(job: Job, alarms: &[&Alarm], begin_ns: u64) {
    print!("{job:?}:");
    for alarm in alarms {
        let since = Duration::from_nanos(alarm.at_ns.saturating_sub(begin_ns));
        print!(" {:?} after {:.1?} of silence ({since:.1?} after the outage),", alarm.kind, alarm.silent);
    }
    let Alarm { rtt, deviation, in_flight, .. } = alarms[0];
    println!(" round trip {rtt:.1?}, deviation {deviation:.1?}, {in_flight} in flight");
}

/// So many connections over loopback, both ends of each; a byte has gone each way.
pub fn pairs(number: usize) -> Result<Vec<[Socket; 2]>> {
    let listener = socket()?;
    listener.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    listener.listen(16)?;
    let address = listener.local_addr()?;
    let connect = |_| {
        let near = socket()?;
        near.connect(&address).context("connecting over loopback")?;
        let pair = [near, listener.accept().context("accepting")?.0];
        pass_a_byte(&pair)?;
        Ok(pair)
    };
    (0..number).map(connect).collect()
}

fn socket() -> Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("making an MPTCP socket")
}

/// There and back.
pub fn pass_a_byte([near, far]: &[Socket; 2]) -> Result<()> {
    for (mut from, mut to) in [(near, far), (far, near)] {
        from.write_all(&[7]).context("sending a byte")?;
        to.read_exact(&mut [0]).context("receiving a byte")?;
    }
    Ok(())
}

/// Lets this process have so many files.
pub fn allow_files(number: u64) -> Result<()> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now < number {
        setrlimit(Resource::RLIMIT_NOFILE, number, most.max(number))
            .context("raising the number of files")?;
    }
    Ok(())
}
