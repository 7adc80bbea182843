//! The object `path_stats` on the running kernel: it counts the MPTCP subflows of its own namespace, and nothing else.
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::path_stats::{PathStats, SubflowCounts};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const MPTCP: Protocol = Protocol::MPTCP;
const TCP: Protocol = Protocol::TCP;

#[test]
fn each_mptcp_connection_counts_once_at_either_end() {
    in_a_namespace(|| {
        let stats = PathStats::attach()?;
        let open = (0..5).map(|_| connect(MPTCP, MPTCP)).collect::<Result<Vec<_>>>()?;
        assert_eq!(stats.counts()?, initial(5));
        drop(open);
        assert_eq!(stats.counts()?, initial(5), "closing counted");
        Ok(())
    });
}

#[test]
fn what_is_or_becomes_plain_tcp_does_not_count() {
    in_a_namespace(|| {
        let stats = PathStats::attach()?;
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
    in_a_namespace(|| {
        ip("mptcp limits set subflows 1 add_addr_accepted 0")?;
        ip("mptcp endpoint add 127.0.0.2 subflow")?;
        let stats = PathStats::attach()?;
        let _open = connect(MPTCP, MPTCP)?;
        let expected = SubflowCounts { join_active: 1, join_passive: 1, ..initial(1) };
        // The kernel joins when it likes to; nothing that a socket could wait for tells when both ends have done so.
        await_counts(&stats, expected)
    });
}

#[test]
fn each_namespace_has_its_own_counts() {
    in_a_namespace(|| {
        let here = PathStats::attach()?;
        let elsewhere = thread::spawn(|| -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let _inside = runtime.enter();
            enter_a_namespace()?;
            let there = PathStats::attach()?;
            for _ in 0..3 {
                connect(MPTCP, MPTCP)?;
            }
            assert_eq!(there.counts()?, initial(3));
            Ok(())
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
    in_a_namespace(|| {
        let before = bpf_files()?;
        let stats = PathStats::attach()?;
        ensure!(bpf_files()? > before, "an attached program has a link that this process holds");
        drop(stats);
        // Programs, maps and links live as long as a file descriptor refers to them.
        assert_eq!(bpf_files()?, before);
        Ok(())
    });
}

#[test]
fn a_subflow_is_told_followed_read_and_told_once_more() {
    in_a_namespace(|| {
        let mut stats = PathStats::attach()?;
        println!("absent: {:?}", stats.absent());
        let (mut near, mut far) = connect(MPTCP, MPTCP)?;
        near.write_all(&[1; 100_000])?;
        let mut b = vec![0; 100_000];
        far.read_exact(&mut b)?;
        stats.read(|sample| println!("{sample:?}"))?;
        drop((near, far));
        while let Some(event) = stats.waiting() {
            println!("{event:?}");
        }
        anyhow::bail!("see");
    });
}

fn initial(connections: u64) -> SubflowCounts {
    SubflowCounts { capable_active: connections, capable_passive: connections, ..SubflowCounts::default() }
}

/// Runs a test in a thread that has a network namespace of its own, one test at a time; the namespace goes with it.
fn in_a_namespace(test: impl FnOnce() -> Result<()> + Send + 'static) {
    let _turn = my_turn();
    let result = thread::spawn(|| {
        // The ring buffer is waited for through the runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        enter_a_namespace().and_then(|()| test())
    })
    .join();
    if let Err(error) = result.expect("the test's thread") {
        panic!("{error:?}");
    }
}

fn my_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter_a_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace: these tests need root")?;
    ip("link set lo up")
}

fn ip(arguments: &str) -> Result<()> {
    let out = Command::new("ip").args(arguments.split(' ')).output().context("starting ip")?;
    ensure!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Opens a connection over loopback and sends a byte each way, so that both ends have it established for certain.
fn connect(client: Protocol, server: Protocol) -> Result<(Socket, Socket)> {
    let listener = socket(server)?;
    listener
        .bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .context("binding to loopback")?;
    listener.listen(1).context("listening")?;
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
