//! What goes through a VPN does not go beside it.
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::{Family, Host, Lab, Scenario};
use tun_rs::{DeviceBuilder, SyncDevice};

const HEAVY: &str = "profile = \"heavy\"\n";
const SHARED: &str = "profile = \"heavy\"\nshare-with-vpn = true\n";
const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";
/// For uplinks, of IPv4 and of IPv6.
const UPLINKS: [&str; 4] = [WIFI, LTE, "2001:db8:1::2 subflow dev wifi0", "2001:db8:2::2 subflow dev lte0"];
const STANDS_ASIDE: &str = "stands aside: vpn0 is a VPN and carries the default route";

/// A VPN's interface, up and with addresses; it is gone when this is dropped.
fn tunnel(client: &Host) -> Result<SyncDevice> {
    let device: std::io::Result<_> = client.run(|| DeviceBuilder::new().name("vpn0").build_sync());
    let lines = [
        "link set vpn0 addrgenmode none",
        "address add 10.99.0.2/24 dev vpn0",
        "address add 2001:db8:99::2/64 dev vpn0 nodad",
        "link set vpn0 up",
    ];
    client.ip_batch(&[], &lines.map(str::to_owned))?;
    Ok(device?)
}

/// With a VPN that takes all traffic, put in place and taken away by these lines, the uplinks stand aside.
fn takes_over(up: &[&str], down: &[&str]) -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    run.await_endpoints(&UPLINKS)?;
    let client = run.client();
    let before = kernel::dump(client)?["-4 rule"].clone();
    let _tunnel = tunnel(client)?;
    run.await_reason("vpn0", "is a VPN or tunnel (tun); name it in an [[uplink]] table to use it")?;
    run.await_endpoints(&UPLINKS)?;
    up.iter().try_for_each(|line| client.ip(line).map(drop))?;
    run.await_endpoints(&[])?;
    run.await_reason("wifi0", STANDS_ASIDE)?;
    run.await_reason("lte0", STANDS_ASIDE)?;
    let rules = client.ip("rule")? + &client.ip("-6 rule")?;
    assert!(!rules.contains("proto 77"), "{rules}");
    down.iter().try_for_each(|line| client.ip(line).map(drop))?;
    run.await_endpoints(&UPLINKS)?;
    run.await_status("all as wanted", |_| true)?;
    assert_eq!(kernel::dump(client)?["-4 rule"], before);
    Ok(())
}

#[test]
fn uplinks_stand_aside_for_a_vpn_with_the_default_route() -> Result<()> {
    takes_over(&["route add default dev vpn0 metric 50"], &["route del default dev vpn0 metric 50"])
}

#[test]
fn uplinks_stand_aside_for_a_vpn_with_two_halves_of_a_default_route() -> Result<()> {
    takes_over(
        &["route add 0.0.0.0/1 dev vpn0", "route add 128.0.0.0/1 dev vpn0"],
        &["route del 0.0.0.0/1 dev vpn0", "route del 128.0.0.0/1 dev vpn0"],
    )
}

/// As wg-quick does it.
#[test]
fn uplinks_stand_aside_for_a_vpn_with_a_table_and_rules_of_its_own() -> Result<()> {
    takes_over(
        &[
            "route add default dev vpn0 table 51820",
            "rule add not fwmark 51820 table 51820",
            "rule add table main suppress_prefixlength 0",
        ],
        &[
            "rule del table main suppress_prefixlength 0",
            "rule del not fwmark 51820 table 51820",
            "route del default dev vpn0 table 51820",
        ],
    )
}

#[test]
fn a_vpn_that_vanishes_gives_the_uplinks_back() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    let tunnel = tunnel(run.client())?;
    run.client().ip("route add default dev vpn0 metric 50")?;
    run.await_endpoints(&[])?;
    drop(tunnel);
    run.await_endpoints(&UPLINKS)?;
    let talk = run.talk()?;
    goes_on(&talk)
}

/// A connection that began beside the VPN, before it was there, does not die of it.
#[test]
fn a_vpn_with_less_than_the_best_default_route_changes_nothing() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    let talk = run.talk()?;
    let _tunnel = tunnel(run.client())?;
    run.client().ip("route add default dev vpn0 metric 5000")?;
    run.await_status("all as wanted", |_| true)?;
    run.await_endpoints(&UPLINKS)?;
    goes_on(&talk)
}

#[test]
fn sharing_lifts_the_separation() -> Result<()> {
    let config = format!("{SHARED}[[uplink]]\nmatch = {{ name = \"vpn0\" }}\nrole = \"backup\"\n");
    let run = Running::start("two-providers", Family::V4, &config)?;
    let _tunnel = tunnel(run.client())?;
    run.client().ip("route add default dev vpn0 metric 50")?;
    run.await_endpoints(&[WIFI, LTE, "10.99.0.2 subflow backup dev vpn0"])
}

#[test]
fn a_named_vpn_is_used_alone_while_it_carries_the_default_route() -> Result<()> {
    let config = format!("{HEAVY}[[uplink]]\nmatch = {{ name = \"vpn*\" }}\n");
    let run = Running::start("two-providers", Family::V4, &config)?;
    let client = run.client();
    let _tunnel = tunnel(client)?;
    client.ip("route add default dev vpn0 metric 50")?;
    run.await_endpoints(&["10.99.0.2 subflow dev vpn0"])?;
    client.ip("route add default dev vpn0 metric 5000")?;
    client.ip("route del default dev vpn0 metric 50")?;
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_reason("vpn0", "stands aside: it is a VPN, and the default route is beside it")
}

/// Whether TCP begins to connect to an address from an address and interface of an uplink.
fn is_tried(client: &Host, from: &str, to: &str) -> Result<bool> {
    let (from, to): (IpAddr, IpAddr) = (from.parse()?, to.parse()?);
    let connect = || -> Result<bool> {
        let socket = Socket::new(Domain::for_address((to, 9).into()), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(b"wifi0"))?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        match socket.connect(&SocketAddr::from((to, 9)).into()) {
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {
                // An attempt that ends at this machine is over at once.
                let end = socket.take_error()?;
                Ok(end.is_none_or(|error| error.kind() != ErrorKind::ConnectionRefused))
            }
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => Ok(false),
            other => bail!("connect to {to}: {other:?}"),
        }
    };
    client.run(connect)
}

/// The company's network lies behind the VPN, the rest of the Internet does not.
#[test]
fn no_subflow_of_an_uplink_leads_to_the_networks_of_a_split_tunnel() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    let client = run.client();
    let _tunnel = tunnel(client)?;
    for (option, from, network, inside, outside) in [
        ("-4", "10.1.0.2", "10.9.0.0/24", "10.9.0.2", "10.8.0.2"),
        ("-6", "2001:db8:1::2", "2001:db8:9::/64", "2001:db8:9::2", "2001:db8:8::2"),
    ] {
        let table = || client.ip(&format!("{option} route show table all proto 77"));
        let refusals = |count: usize| move |seen: &String| seen.matches(network).count() == count;
        ensure!(is_tried(client, from, inside)?, "without a network behind the VPN there is nothing to show");
        client.ip(&format!("{option} route add {network} dev vpn0"))?;
        run.daemon.await_that("a refusal in both tables", table, refusals(2))?;
        run.await_endpoints(&UPLINKS)?;
        ensure!(!is_tried(client, from, inside)?, "a subflow from {from} to {inside} goes beside the VPN");
        ensure!(is_tried(client, from, outside)?, "the rest of the Internet is reached beside the VPN");
        client.ip(&format!("{option} route del {network} dev vpn0"))?;
        run.daemon.await_that("no refusal", table, refusals(0))?;
    }
    let talk = run.talk()?;
    goes_on(&talk)
}

/// A lab with a tunnel from the client to the server, which the accesses reach too.
fn lab_with_tunnel(family: Family) -> Result<Lab> {
    let mut scenario = Scenario::load("two-providers")?;
    let mut link = scenario.link("wifi")?.clone();
    (link.name, link.from, link.to, link.carrier) = ("vpn0".into(), "client".into(), "server".into(), None);
    link.prefixes = vec!["10.99.0.2/32".parse()?, "2001:db8:99::2/128".parse()?];
    scenario.links.push(link);
    let lab = Lab::start(&scenario, family)?;
    let [address, option] = of(family, ["10.99.0.2/32", "-4"], ["2001:db8:99::2/128", "-6"]);
    lab.host("client").ip(&format!("address add {address} dev vpn0"))?;
    lab.host("client").ip(&format!("{option} route del default dev vpn0"))?;
    Ok(lab)
}

/// What differs between the families.
fn of<T>(family: Family, v4: T, v6: T) -> T {
    if family == Family::V4 { v4 } else { v6 }
}

/// Talks to the server through the tunnel: no packet may go beside it.
fn stays_inside(run: &Running) -> Result<()> {
    let beside = || ["wifi", "lte"].map(|link| run.lab.link(link).counters().up.received.packets);
    let before = beside();
    let talk = run.talk()?;
    goes_on(&talk)?;
    let inside = of(run.lab.family(), "10.99.0.2", "2001:db8:99::2");
    let subflows = kernel::subflows(run.client())?;
    assert!(subflows.iter().all(|one| one.local.ip().to_string() == inside), "{subflows:?}");
    assert_eq!(beside(), before, "packets beside the VPN");
    Ok(())
}

#[test]
fn a_connection_inside_a_vpn_gets_no_subflow_beside_it() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let run = Running::in_lab(lab_with_tunnel(family)?, HEAVY)?;
        run.daemon.await_that("endpoints", || kernel::endpoints(run.client()), |seen| seen.len() == 2)?;
        let option = of(family, "-4", "-6");
        run.client().ip(&format!("{option} route add default dev vpn0 metric 50"))?;
        run.await_endpoints(&[])?;
        stays_inside(&run)?;
        assert_eq!(kernel::counter(run.client(), "MPJoinSynTx")?, 0);
    }
    Ok(())
}

#[test]
fn a_connection_into_a_split_tunnel_gets_no_subflow_beside_it() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let run = Running::in_lab(lab_with_tunnel(family)?, HEAVY)?;
        let [option, network, source] =
            of(family, ["-4", "10.9.0.0/24", "10.99.0.2"], ["-6", "2001:db8:9::/64", "2001:db8:99::2"]);
        let inside = format!("{option} route add {network} dev vpn0 src {source}");
        run.client().ip(&inside)?;
        let table = || run.client().ip(&format!("{option} route show table all proto 77"));
        run.daemon.await_that("refusals", table, |seen| seen.matches(network).count() == 2)?;
        run.daemon.await_that("endpoints", || kernel::endpoints(run.client()), |seen| seen.len() == 2)?;
        stays_inside(&run)?;
        if run.daemon.status()?["manager"] == "daemon" {
            // It knows that there is nothing to be tried.
            assert_eq!(kernel::counter(run.client(), "MPJoinSynTx")?, 0);
            continue;
        }
        // IPv4 refuses before there is a packet, IPv6 sends it to this machine.
        let counter = of(family, "MPJoinSynTxConnectErr", "MPJoinSynTx");
        assert!(kernel::counter(run.client(), counter)? > 0, "no subflow was tried");
    }
    Ok(())
}
