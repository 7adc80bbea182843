//! The object `coupled` on the running kernel: its congestion controls are there to be chosen, subflows find each other,
//! and nothing is left when they end.
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mptcp_common::{MAX_SUBFLOWS, coupled::Figures};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::coupled::{Algorithm, Coupled};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tests::congestion::turn;
use tests::daemon::await_that;
use tests::traffic::{self, Job, Options, Server, Spoken};
use tests::{Family, Lab, Scenario};

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn they_can_be_chosen_until_they_are_unregistered() {
    in_a_namespace(|| {
        let coupled = Coupled::register(&Kernel::default())?;
        for list in ["available", "allowed"] {
            ensure!(Algorithm::ALL.iter().all(|algorithm| is_listed(list, *algorithm)), "not {list}");
        }
        for algorithm in Algorithm::ALL {
            for protocol in [Protocol::TCP, Protocol::MPTCP] {
                let socket = socket(protocol)?;
                socket.set_tcp_congestion(algorithm.name().as_bytes())?;
                assert_eq!(chosen(&socket)?, algorithm.name());
            }
        }
        let second = Coupled::register(&Kernel::default()).err().context("the names are taken")?;
        ensure!(second.to_string().contains("registering tcp_congestion_ops"), "{second}");
        drop(coupled);
        assert!(!Algorithm::ALL.iter().any(|algorithm| is_listed("available", *algorithm)));
        let refused = socket(Protocol::TCP)?.set_tcp_congestion(b"lia").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ENOENT as i32));
        Coupled::register(&Kernel::default()).map(drop).context("registering them again")
    });
}

#[test]
fn sockets_that_live_longer_go_on_with_it() {
    in_a_namespace(|| {
        for protocol in [Protocol::TCP, Protocol::MPTCP] {
            let coupled = Coupled::register(&Kernel::default())?;
            let (near, far) = connect(protocol, "balia")?;
            send(&near, &far, 100_000)?;
            drop(coupled);
            assert!(!is_listed("available", Algorithm::Balia));
            send(&near, &far, 3_000_000)?;
            assert_eq!(chosen(&near)?, "balia");
        }
        Ok(())
    });
}

#[test]
fn plain_tcp_is_coupled_with_nothing() {
    in_a_namespace(|| {
        let coupled = Coupled::register(&Kernel::default())?;
        for algorithm in Algorithm::ALL {
            let (near, far) = connect(Protocol::TCP, algorithm.name())?;
            send(&near, &far, 1_000_000)?;
            assert_eq!(coupled.subflows()?, 0);
            // The same object does see MPTCP.
            let (near, far) = connect(Protocol::MPTCP, algorithm.name())?;
            send(&near, &far, 1_000_000)?;
            let connections = coupled.connections()?;
            assert!(connections.iter().any(|(_, subflows)| !subflows.is_empty()), "{connections:?}");
            drop((near, far));
            await_nothing(&coupled)?;
        }
        Ok(())
    });
}

#[test]
fn many_connections_leave_nothing() {
    in_a_namespace(|| {
        let coupled = Coupled::register(&Kernel::default())?;
        let mut open = Vec::new();
        for number in 0..1000 {
            let algorithm = Algorithm::ALL[number % Algorithm::ALL.len()];
            let (near, far) = connect(Protocol::MPTCP, algorithm.name())?;
            send(&near, &far, 5000)?;
            open.push((near, far));
            // Some end while others begin.
            if number % 3 == 0 {
                open.swap_remove(number % open.len());
            }
        }
        ensure!(coupled.subflows()? >= open.len(), "{} of {}", coupled.subflows()?, open.len());
        drop(open);
        await_nothing(&coupled)?;
        drop(coupled);
        let left = Algorithm::ALL.into_iter().filter(|algorithm| is_listed("available", *algorithm));
        ensure!(left.clone().count() == 0, "still registered: {:?}", left.collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn two_subflows_share_what_they_know_and_the_data_arrives() -> Result<()> {
    let _turn = turn()?;
    let coupled = Coupled::register(&Kernel::default())?;
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    client.ip("mptcp endpoint add 10.2.0.2 dev lte0 subflow")?;
    for algorithm in Algorithm::ALL {
        let server = Server::start(lab.host("server"), traffic::Protocol::Mptcp)?;
        let options = Options { congestion: Some(algorithm.name().to_owned()), ..Options::bytes(12 << 20) };
        let transfer = traffic::start(client, &server, Job::BulkUp, options)?;
        let (token, subflows) = await_pair(&coupled)?;
        assert_ne!(token, 0);
        // The one way has a round-trip time of 20 ms and more, the other of 80 ms: `window / rate` in eighths of 1 µs.
        let mut times = subflows.each_ref().map(|path| (u64::from(path.window) << 40) / path.rate / 8000);
        times.sort_unstable();
        assert!(times[0] >= 19 && times[1] >= 79, "{times:?} ms, {subflows:?}");
        let report = transfer.join()?;
        assert!(report.intact() && report.spoken == Spoken::Mptcp, "{report:?}");
        // It keeps its end open until then.
        drop(server);
        await_nothing(&coupled).with_context(|| format!("after {}", algorithm.name()))?;
        let lost: u64 = lab.links().map(|link| link.counters().up.dropped_queue.packets).sum();
        // Only where a kernel skips programs are there any, see the README's limits.
        println!("{}: {} windows put right by now, {lost} packets lost", algorithm.name(), coupled.mended()?);
    }
    Ok(())
}

/// Up to Linux 6.18 the kernel adds at most eight to the first one.
#[test]
fn all_subflows_are_coupled_that_the_kernel_opens() -> Result<()> {
    const ADDED: usize = 8;
    let _turn = turn()?;
    let coupled = Coupled::register(&Kernel::default())?;
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    for host in ["client", "server"] {
        lab.host(host).ip(&format!("mptcp limits set subflows {ADDED}"))?;
    }
    for number in 11..11 + ADDED {
        client.ip(&format!("address add 10.1.0.{number}/24 dev wifi0"))?;
        client.ip(&format!("mptcp endpoint add 10.1.0.{number} dev wifi0 subflow"))?;
    }
    let server = Server::start(lab.host("server"), traffic::Protocol::Mptcp)?;
    let options = Options { congestion: Some("balia".to_owned()), ..Options::bytes(12 << 20) };
    let transfer = traffic::start(client, &server, Job::BulkUp, options)?;
    let know_each_other = |connections: &Vec<(u32, Vec<Figures>)>| {
        connections.iter().any(|(_, subflows)| subflows.len() == ADDED + 1)
    };
    await_that("subflows that know each other", || Ok(coupled.connections()?), know_each_other)?;
    assert!(transfer.join()?.intact());
    drop(server);
    await_nothing(&coupled)
}

/// A connection both of whose subflows have sent something; nothing that could be waited for tells when.
fn await_pair(coupled: &Coupled) -> Result<(u32, [Figures; 2])> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let connections = coupled.connections()?;
        let pair = connections.iter().find_map(|(token, subflows)| {
            assert!(subflows.len() < MAX_SUBFLOWS);
            Some((*token, <[Figures; 2]>::try_from(subflows.as_slice()).ok()?))
        });
        if let Some(pair) = pair {
            return Ok(pair);
        }
        ensure!(Instant::now() < deadline, "no two subflows after {TIMEOUT:?}: {connections:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The kernel closes when it likes to.
fn await_nothing(coupled: &Coupled) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while coupled.subflows()? + coupled.connections()?.len() > 0 {
        let left = coupled.connections()?;
        ensure!(Instant::now() < deadline, "{} subflows are left: {left:?}", coupled.subflows()?);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Runs a test in a thread that has a network namespace of its own.
fn in_a_namespace(test: impl FnOnce() -> Result<()> + Send + 'static) {
    let in_turn = || {
        let _turn = turn()?;
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace: these tests need root")?;
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
        ensure!(up.success(), "ip link set lo up");
        test()
    };
    if let Err(error) = thread::spawn(in_turn).join().expect("the test's thread") {
        panic!("{error:?}");
    }
}

/// Whether this namespace's sysctl lists it.
fn is_listed(list: &str, algorithm: Algorithm) -> bool {
    let names = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{list}_congestion_control"));
    let names = names.expect("the list of congestion controls");
    names.split_whitespace().any(|name| name == algorithm.name())
}

fn chosen(socket: &Socket) -> Result<String> {
    let name = socket.tcp_congestion()?;
    Ok(String::from_utf8(name)?.trim_end_matches('\0').to_owned())
}

fn socket(protocol: Protocol) -> Result<Socket> {
    let made = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol));
    made.with_context(|| format!("making a socket of protocol {protocol:?}: this kernel may have no MPTCP"))
}

/// Opens a connection over loopback, both of whose ends have the congestion control.
fn connect(protocol: Protocol, congestion: &str) -> Result<(Socket, Socket)> {
    let listener = socket(protocol)?;
    listener.set_tcp_congestion(congestion.as_bytes())?;
    listener.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).context("binding")?;
    listener.listen(1).context("listening")?;
    let near = socket(protocol)?;
    near.set_tcp_congestion(congestion.as_bytes())?;
    near.connect(&listener.local_addr()?).context("connecting over loopback")?;
    let (far, _) = listener.accept().context("accepting")?;
    Ok((near, far))
}

/// Sends so many bytes, and has them all come back.
fn send(near: &Socket, far: &Socket, bytes: usize) -> Result<()> {
    let sent: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
    let sent = sent.as_slice();
    for (mut from, mut to) in [(near, far), (far, near)] {
        let mut received = vec![0; bytes];
        thread::scope(|scope| {
            let sender = scope.spawn(move || from.write_all(sent));
            to.read_exact(&mut received).context("receiving")?;
            sender.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked"))).context("sending")
        })?;
        ensure!(received == sent, "other bytes arrived than were sent");
    }
    Ok(())
}
