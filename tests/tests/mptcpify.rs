//! The object `mptcpify` on kernels that take it (Linux 6.6): applications that ask for TCP get MPTCP, those of others and
//! of other network namespaces do not. `cargo xtask test --vm` runs these tests.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::mptcpify::Mptcpify;
use mptcp_pm::config::Config;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};
use tests::cgroup::Cgroup;
use tests::daemon::{Daemon, await_that};
use tests::servers::{Accepted, Server, exec, words};
use tests::{Family, Host, Lab, Scenario};

/// One test at a time, each in a thread with a network namespace of its own, since the process has one name.
fn in_a_namespace(test: impl FnOnce(&tokio::runtime::Runtime) -> Result<()> + Send + 'static) -> Result<()> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace: these tests need root")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        test(&runtime)
    };
    thread::spawn(inside).join().expect("the test's thread")
}

fn attach(config: &str) -> Result<Mptcpify> {
    let config = Config::parse(config, "test.toml")?;
    Ok(Mptcpify::attach(&Kernel::default(), &config.applications)?)
}

/// What becomes of a socket of this process that is asked for without a protocol, or as TCP.
fn becomes(domain: Domain, asked: Option<Protocol>) -> Result<Protocol> {
    let socket = Socket::new(domain, Type::STREAM, asked).context("make a socket")?;
    socket.protocol()?.context("a protocol")
}

fn table(conditions: &str, mptcp: bool) -> String {
    format!("[[application]]\nmatch = {{ {conditions} }}\nmptcp = {mptcp}\n")
}

#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn sockets_become_mptcp_until_it_is_dropped_and_only_here() -> Result<()> {
    in_a_namespace(|_| {
        let attached = attach(&table("process = \"*\"", true))?;
        for domain in [Domain::IPV4, Domain::IPV6] {
            for asked in [None, Some(Protocol::TCP)] {
                assert_eq!(becomes(domain, asked)?, Protocol::MPTCP);
            }
        }
        let elsewhere = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            becomes(Domain::IPV4, None)
        });
        assert_eq!(elsewhere.join().expect("the other thread")?, Protocol::TCP);
        drop(attached);
        assert_eq!(becomes(Domain::IPV4, None)?, Protocol::TCP);
        Ok(())
    })
}

#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn the_first_table_that_fits_decides() -> Result<()> {
    in_a_namespace(|_| {
        let own = fs::read_to_string("/proc/self/comm")?.trim_end().to_owned();
        let beginning = &own[..4];
        for (config, expected) in [
            (table("process = \"curl\"", true), Protocol::TCP),
            (table(&format!("process = \"{{curl,{own}}}\""), true), Protocol::MPTCP),
            (table(&format!("process = \"{beginning}*\""), true), Protocol::MPTCP),
            (table(&format!("process = \"{own}\""), false) + &table("process = \"*\"", true), Protocol::TCP),
            (table("uid = 65534", false) + &table("uid = 0", true), Protocol::MPTCP),
            (table("uid = 65534", true), Protocol::TCP),
        ] {
            let _attached = attach(&config)?;
            assert_eq!(becomes(Domain::IPV4, None)?, expected, "{config}");
        }
        Ok(())
    })
}

/// The protocol of a socket that a process in a cgroup makes. Its shell enters before it is that program.
fn becomes_inside(cgroup: &Cgroup) -> Result<String> {
    let script = "echo $$ >\"$0/cgroup.procs\" && exec python3 -ISc \
                  'import socket; print(socket.socket().getsockopt(socket.SOL_SOCKET, 38))'";
    let output = Command::new("sh").args(["-c", script]).arg(cgroup.folder()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn cgroups_are_followed_with_what_is_inside_of_them() -> Result<()> {
    in_a_namespace(|runtime| {
        let older = Cgroup::make()?;
        let inside = older.inside("inside")?;
        let config =
            table("cgroup = \"/*/later\"", false) + &table(&format!("cgroup = {:?}", older.path()), true);
        let mut attached = attach(&config)?;
        assert_eq!(becomes_inside(&older)?, "262");
        assert_eq!(becomes_inside(&inside)?, "262");
        assert_eq!(becomes(Domain::IPV4, None)?, Protocol::TCP, "it is not inside");
        let later = older.inside("later")?;
        assert_eq!(becomes_inside(&later)?, "262", "nobody has looked: it counts as what it is inside of");
        runtime.block_on(attached.follow())?;
        assert_eq!(becomes_inside(&later)?, "6");
        Ok(())
    })
}

/// How often the program has run before `update_socket_protocol`, and how long all of that took by the kernel's statistics.
fn runs() -> Result<(u64, Duration)> {
    let programs = loaded_programs().collect::<Result<Vec<_>, _>>()?;
    let ours = programs.iter().filter(|program| program.name_as_str() == Some("mptcpify"));
    // The newest: one that was dropped may still be on its way.
    let ours = ours.max_by_key(|program| program.id()).context("it is not loaded")?;
    Ok((ours.run_count(), ours.run_time()))
}

/// What it costs when programs make sockets. Under emulation the nanoseconds are many times those of a machine; README.md,
/// "Figures", has those.
#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn ten_thousand_sockets_are_decided_on_one_by_one() -> Result<()> {
    const SOCKETS: u32 = 10_000;
    let make = |expected: Protocol| -> Result<Duration> {
        let begun = Instant::now();
        for _ in 0..SOCKETS {
            ensure!(becomes(Domain::IPV4, None)? == expected);
        }
        Ok(begun.elapsed() / SOCKETS)
    };
    in_a_namespace(move |_| {
        let _counting = enable_stats(Stats::RunTime).context("switch the statistics of eBPF programs on")?;
        let without = make(Protocol::TCP)?;
        let names = table("process = \"{curl,wget,python3*}\"", false);
        let mut told = Vec::new();
        for (conditions, expected) in
            [("process = \"*\"", Protocol::MPTCP), ("process = \"other\"", Protocol::TCP)]
        {
            let _attached = attach(&(names.clone() + &table(conditions, true)))?;
            let (count, time) = runs()?;
            let socket = make(expected)?;
            let (now, spent) = runs()?;
            ensure!(now - count >= u64::from(SOCKETS), "{} runs for {SOCKETS} sockets", now - count);
            let each = (spent - time).as_nanos() / u128::from(now - count);
            told.push(format!("a run {each} ns, a socket that becomes {expected:?} {socket:?}"));
        }
        println!("{}; a socket without the program {without:?}", told.join("; "));
        Ok(())
    })
}

const SAMPLE: &str = include_str!("../../packaging/mptcp-pm.toml");

/// What programs that need TCP set: one that signs segments (RFC 2385), one that saves connections.
const OPTIONS: &str = "
import errno, socket, struct, sys
open('/proc/self/comm', 'w').write(sys.argv[1])
made = socket.socket()
signature = struct.pack('@H126xBBHI80s', socket.AF_INET, 0, 0, 3, 0, b'key')
for name, option, value in (('TCP_MD5SIG', 14, signature), ('TCP_REPAIR', 19, 1)):
    try:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
        print(name, 'is set')
    except OSError as error:
        print(name, errno.errorcode[error.errno])
";

/// The sample configuration names programs that need what MPTCP lacks: they get TCP and all of it.
#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn what_needs_tcp_is_excluded_as_the_sample_configuration_says() -> Result<()> {
    in_a_namespace(|_| {
        let named =
            SAMPLE.lines().find(|line| line.contains("bird,")).and_then(|line| line.strip_prefix("#:"));
        let excluded = format!("[[application]]\n{}\nmptcp = false\n", named.context("a table with bird")?);
        let _attached = attach(&(excluded + &table("process = \"*\"", true)))?;
        let run = |name: &str| -> Result<String> {
            let output = Command::new("python3").args(["-ISc", OPTIONS, name]).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?)
        };
        assert_eq!(run("bird")?, "TCP_MD5SIG is set\nTCP_REPAIR is set\n");
        assert_eq!(run("gobgpd")?, "TCP_MD5SIG is set\nTCP_REPAIR is set\n");
        assert_eq!(run("other")?, "TCP_MD5SIG ENOPROTOOPT\nTCP_REPAIR ENOPROTOOPT\n");
        Ok(())
    })
}

/// The whole of it: a daemon that is told so, and Debian's programs, which nobody has touched.
#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn programs_use_both_accesses_and_what_is_excluded_stays_tcp() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let (client, far) = (lab.host("client"), lab.host("server"));
    let config = "profile = \"heavy\"\n".to_owned()
        + &table("process = \"{ssh,wget}\"", false)
        + &table("process = \"*\"", true);
    let daemon = Daemon::start(client, &config)?;
    let server = Server::nginx(far, &exec()?, 2 << 20)?;
    let url = server.url("10.9.0.2".parse()?);
    let to = client.scratch().join("file");
    let file = to.display().to_string();
    let (curl, wget) = (["curl", "-sSf", "-o", &file], ["wget", "-q", "-O", &file]);
    await_that("two endpoints", || tests::kernel::endpoints(client), |seen| seen.len() == 2)?;
    let seen = fetch(client, &curl, &server, &url, &to)?;
    assert!(seen.mptcp == 1 && seen.joined >= 1, "{seen:?}");
    assert_eq!(fetch(client, &wget, &server, &url, &to)?.mptcp, 0, "is excluded");

    // A program in Go asks the kernel itself. It is told that there is no such thing, by MPTCP.
    let promtool = std::env::var("PROMTOOL").context("where is promtool? use `cargo xtask test --vm`")?;
    let before = server.accepted()?;
    let address = format!("http://10.9.0.2:{}", server.port);
    client.command(promtool).args(["query", "instant", &address, "up"]).output()?;
    assert_eq!(server.accepted()?.since(before).mptcp, 1);

    // A server that is converted serves both.
    let near = Server::nginx(client, &[], 1 << 16)?;
    let url = near.url("10.1.0.2".parse()?);
    let spoken = words(&exec()?, &curl);
    let spoken: Vec<&str> = spoken.iter().map(String::as_str).collect();
    assert_eq!(fetch(far, &spoken, &near, &url, &to)?.mptcp, 1);
    assert_eq!(fetch(far, &curl, &near, &url, &to)?.mptcp, 0, "who speaks TCP gets TCP");

    daemon.write_config("profile = \"heavy\"\n")?;
    let reloaded = daemon.command(&["reload"])?.output()?;
    ensure!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    let url = server.url("10.9.0.2".parse()?);
    assert_eq!(fetch(client, &curl, &server, &url, &to)?.mptcp, 0, "nobody asks for it any more");
    daemon.stop()
}

/// Has a command fetch a server's file, and says what connections that made.
fn fetch(host: &Host, command: &[&str], server: &Server, url: &str, to: &Path) -> Result<Accepted> {
    let before = server.accepted()?;
    let output = host.command(command[0]).args(&command[1..]).arg(url).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(server.is_same(to)?, "{command:?}: another file has arrived");
    Ok(server.accepted()?.since(before))
}
