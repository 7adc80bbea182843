//! The object `path_stats` on the running kernel: it follows the MPTCP subflows of its own namespace, and nothing else.
use std::{
    cell::RefCell,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mptcp_common::path_stats::{Established, Sample};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::path_stats::{Event, PathStats, SubflowCounts};
use mptcp_pm::view::paths::Losses;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tests::daemon::await_that;
use tokio::runtime::Runtime;

const MPTCP: Protocol = Protocol::MPTCP;
const TCP: Protocol = Protocol::TCP;

#[test]
fn each_mptcp_connection_counts_once_at_either_end() {
    in_a_namespace(|_| {
        let stats = PathStats::attach(&Kernel::default())?;
        let open = (0..5).map(|_| connect(MPTCP, MPTCP)).collect::<Result<Vec<_>>>()?;
        assert_eq!(stats.counts()?, initial(5));
        drop(open);
        assert_eq!(stats.counts()?, initial(5), "closing counted");
        Ok(())
    });
}

#[test]
fn what_is_or_becomes_plain_tcp_does_not_count() {
    in_a_namespace(|_| {
        let stats = PathStats::attach(&Kernel::default())?;
        connect(TCP, TCP)?;
        connect(MPTCP, TCP).context("a client whose server speaks no MPTCP")?;
        connect(TCP, MPTCP).context("a client that speaks no MPTCP")?;
        assert_eq!(stats.counts()?, SubflowCounts::default());
        connect(MPTCP, MPTCP)?;
        assert_eq!(stats.counts()?, initial(1), "the program is attached and does count");
        Ok(())
    });
}

#[test]
fn further_subflows_count_apart_from_initial_ones() {
    in_a_namespace(|_| {
        // Both ends are here: that of the server also tries a subflow, in vain, which counts until it has failed.
        ip("mptcp limits set subflows 2 add_addr_accepted 0")?;
        ip("mptcp endpoint add 127.0.0.2 subflow")?;
        let stats = PathStats::attach(&Kernel::default())?;
        // A join that comes late is refused where nobody listens any more.
        let listener = listen(MPTCP)?;
        let _open = connect_to(&listener, MPTCP)?;
        let expected = SubflowCounts { join_active: 1, join_passive: 1, ..initial(1) };
        // The kernel joins when it likes to; nothing that a socket could wait for tells when both ends have done so.
        await_counts(&stats, expected)
    });
}

#[test]
fn each_namespace_has_its_own_counts() {
    in_a_namespace(|_| {
        let here = PathStats::attach(&Kernel::default())?;
        let elsewhere = thread::spawn(|| -> Result<()> {
            with_a_runtime(|_| {
                enter_a_namespace()?;
                let there = PathStats::attach(&Kernel::default())?;
                for _ in 0..3 {
                    connect(MPTCP, MPTCP)?;
                }
                assert_eq!(there.counts()?, initial(3));
                Ok(())
            })
        });
        elsewhere.join().expect("the other namespace's thread")?;
        assert_eq!(here.counts()?, SubflowCounts::default());
        connect(MPTCP, MPTCP)?;
        assert_eq!(here.counts()?, initial(1));
        Ok(())
    });
}

#[test]
fn dropping_it_leaves_nothing_attached() {
    in_a_namespace(|_| {
        let before = bpf_files()?;
        let stats = PathStats::attach(&Kernel::default())?;
        ensure!(bpf_files()? > before, "an attached program has a link that this process holds");
        drop(stats);
        // Programs, maps and links live as long as a file descriptor refers to them.
        assert_eq!(bpf_files()?, before);
        Ok(())
    });
}

#[test]
fn a_subflow_is_told_read_and_told_once_more_with_exact_bytes() {
    in_a_namespace(|runtime| {
        let mut stats = PathStats::attach(&Kernel::default())?;
        ensure!(stats.absent().is_empty(), "{:?}", stats.absent());
        let (near, far) = connect(MPTCP, MPTCP)?;
        send(&near, &far, 100_000)?;
        let living = read(&mut stats)?;
        assert_eq!(living.len(), 2);
        let (near_end, far_end) = (end(&living, &near)?, end(&living, &far)?);
        // Besides the byte that `connect` passes each way.
        assert_eq!((sent_once(&near_end), near_end.live.bytes_received), (100_001, 1));
        assert_eq!((sent_once(&far_end), far_end.live.bytes_received), (1, 100_001));
        assert_eq!(near_end.kept.way, Established::CapableActive.index());
        assert_eq!(far_end.kept.way, Established::CapablePassive.index());
        assert!(near_end.kept.rtt.buckets.iter().sum::<u32>() > 0, "no round-trip time was measured");
        assert!(near_end.kept.delivery_rate_max > 0);
        drop((near, far));
        let told = await_closed(runtime, &mut stats, 2)?;
        let opened: Vec<u64> = told.iter().filter_map(opening).map(|sample| sample.kept.cookie).collect();
        assert_eq!(opened.len(), 2);
        for (end, sent, received) in [(near_end, 100_001, 1), (far_end, 1, 100_001)] {
            let last: Vec<_> =
                told.iter().filter_map(closing).filter(|last| last.kept.cookie == end.kept.cookie).collect();
            assert_eq!(last.len(), 1, "told once");
            assert!(opened.contains(&end.kept.cookie));
            assert_eq!((sent_once(last[0]), last[0].live.bytes_received), (sent, received));
            assert_eq!(last[0].live.bytes_acked, sent, "neither SYN nor FIN counts");
            assert_eq!(last[0].kept.token, end.kept.token);
        }
        assert_eq!(read(&mut stats)?, [], "what has ended is not read");
        assert_eq!(stats.losses()?, Losses::default());
        Ok(())
    });
}

#[test]
fn what_is_older_than_the_program_is_adopted() {
    in_a_namespace(|runtime| {
        let (near, far) = connect(MPTCP, MPTCP)?;
        let _plain = connect(TCP, TCP)?;
        let mut stats = PathStats::attach(&Kernel::default())?;
        let living = read(&mut stats)?;
        assert_eq!(living.len(), 2);
        assert!(living.iter().all(|sample| sample.kept.adopted == 1));
        assert_eq!(end(&living, &near)?.kept.way, Established::CapableActive.index());
        assert_eq!(end(&living, &far)?.kept.way, Established::CapablePassive.index());
        send(&near, &far, 50_000)?;
        let measured: u32 = end(&read(&mut stats)?, &near)?.kept.rtt.buckets.iter().sum();
        let is_told = !is_before_6_12()?;
        assert_eq!(stats.absent().is_empty(), is_told, "{:?}", stats.absent());
        assert_eq!(measured > 0, is_told, "whether the program runs at its events");
        if !is_told {
            return Ok(());
        }
        drop((near, far));
        let told = await_closed(runtime, &mut stats, 2)?;
        let sent: u64 = told.iter().filter_map(closing).map(sent_once).sum();
        assert_eq!(sent, 50_002);
        Ok(())
    });
}

#[test]
fn who_sleeps_is_woken_once() {
    in_a_namespace(|_| {
        let mut stats = PathStats::attach(&Kernel::default())?;
        let (near, far) = connect(MPTCP, MPTCP)?;
        while stats.waiting().is_some() {}
        stats.sleep()?;
        assert_eq!(stats.waiting(), None, "nothing moves");
        for _ in 0..3 {
            send(&near, &far, 100_000)?;
        }
        let told: Vec<Event> = std::iter::from_fn(|| stats.waiting()).collect();
        assert_eq!(told, [Event::Awake]);
        Ok(())
    });
}

#[test]
fn a_full_ring_buffer_costs_beginnings_alone_and_the_living_are_still_read() {
    in_a_namespace(|runtime| {
        let mut stats = PathStats::attach(&Kernel::default())?;
        // Each connection has two ends, and each end a beginning that is told: more than the ring buffer has room for.
        let connections = 1000;
        for _ in 0..connections {
            connect(MPTCP, MPTCP)?;
        }
        let living = connect(MPTCP, MPTCP)?;
        assert!(stats.losses()?.openings > 0, "{:?}", stats.losses()?);
        // The kernel may still be closing the others.
        let looked_at = RefCell::new(&mut stats);
        let look = || Ok(read(&mut looked_at.borrow_mut())?.len());
        await_that("the two ends that live", look, |living| *living == 2)?;
        drop(living);
        let told = await_closed(runtime, &mut stats, 2 * connections + 2)?;
        let mut cookies: Vec<u64> = told.iter().filter_map(closing).map(|last| last.kept.cookie).collect();
        cookies.sort_unstable();
        cookies.dedup();
        assert_eq!(cookies.len(), 2 * connections + 2, "each end is told once");
        assert_eq!(told.iter().filter_map(closing).count(), cookies.len());
        let openings = told.iter().filter_map(opening).count() as u64;
        let losses = Losses { openings: 2 * connections as u64 + 2 - openings, ..Losses::default() };
        assert_eq!(stats.losses()?, losses);
        Ok(())
    });
}

fn read(stats: &mut PathStats) -> Result<Vec<Sample>> {
    let mut living = Vec::new();
    stats.read(|sample| living.push(*sample))?;
    Ok(living)
}

/// The subflow of a socket, by its local port.
fn end(living: &[Sample], socket: &Socket) -> Result<Sample> {
    let port = socket.local_addr()?.as_socket().context("an Internet address")?.port();
    // Both ends of a connection over loopback have the listener's port once as local and once as remote one.
    let remote = socket.peer_addr()?.as_socket().context("an Internet address")?.port();
    let is_it = |sample: &&Sample| (sample.kept.local_port, sample.kept.remote_port) == (port, remote);
    living.iter().find(is_it).copied().context("the socket's subflow is not there")
}

fn opening(event: &Event) -> Option<&Sample> {
    if let Event::Opened(sample) = event { Some(sample) } else { None }
}

/// A machine that is slow enough, as an emulated one may be, retransmits what has arrived.
fn sent_once(sample: &Sample) -> u64 {
    sample.live.bytes_sent - sample.live.bytes_retransmitted
}

fn closing(event: &Event) -> Option<&Sample> {
    if let Event::Closed(sample) = event { Some(sample) } else { None }
}

/// All events until so many subflows have ended, and those that are there after that.
fn await_closed(runtime: &Runtime, stats: &mut PathStats, number: usize) -> Result<Vec<Event>> {
    let mut told = Vec::new();
    while told.iter().filter(|event| closing(event).is_some()).count() < number {
        let next =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), stats.next()).await });
        told.push(next.context("no event in 10 s")??);
    }
    told.extend(std::iter::from_fn(|| stats.waiting()));
    Ok(told)
}

fn send(mut from: &Socket, mut to: &Socket, bytes: usize) -> Result<()> {
    let mut sent = vec![7; bytes];
    from.write_all(&sent).context("sending")?;
    to.read_exact(&mut sent).context("receiving")
}

fn initial(connections: u64) -> SubflowCounts {
    SubflowCounts { capable_active: connections, capable_passive: connections, ..SubflowCounts::default() }
}

/// Runs a test in a thread that has a network namespace of its own, one test at a time; the namespace goes with it.
fn in_a_namespace(test: impl FnOnce(&Runtime) -> Result<()> + Send + 'static) {
    let _turn = my_turn();
    let result =
        thread::spawn(|| with_a_runtime(|runtime| enter_a_namespace().and_then(|()| test(runtime)))).join();
    if let Err(error) = result.expect("the test's thread") {
        panic!("{error:?}");
    }
}

/// The ring buffer is waited for through a runtime.
fn with_a_runtime<T>(work: impl FnOnce(&Runtime) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    work(&runtime)
}

fn my_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter_a_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace: these tests need root")?;
    ip("link set lo up")
}

/// Whether the kernel calls programs only at the events of sockets that are younger than they are.
fn is_before_6_12() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().expect("a number"));
    Ok((numbers.next(), numbers.next()) < (Some(6), Some(12)))
}

fn ip(arguments: &str) -> Result<()> {
    let out = Command::new("ip").args(arguments.split(' ')).output().context("starting ip")?;
    ensure!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Opens a connection over loopback and sends a byte each way, so that both ends have it established for certain.
fn connect(client: Protocol, server: Protocol) -> Result<(Socket, Socket)> {
    connect_to(&listen(server)?, client)
}

fn listen(protocol: Protocol) -> Result<Socket> {
    let listener = socket(protocol)?;
    listener
        .bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .context("binding to loopback")?;
    listener.listen(1).context("listening")?;
    Ok(listener)
}

fn connect_to(listener: &Socket, client: Protocol) -> Result<(Socket, Socket)> {
    let near = socket(client)?;
    near.connect(&listener.local_addr()?).context("connecting over loopback")?;
    let (far, _) = listener.accept().context("accepting")?;
    pass_a_byte(&near, &far)?;
    pass_a_byte(&far, &near)?;
    Ok((near, far))
}

fn socket(protocol: Protocol) -> Result<Socket> {
    let made = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol));
    made.with_context(|| format!("making a socket of protocol {protocol:?}: this kernel may have no MPTCP"))
}

fn pass_a_byte(mut from: &Socket, mut to: &Socket) -> Result<()> {
    from.write_all(&[7]).context("sending a byte")?;
    let mut byte = [0];
    to.read_exact(&mut byte).context("receiving a byte")?;
    ensure!(byte == [7], "another byte arrived than was sent");
    Ok(())
}

fn await_counts(stats: &PathStats, expected: SubflowCounts) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while stats.counts()? != expected {
        ensure!(Instant::now() < deadline, "after 10 s {:?} instead of {expected:?}", stats.counts()?);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// How many of this process's files are programs, maps or links of eBPF.
fn bpf_files() -> Result<usize> {
    let is_bpf = |file: &fs::DirEntry| {
        fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("anon_inode:bpf"))
    };
    let files = fs::read_dir("/proc/self/fd").context("listing /proc/self/fd")?;
    Ok(files.flatten().filter(is_bpf).count())
}
