//! Who is alone has nobody to be coupled with: TCP, and MPTCP with one subflow, send packet by packet what they send with
//! the kernel's own Reno.
//!
//! Two kernels talk over a link in rounds: all that the one has sent goes to the other, but for what is lost, and the
//! answers come back one by one after the same time. What is sent at each answer follows from the congestion window, and
//! from nothing else: not from when a processor gets to it, as long as a round's answers come within
//! [`UNDISTURBED`]. A run that was disturbed says nothing and is repeated.
use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::coupled::{Algorithm, Coupled};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};
use tests::congestion::turn;
use tests::{Family, Host, Lab, Scenario};
use tun_rs::{DeviceBuilder, SyncDevice};

/// From the first packet of a round to its first answer.
const ROUND: Duration = Duration::from_millis(40);
/// Less than the kernel's patience with a packet that was overtaken, an eighth of the round trip (`tcp_rack_reo_wnd`,
/// net/ipv4/tcp_recovery.c).
const UNDISTURBED: Duration = Duration::from_millis(4);
/// As many runs in a row may be disturbed.
const ATTEMPTS: usize = 20;
/// How long the kernel may be silent before it retransmits.
const SILENCE: u16 = 5000;
/// So many segments with data are sent before it ends.
const SEGMENTS: usize = 1000;
const BYTES: usize = 4 << 20;
/// The number of the protocol in an IPv4 header.
const TCP: u8 = 6;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Which segments are lost when they are sent for the first time, by their number: in slow start, alone, several of a
/// window.
const LOST: [usize; 13] = [45, 90, 91, 95, 160, 161, 162, 260, 400, 401, 405, 650, 850];
/// The round that is lost with all that is in it, so that only time helps.
const LOST_ROUND: usize = 45;

/// What was sent at each answer: the places of its segments in the stream, and their lengths.
type Trace = Vec<Vec<(u32, usize)>>;

#[test]
fn one_subflow_sends_what_it_sends_with_reno() -> Result<()> {
    let _turn = turn()?;
    let _coupled = Coupled::register(&Kernel::default())?;
    thread::scope(|scope| {
        let both = [Protocol::TCP, Protocol::MPTCP].map(|protocol| scope.spawn(move || compare(protocol)));
        both.into_iter().try_for_each(|run| run.join().expect("the comparison of a protocol"))
    })
}

fn compare(protocol: Protocol) -> Result<()> {
    let reno = trace(protocol, "reno")?;
    let sent: usize = reno.iter().map(Vec::len).sum();
    ensure!(sent >= SEGMENTS, "{protocol:?}: {sent} segments");
    let differs = |control: &str| {
        let other = trace(protocol, control)?;
        let at = reno.iter().zip(&other).position(|(reno, other)| reno != other);
        anyhow::Ok(at.map(|at| {
            let (from, to) = (at.saturating_sub(2), (at + 3).min(reno.len()).min(other.len()));
            format!(
                "at answer {at} of {}: {:?} instead of {:?}",
                reno.len(),
                &other[from..to],
                &reno[from..to]
            )
        }))
    };
    ensure!(differs("cubic")?.is_some(), "{protocol:?}: cubic sends the same, so this proves nothing");
    for control in ["reno"].into_iter().chain(Algorithm::ALL.map(Algorithm::name)) {
        // What a control does it does each time. That a kernel skips its program is chance: see the README's limits.
        let difference = differs(control)?.map_or(Ok(None), |_| differs(control))?;
        ensure!(difference.is_none(), "{protocol:?}, {control}, {}", difference.unwrap_or_default());
    }
    Ok(())
}

/// Sends with a congestion control until it has not been disturbed.
fn trace(protocol: Protocol, control: &str) -> Result<Trace> {
    tests::keep_time();
    for _ in 0..ATTEMPTS {
        if let Some(trace) = attempt(protocol, control).with_context(|| format!("{protocol:?}, {control}"))? {
            return Ok(trace);
        }
    }
    anyhow::bail!("{protocol:?}, {control}: disturbed {ATTEMPTS} times in a row")
}

fn attempt(protocol: Protocol, control: &str) -> Result<Option<Trace>> {
    const HOSTS: &str = "description = \"two hosts\"\nlink = []\nethernet = []\n[[node]]\nname = \"client\"\n[[node]]\nname = \"server\"\n";
    let lab = Lab::start(&Scenario::parse(HOSTS)?, Family::V4)?;
    let (client, server) = (lab.host("client"), lab.host("server"));
    let ends = [attach(client, CLIENT, SERVER)?, attach(server, SERVER, CLIENT)?];
    let mut link = Rounds { ends, first: None, highest: 0, number: 0, round: 0 };
    let listener = server.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
        socket.bind(&address(SERVER, 4000))?;
        socket.listen(1)?;
        anyhow::Ok(socket)
    })?;
    let mut sender = client.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
        socket.set_tcp_congestion(control.as_bytes())?;
        socket.set_nonblocking(true)?;
        let begun = socket.connect(&address(SERVER, 4000)).err();
        ensure!(begun.and_then(|e| e.raw_os_error()) == Some(nix::libc::EINPROGRESS), "connect");
        anyhow::Ok(socket)
    })?;
    // SYN, SYN/ACK, ACK.
    let opening = link.sent()?;
    link.carry(opening)?;
    let (_accepted, _) = listener.accept().context("accept")?;
    sender.write_all(&vec![7; BYTES]).context("write all at once")?;
    link.go()
}

/// A host's end of the link: nothing in it acts by the clock but the timer for retransmissions, and each segment is
/// answered at once.
fn attach(host: &Host, own: Ipv4Addr, other: Ipv4Addr) -> Result<SyncDevice> {
    let device = host.run(|| {
        let device = DeviceBuilder::new().name("round").inherit_enable_state().build_sync()?;
        device.set_nonblocking(true)?;
        std::io::Result::Ok(device)
    })?;
    host.ip("link set round addrgenmode none up")?;
    host.ip(&format!("address add {own}/32 dev round"))?;
    host.ip(&format!("route add {other}/32 dev round quickack 1"))?;
    for (key, value) in [
        // No probes for lost tails, and no waiting for larger segments.
        ("tcp_early_retrans", "0"),
        ("tcp_tso_win_divisor", "255"),
        ("tcp_no_metrics_save", "1"),
        ("tcp_wmem", "4096 33554432 33554432"),
        ("tcp_rmem", "4096 33554432 33554432"),
        ("tcp_moderate_rcvbuf", "0"),
    ] {
        host.set_sysctl(&format!("net.ipv4.{key}"), value)?;
    }
    Ok(device)
}

fn address(addr: Ipv4Addr, port: u16) -> SockAddr {
    SocketAddr::from((addr, port)).into()
}

/// A link in rounds, from the client to the server.
struct Rounds {
    ends: [SyncDevice; 2],
    /// The place in the stream that the client's data begin at.
    first: Option<u32>,
    /// What has been sent before, from there.
    highest: u32,
    /// How many segments have been sent for the first time.
    number: usize,
    round: usize,
}

impl Rounds {
    /// Until enough is sent; `None` when it was disturbed.
    fn go(&mut self) -> Result<Option<Trace>> {
        let mut trace = Trace::new();
        let mut sent = self.sent()?;
        while self.number < SEGMENTS {
            self.round += 1;
            let begin = Instant::now();
            let answers = self.deliver(&sent)?;
            if answers.is_empty() {
                // Only the kernel's timer helps.
                sent = self.sent()?;
                trace.push(self.places(&sent));
                continue;
            }
            // The link's delay.
            thread::sleep(ROUND.saturating_sub(begin.elapsed()));
            let (begin, mut next) = (Instant::now(), Vec::new());
            for answer in answers {
                self.ends[0].send(&answer)?;
                let caused = all(&self.ends[0])?;
                trace.push(self.places(&caused));
                next.extend(caused);
            }
            if begin.elapsed() > UNDISTURBED {
                return Ok(None);
            }
            sent = next;
        }
        Ok(Some(trace))
    }

    /// Carries what is no data back and forth until nothing comes any more.
    fn carry(&mut self, mut sent: Vec<Vec<u8>>) -> Result<()> {
        for to in [1, 0].into_iter().cycle() {
            if sent.is_empty() {
                break;
            }
            thread::sleep(ROUND / 2);
            for packet in sent {
                self.ends[to].send(&packet)?;
            }
            sent = all(&self.ends[to])?;
        }
        Ok(())
    }

    /// What the client sends next, awaited.
    fn sent(&self) -> Result<Vec<Vec<u8>>> {
        let mut ends = [PollFd::new(self.ends[0].as_fd(), PollFlags::POLLIN)];
        ensure!(
            poll(&mut ends, PollTimeout::from(SILENCE))? > 0,
            "the client is silent in round {}",
            self.round
        );
        all(&self.ends[0])
    }

    /// Hands over what is not lost; the answers.
    fn deliver(&mut self, packets: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let lost: BTreeSet<usize> = LOST.into();
        let mut answers = Vec::new();
        for packet in packets {
            let (place, length) = self.place(packet);
            let is_new = length > 0 && place >= self.highest;
            if is_new {
                self.highest = place + length as u32;
                self.number += 1;
            }
            if is_new && (lost.contains(&self.number) || self.round == LOST_ROUND) {
                continue;
            }
            self.ends[1].send(packet)?;
            answers.extend(all(&self.ends[1])?);
        }
        Ok(answers)
    }

    fn places(&mut self, packets: &[Vec<u8>]) -> Vec<(u32, usize)> {
        packets.iter().map(|packet| self.place(packet)).collect()
    }

    /// Where the data of a segment lie in the stream, from its begin, and how many they are.
    fn place(&mut self, packet: &[u8]) -> (u32, usize) {
        let tcp = &packet[usize::from(packet[0] & 0xf) * 4..];
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let length = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        let first = *self.first.get_or_insert(sequence);
        (sequence.wrapping_sub(first), length)
    }
}

/// All segments that a device has been given. (The kernel tells neighbours of itself when it likes to.)
fn all(device: &SyncDevice) -> Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    let mut buffer = vec![0; 2000];
    loop {
        match device.recv(&mut buffer) {
            Ok(size) if buffer[0] >> 4 == 4 && buffer[9] == TCP => packets.push(buffer[..size].to_vec()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(packets),
            Err(error) => return Err(error.into()),
        }
    }
}
