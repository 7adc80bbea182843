//! Subflows that could not be made at first: the kernel's path manager tries each once, the daemon lets it try again.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tests::daemon::{Daemon, await_that};
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::traffic::{Job, Options, start};
use tests::{Family, Lab, Outage, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const BOTH: [&str; 2] = ["10.1.0.2", "10.2.0.2"];
/// What an outage lasts during which the kernel looks for the gateway (three questions, one each second), and does not
/// ask once more when the access is back.
const UNLUCKY: Duration = Duration::from_millis(2500);

/// An access point may have a carrier long before it forwards anything.
#[test]
fn a_gateway_that_does_not_answer_yet_is_tried_again() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&BOTH)?;
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_reason("wifi0", "has no carrier")?;
    run.await_endpoints(&[LTE])?;
    let router = run.lab.host("wifi-router");
    router.ip("link set lan0 arp off")?;
    run.lab.link("wifi").outage(Outage::None)?;
    let tried = |log: &String| log.matches("subflows that failed are tried again").count();
    await_that("two attempts", || Ok(run.daemon.log()), |log| tried(log) >= 2)?;
    goes_on(&talk)?;
    router.ip("link set lan0 arp on")?;
    run.await_subflows(&BOTH)?;
    run.await_status("no finding", |status| status["findings"] == json!([]))?;
    goes_on(&talk)
}

#[test]
fn an_outage_during_which_the_gateway_was_looked_for_leaves_no_connection_behind() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let bulk = Options::duration(Duration::from_secs(120));
    let transfer = start(run.client(), &run.server, Job::BulkUp, bulk)?;
    run.await_subflows(&BOTH)?;
    run.lab.link("wifi").outage(Outage::Down)?;
    // The length is what matters; nothing happens that could be waited for.
    sleep(UNLUCKY);
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_subflows(&BOTH)?;
    goes_on(&transfer)
}

/// One connection has its subflow over Wi-Fi, another one could not make it: a new attempt would close the first one's.
#[test]
fn a_subflow_that_lives_is_not_closed_for_one_that_failed() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    // Connections begin over the modem.
    lab.host("client").ip("route del default via 10.1.0.1 dev wifi0 metric 600")?;
    lab.host("client").ip("route add default via 10.1.0.1 dev wifi0 proto dhcp metric 800")?;
    let run = Running::in_lab(lab, HEAVY)?;
    let first = run.talk()?;
    let before = run.await_subflows(&BOTH)?;
    let router = run.lab.host("wifi-router");
    router.ip("link set lan0 arp off")?;
    run.client().ip("neigh del 10.1.0.1 dev wifi0")?;
    let second = run.talk()?;
    let closed = kernel::counter(run.client(), "RmSubflow")?;
    let waits = |status: &Value| {
        let is_it = |finding: &Value| {
            finding["object"] == "subflows from 10.1.0.2"
                && finding["reason"].as_str().is_some_and(|reason| reason.contains("another connection"))
        };
        status["findings"].as_array().is_some_and(|all| all.iter().any(is_it))
    };
    run.daemon.await_that("a subflow that waits", || run.daemon.status(), waits)?;
    router.ip("link set lan0 arp on")?;
    goes_on(&first)?;
    goes_on(&second)?;
    let seen = kernel::subflows(run.client())?;
    assert!(before.iter().all(|subflow| seen.contains(subflow)), "{before:?} {seen:?}");
    assert_eq!(kernel::counter(run.client(), "RmSubflow")?, closed);
    drop(first);
    run.await_subflows(&BOTH)?;
    goes_on(&second)
}

/// A connection to the server, both its ends, over which a round trip has been made; and the listener, to which further
/// subflows lead.
fn connected(run: &Running) -> Result<(Socket, [TcpStream; 2])> {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let listener = run.lab.host("server").run(socket)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    listener.listen(1)?;
    let port = listener.local_addr()?.as_socket().map_or(0, |addr| addr.port());
    let near = run.client().run(socket)?;
    near.connect(&SocketAddr::from((SERVER, port)).into())?;
    let (far, _) = listener.accept()?;
    let mut ends = [near, far].map(TcpStream::from);
    ends.iter().try_for_each(|end| end.set_read_timeout(Some(Duration::from_secs(20))))?;
    exchange(&mut ends)?;
    ends.reverse();
    exchange(&mut ends)?;
    ends.reverse();
    Ok((listener, ends))
}

/// From the first to the second one.
fn exchange([from, to]: &mut [TcpStream; 2]) -> Result<()> {
    from.write_all(&[7; 1000])?;
    Ok(to.read_exact(&mut [0; 1000])?)
}

/// The kernel makes no further subflow where one end has nothing more to send: that is found out once at most, and what the other
/// one sends goes on coming.
#[test]
fn a_connection_that_one_end_has_closed_is_not_joined_in_vain() -> Result<()> {
    for closer in 0..2 {
        let run = Running::start("two-providers", Family::V4, "manager = \"daemon\"\nprofile = \"heavy\"\n")?;
        let (_listener, mut ends) = connected(&run)?;
        run.await_subflows(&BOTH)?;
        ends[closer].shutdown(Shutdown::Write)?;
        ensure!(ends[1 - closer].read(&mut [0])? == 0, "more came than was sent");
        for _ in 0..3 {
            run.lab.link("lte").outage(Outage::Down)?;
            run.await_subflows(&BOTH[..1])?;
            run.lab.link("lte").outage(Outage::None)?;
            // What begins then has both; by then everything was tried for the other one, too.
            let talk = run.talk()?;
            let look = || kernel::subflows(run.client());
            run.daemon.await_that("three subflows", look, |seen| seen.len() == 3)?;
            drop(talk);
            run.await_subflows(&BOTH[..1])?;
        }
        let refused = run.daemon.log().matches("ENOTCONN").count();
        // Not at all where the daemon has looked at its connections just then.
        ensure!(refused <= 1, "tried {refused} times; {}", run.daemon.log());
        if closer == 0 {
            ends.reverse();
        }
        exchange(&mut ends)?;
        // A successor sees it in the dump.
        let Running { daemon, server, lab } = run;
        daemon.kill()?;
        let daemon = Daemon::start(lab.host("client"), "manager = \"daemon\"\nprofile = \"heavy\"\n")?;
        let run = Running { daemon, server, lab };
        let talk = run.talk()?;
        let look = || kernel::subflows(run.client());
        run.daemon.await_that("three subflows", look, |seen| seen.len() == 3)?;
        ensure!(!run.daemon.log().contains("ENOTCONN"), "{}", run.daemon.log());
        goes_on(&talk)?;
        exchange(&mut ends)?;
    }
    Ok(())
}
