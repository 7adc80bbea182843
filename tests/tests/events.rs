//! What happens to links, addresses and routes, and what becomes of connections then.
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use tests::daemon::await_that;
use tests::kernel::{self, Subflow};
use tests::running::{Running, WIFI_ROUTE, goes_on, uplink};
use tests::{Family, Host, Lab, Outage, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";
const LIGHT: &str = "profile = \"light\"\n";
/// Only one access.
const WIFI_ONLY: &str = "[[uplink]]\nmatch = { name = \"lte0\" }\nrole = \"off\"\n";

const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";

#[test]
fn a_link_that_is_set_down_is_left_and_used_again() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    run.client().ip("link set wifi0 down")?;
    run.await_endpoints(&[LTE])?;
    run.await_subflows(&["10.2.0.2"])?;
    run.await_reason("wifi0", "is down")?;
    goes_on(&talk)?;
    run.client().ip("link set wifi0 up")?;
    run.client().ip(WIFI_ROUTE)?;
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    goes_on(&talk)
}

#[test]
fn an_access_without_carrier_is_left_and_used_again() -> Result<()> {
    let run = Running::start("two-providers", Family::V6, HEAVY)?;
    let (wifi, lte) = ("2001:db8:1::2", "2001:db8:2::2");
    let talk = run.talk()?;
    run.await_subflows(&[wifi, lte])?;
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_endpoints(&["2001:db8:2::2 subflow dev lte0"])?;
    run.await_subflows(&[lte])?;
    run.await_reason("wifi0", "has no carrier")?;
    goes_on(&talk)?;
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_subflows(&[wifi, lte])?;
    goes_on(&talk)
}

/// The kernel joins no second subflow before the other end has acknowledged something. The server never speaks first here,
/// so that the client's end stays in its handshake for as long as it says nothing.
#[test]
fn a_connection_in_its_handshake_outlives_the_loss_of_its_access() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let listener = run.lab.host("server").run(socket)?;
    listener.bind(&SocketAddr::from(([10, 9, 0, 2], 0)).into())?;
    listener.listen(1)?;
    let mut client = run.client().run(socket)?;
    client.connect(&listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_endpoints(&[LTE])?;
    run.await_reason("wifi0", "has no carrier")?;
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_endpoints(&[WIFI, LTE])?;
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_secs(30)))?;
    }
    let mut received = [0; 5];
    client.write_all(b"hello")?;
    server.read_exact(&mut received).context("a word from the client")?;
    server.write_all(&received)?;
    client.read_exact(&mut received).context("its echo")?;
    assert_eq!(&received, b"hello");
    run.await_subflows(&["10.1.0.2", "10.2.0.2"]).map(drop)
}

/// As a USB modem that is pulled out and put in again: another index, the same name and address.
#[test]
fn an_interface_that_vanishes_is_left_and_used_under_its_new_index() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let before = index(run.client(), "wifi0")?;
    run.client().ip("link del wifi0")?;
    run.await_endpoints(&[LTE])?;
    goes_on(&talk)?;
    plug_wifi_in(&run.lab)?;
    assert_ne!(index(run.client(), "wifi0")?, before);
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    goes_on(&talk)
}

#[test]
fn an_only_interface_that_vanishes_and_comes_back_keeps_its_connections() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, WIFI_ONLY)?;
    let talk = run.talk()?;
    run.client().ip("link del wifi0")?;
    run.await_status("wifi0 gone", |status| uplink(status, "wifi0").is_none())?;
    plug_wifi_in(&run.lab)?;
    run.await_endpoints(&[WIFI])?;
    run.await_subflows(&["10.1.0.2"])?;
    goes_on(&talk)
}

#[test]
fn a_removed_address_takes_only_its_own_subflow_along() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    let six = ["2001:db8:1::2 subflow dev wifi0", "2001:db8:2::2 subflow dev lte0"];
    let talk = run.talk()?;
    run.await_endpoints(&[WIFI, LTE, six[0], six[1]])?;
    run.client().ip("address del 10.1.0.2/24 dev wifi0")?;
    run.await_endpoints(&[LTE, six[0], six[1]])?;
    goes_on(&talk)?;
    run.client().ip("address add 10.1.0.2/24 dev wifi0")?;
    run.client().ip(WIFI_ROUTE)?;
    run.await_endpoints(&[WIFI, LTE, six[0], six[1]])?;
    goes_on(&talk)
}

#[test]
fn a_renewed_address_takes_the_place_of_the_old_one() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    run.renew()?;
    run.await_endpoints(&["10.1.0.77 subflow dev wifi0", LTE])?;
    run.await_subflows(&["10.1.0.77", "10.2.0.2"])?;
    goes_on(&talk)
}

#[test]
fn a_connection_survives_the_renewal_of_its_only_address() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, WIFI_ONLY)?;
    let talk = run.talk()?;
    run.await_endpoints(&[WIFI])?;
    run.renew()?;
    run.await_endpoints(&["10.1.0.77 subflow dev wifi0"])?;
    run.await_subflows(&["10.1.0.77"])?;
    goes_on(&talk)
}

#[test]
fn a_connection_outlives_an_outage_of_its_only_access() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, WIFI_ONLY)?;
    let talk = run.talk()?;
    let before = kernel::subflows(run.client())?;
    run.lab.link("wifi").outage(Outage::Down)?;
    let stranded = |endpoint: &serde_json::Value| endpoint["owner"] == "stranded";
    run.await_status("stranded endpoints", |status| {
        status["endpoints"].as_array().is_some_and(|all| all.len() == 2 && all.iter().all(stranded))
    })?;
    run.await_reason("wifi0", "has no carrier")?;
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_status("endpoints of ours", |status| {
        status["endpoints"].as_array().is_some_and(|all| all.len() == 2 && !all.iter().any(stranded))
    })?;
    goes_on(&talk)?;
    let after = kernel::subflows(run.client())?;
    assert!(before.iter().all(|subflow| after.contains(subflow)), "{before:?} {after:?}");
    Ok(())
}

#[test]
fn an_access_is_used_while_it_has_a_default_route() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    run.client().ip("route del default via 10.1.0.1 dev wifi0 metric 600")?;
    run.await_endpoints(&[LTE])?;
    run.await_reason("wifi0", "has no default route")?;
    goes_on(&talk)?;
    run.client().ip(WIFI_ROUTE)?;
    run.client().ip("route del default via 10.2.0.1 dev lte0 metric 700")?;
    run.await_endpoints(&[WIFI])?;
    run.await_subflows(&["10.1.0.2"])?;
    goes_on(&talk)
}

#[test]
fn the_carrying_path_follows_the_metric_without_closing_a_subflow() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, LIGHT)?;
    let talk = run.talk()?;
    run.await_endpoints(&[WIFI, "10.2.0.2 subflow backup dev lte0"])?;
    let before = run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let closed = kernel::counter(run.client(), "RmSubflow")?;
    run.client().ip("route add default via 10.1.0.1 dev wifi0 proto dhcp metric 800")?;
    run.client().ip("route del default via 10.1.0.1 dev wifi0 metric 600")?;
    run.await_endpoints(&["10.1.0.2 subflow backup dev wifi0", LTE])?;
    let carries = |seen: &Vec<Subflow>| seen.iter().all(|s| s.backup == (s.local.ip() == wifi_address()));
    let look = || kernel::subflows(run.client());
    let after = run.daemon.await_that("the backup flag on the other subflow", look, carries)?;
    assert_eq!(ports(&before), ports(&after));
    assert_eq!(kernel::counter(run.client(), "RmSubflow")?, closed);
    let carried = run.lab.link("lte").counters().up.delivered.packets;
    goes_on(&talk)?;
    assert!(run.lab.link("lte").counters().up.delivered.packets >= carried + 5);
    Ok(())
}

/// A machine that sleeps, or a daemon that does not get the processor, misses more than its socket holds.
#[test]
fn what_changed_while_the_daemon_slept_is_seen_right_afterwards() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    run.daemon.signal(Signal::SIGSTOP)?;
    run.client().ip("link del lte0")?;
    let churn = (0..4000).flat_map(|n| {
        let address = format!("10.77.{}.{}/32 dev lo", n / 250, n % 250);
        [format!("address add {address}"), format!("address del {address}")]
    });
    run.client().ip_batch(&[], &churn.collect::<Vec<_>>())?;
    run.renew()?;
    run.daemon.signal(Signal::SIGCONT)?;
    run.await_endpoints(&["10.1.0.77 subflow dev wifi0"])?;
    run.await_subflows(&["10.1.0.77"])?;
    goes_on(&talk)?;
    assert!(run.daemon.log().contains("lost"), "nothing was lost, so nothing was tested");
    let rules = run.client().ip("rule")?;
    assert!(!rules.contains("10.1.0.2") && !rules.contains("10.2.0.2"), "{rules}");
    Ok(())
}

#[test]
fn an_ipv6_address_waits_for_duplicate_address_detection() -> Result<()> {
    let run = Running::start("two-providers", Family::V6, HEAVY)?;
    let client = run.client();
    let address = "2001:db8:2::2/64 dev lte0";
    client.ip(&format!("address del {address}"))?;
    run.await_reason("lte0", "has no global address")?;
    client.set_sysctl("net.ipv6.conf.lte0.accept_dad", "1")?;
    client.set_sysctl("net.ipv6.conf.lte0.dad_transmits", "1000")?;
    client.ip(&format!("address add {address}"))?;
    run.await_reason("lte0", "waits for duplicate address detection")?;
    run.await_endpoints(&["2001:db8:1::2 subflow dev wifi0"])?;
    client.ip(&format!("address del {address}"))?;
    client.set_sysctl("net.ipv6.conf.lte0.dad_transmits", "2")?;
    client.ip(&format!("address add {address}"))?;
    run.daemon.await_that("two endpoints", || kernel::endpoints(client), |seen| seen.len() == 2)?;
    assert!(client.addresses()?.iter().all(|address| !address.tentative));
    Ok(())
}

#[test]
fn a_duplicate_ipv6_address_is_not_used() -> Result<()> {
    let run = Running::start("two-providers", Family::V6, HEAVY)?;
    let client = run.client();
    client.ip("address del 2001:db8:2::2/64 dev lte0")?;
    run.lab.host("lte-router").ip("address add 2001:db8:2::2/64 dev lan0")?;
    client.set_sysctl("net.ipv6.conf.lte0.accept_dad", "1")?;
    client.ip("address add 2001:db8:2::2/64 dev lte0")?;
    let look = || client.ip("-6 address show dev lte0");
    run.daemon.await_that("a failed detection", look, |seen| seen.contains("dadfailed"))?;
    run.await_reason("lte0", "duplicate address detection, or it failed")?;
    run.await_endpoints(&["2001:db8:1::2 subflow dev wifi0"])
}

#[test]
fn two_interfaces_in_one_network_carry_each_their_own_subflow() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    lab.host("client").ip("link del lte0")?;
    plug_second_wifi_in(&lab)?;
    let run = Running::in_lab(lab, HEAVY)?;
    run.await_endpoints(&[WIFI, "10.1.0.3 subflow dev wifi1"])?;
    let talk = run.talk()?;
    let seen = run.await_subflows(&["10.1.0.2", "10.1.0.3"])?;
    assert_eq!(seen[1].interface.as_deref(), Some("wifi1"));
    run.client().ip("link set wifi0 down")?;
    run.await_endpoints(&["10.1.0.3 subflow dev wifi1"])?;
    goes_on(&talk)?;
    let sent = sent_by(run.client(), "wifi1")?;
    goes_on(&talk)?;
    assert!(sent_by(run.client(), "wifi1")? >= sent + 5);
    Ok(())
}

#[test]
fn a_renamed_interface_keeps_its_connections_and_gets_the_settings_of_its_name() -> Result<()> {
    let named = "profile = \"heavy\"\n\
        [[uplink]]\nmatch = { name = \"wifi*\" }\nprovider = \"old\"\n\
        [[uplink]]\nmatch = { name = \"home*\" }\nprovider = \"new\"\nrole = \"backup\"\n";
    let run = Running::start("two-providers", Family::V4, named)?;
    let talk = run.talk()?;
    let before = run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let provider = |status: &serde_json::Value, interface: &str| {
        uplink(status, interface).and_then(|uplink| uplink["provider"].as_str()).map(str::to_owned)
    };
    assert_eq!(provider(&run.daemon.status()?, "wifi0").as_deref(), Some("old"));
    run.client().ip("link set wifi0 name home0")?;
    run.await_endpoints(&["10.1.0.2 subflow backup dev home0", LTE])?;
    run.await_status("the new provider", |status| provider(status, "home0").as_deref() == Some("new"))?;
    goes_on(&talk)?;
    assert_eq!(ports(&kernel::subflows(run.client())?), ports(&before));
    Ok(())
}

#[test]
fn an_access_that_flaps_two_hundred_times_ends_in_the_right_state() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let flaps = (0..200).flat_map(|_| ["link set lan0 down".to_owned(), "link set lan0 up".to_owned()]);
    run.lab.host("wifi-router").ip_batch(&[], &flaps.collect::<Vec<_>>())?;
    goes_on(&talk)?;
    let churn = (0..200).flat_map(|_| {
        ["address del 10.2.0.2/24 dev lte0".to_owned(), "address add 10.2.0.2/24 dev lte0".to_owned()]
    });
    run.client().ip_batch(&[], &churn.collect::<Vec<_>>())?;
    run.client().ip("route add default via 10.2.0.1 dev lte0 proto dhcp metric 700")?;
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_status("no finding", |status| status["findings"] == serde_json::json!([]))?;
    goes_on(&talk)?;
    drop(talk);
    // The old one may lack a path for a while: where an access goes during the handshake, the kernel does not try again.
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    goes_on(&talk)
}

fn wifi_address() -> std::net::IpAddr {
    [10, 1, 0, 2].into()
}

fn ports(subflows: &[Subflow]) -> Vec<SocketAddr> {
    subflows.iter().map(|subflow| subflow.local).collect()
}

fn index(host: &Host, interface: &str) -> Result<u32> {
    let line = host.ip(&format!("-oneline link show {interface}"))?;
    line.split(':').next().and_then(|index| index.parse().ok()).with_context(|| format!("index in {line}"))
}

/// A new cable in the place of the one that was removed.
fn plug_wifi_in(lab: &Lab) -> Result<()> {
    let router = lab.host("wifi-router");
    let client = lab.host("client");
    let peer = router.namespace().id();
    client.ip(&format!("link add wifi0 type veth peer name lan0 netns {peer}"))?;
    router.ip_batch(&[], &["address add 10.1.0.1/24 dev lan0", "link set lan0 up"].map(str::to_owned))?;
    let lines = ["address add 10.1.0.2/24 dev wifi0", "link set wifi0 up", WIFI_ROUTE];
    client.ip_batch(&[], &lines.map(str::to_owned))
}

/// A second interface into the network of the first one, which becomes a bridge at the router.
fn plug_second_wifi_in(lab: &Lab) -> Result<()> {
    let (router, client) = (lab.host("wifi-router"), lab.host("client"));
    let peer = router.namespace().id();
    client.ip(&format!("link add wifi1 type veth peer name lan1 netns {peer}"))?;
    let lines = [
        "link add bridge0 type bridge",
        "address del 10.1.0.1/24 dev lan0",
        "address add 10.1.0.1/24 dev bridge0",
        "link set lan0 master bridge0",
        "link set lan1 master bridge0",
        "link set lan1 up",
        "link set bridge0 up",
    ];
    router.ip_batch(&[], &lines.map(str::to_owned))?;
    let lines = [
        "address add 10.1.0.3/24 dev wifi1",
        "link set wifi1 up",
        "route add default via 10.1.0.1 dev wifi1 proto dhcp metric 650",
    ];
    client.ip_batch(&[], &lines.map(str::to_owned))?;
    let look = || client.ip("-oneline link show up");
    await_that("carrier", look, |seen| seen.matches("LOWER_UP").count() == 3).map(drop)
}

/// Packets that an interface has sent.
fn sent_by(host: &Host, interface: &str) -> Result<u64> {
    let text = host.ip(&format!("-stats -oneline link show {interface}"))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "TX:").context("find TX")?;
    words[at..].iter().filter_map(|word| word.parse().ok()).nth(1).context("read the counters")
}
