//! `congestion` in the configuration: which sockets get the coupled congestion control, which do not, and what is left
//! when the daemon ends.
use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::coupled::{Algorithm, Coupled};
use serde_json::Value;
use tests::congestion::{self, Socket, sockets};
use tests::daemon::{Daemon, PATIENCE, await_that};
use tests::running::{goes_on, talk_options};
use tests::traffic::{self, Job, Options, Protocol, Server, Transfer};
use tests::{Family, Host, Lab, Scenario};

const HOSTS: [&str; 2] = ["client", "server"];

#[test]
fn subflows_of_its_namespace_get_it_whoever_opens_them_and_no_other_socket_does() -> Result<()> {
    let _turn = congestion::turn()?;
    for (host, other) in [(HOSTS[0], HOSTS[1]), (HOSTS[1], HOSTS[0])] {
        let lab = network()?;
        let default = congestion::default(lab.host(host))?;
        let _daemon = Daemon::start(lab.host(host), "profile = \"heavy\"\ncongestion = \"lia\"\n")?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let options = |congestion: Option<&str>, protocol| Options {
            congestion: congestion.map(str::to_owned),
            protocol: Some(protocol),
            ..talk_options()
        };
        let start = |options| traffic::start(lab.host("client"), &server, Job::RequestResponse, options);
        let talks = [
            start(options(None, Protocol::Mptcp))?,
            start(options(None, Protocol::Tcp))?,
            start(options(Some("reno"), Protocol::Mptcp))?,
        ];
        await_controls(lab.host(host), 5, |socket| {
            // The server's sockets of all three have the same port.
            match talks.iter().position(|talk| has_port(talk, socket)) {
                Some(0) => socket.control == "lia",
                Some(1) => socket.control == default && !socket.is_subflow,
                Some(_) => socket.control == "reno",
                None if socket.is_subflow => ["lia", "reno"].contains(&socket.control.as_str()),
                None => socket.control == default,
            }
        })?;
        let seen = sockets(lab.host(host))?;
        for (name, number) in [("lia", 2), ("reno", 2), (default.as_str(), 1)] {
            assert_eq!(
                seen.iter().filter(|socket| socket.control == name).count(),
                number,
                "{name}: {seen:?}"
            );
        }
        let elsewhere = sockets(lab.host(other))?;
        assert!(elsewhere.iter().all(|socket| socket.control != "lia"), "{elsewhere:?}");
        talks.iter().try_for_each(goes_on)?;
    }
    Ok(())
}

#[test]
fn a_reload_switches_what_lives_and_what_comes() -> Result<()> {
    let _turn = congestion::turn()?;
    let lab = network()?;
    let client = lab.host("client");
    let daemon = Daemon::start(client, "profile = \"heavy\"\n")?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let default = congestion::default(client)?;
    let mut talks = vec![talk(&lab, &server)?];
    await_controls(client, 2, |socket| socket.control == default)?;
    assert_eq!(coupled(&daemon)?, Value::Null);
    for wanted in ["lia", "olia", "balia", "keep", "olia"] {
        daemon.write_config(&format!("profile = \"heavy\"\ncongestion = \"{wanted}\"\n"))?;
        let output = daemon.command(&["reload"])?.output()?;
        ensure!(output.status.success(), "reload: {}", String::from_utf8_lossy(&output.stderr));
        talks.push(talk(&lab, &server)?);
        let expected = if wanted == "keep" { default.as_str() } else { wanted };
        await_controls(client, 2 * talks.len(), |socket| socket.control == expected)
            .with_context(|| format!("after a reload with {wanted}"))?;
        assert_eq!(coupled(&daemon)?.is_null(), wanted == "keep");
    }
    talks.iter().try_for_each(goes_on)
}

#[test]
fn what_lives_goes_on_when_the_daemon_is_killed_and_its_successor_takes_it_up() -> Result<()> {
    let _turn = congestion::turn()?;
    let lab = network()?;
    let client = lab.host("client");
    let config = "profile = \"heavy\"\ncongestion = \"balia\"\n";
    let daemon = Daemon::start(client, config)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let default = congestion::default(client)?;
    let first = talk(&lab, &server)?;
    await_controls(client, 2, |socket| socket.control == "balia")?;
    daemon.kill()?;
    await_that("the name to be gone", || is_registered("balia"), |registered| !registered)?;
    goes_on(&first)?;
    let second = talk(&lab, &server)?;
    let of_first = |socket: &Socket| has_port(&first, socket);
    let held = |socket: &Socket| socket.control == "balia";
    // The other subflow of the first connection is the second that has it.
    let as_expected = |seen: &Vec<Socket>| {
        seen.len() == 4
            && seen.iter().filter(|socket| held(socket)).count() == 2
            && seen.iter().filter(|socket| of_first(socket)).all(held)
            && seen.iter().filter(|socket| !held(socket)).all(|socket| socket.control == default)
    };
    await_that("two old sockets with balia, two new ones without", || sockets(client), as_expected)?;
    [&first, &second].into_iter().try_for_each(goes_on)?;

    let successor = Daemon::start(client, config)?;
    await_controls(client, 4, |socket| socket.control == "balia")?;
    [&first, &second].into_iter().try_for_each(goes_on)?;
    successor.end(nix::sys::signal::Signal::SIGUSR1)?;
    assert!(!is_registered("balia")?);
    [&first, &second].into_iter().try_for_each(goes_on)?;
    let last = Daemon::start(client, config)?;
    await_controls(client, 4, |socket| socket.control == "balia")?;
    last.stop()?;
    let left = sockets(client)?;
    assert!(left.iter().all(|socket| socket.control == default), "{left:?}");
    Ok(())
}

#[test]
fn where_it_cannot_be_registered_the_rest_works_and_the_status_says_so() -> Result<()> {
    let _turn = congestion::turn()?;
    let taken = Coupled::register(&Kernel::default())?;
    let lab = network()?;
    let client = lab.host("client");
    let config = "profile = \"heavy\"\ncongestion = \"lia\"\n";
    let daemon = Daemon::start(client, config)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let talk = talk(&lab, &server)?;
    let default = congestion::default(client)?;
    await_controls(client, 2, |socket| socket.control == default)?;
    let status = daemon.status()?;
    let seen = coupled(&daemon)?;
    let reason = seen["absent"].as_str().context("a reason")?;
    assert!(reason.contains("registering tcp_congestion_ops") && reason.contains("of this name"), "{reason}");
    assert_eq!(status["ebpf"][0]["absent"], Value::Null);
    assert_eq!(daemon.log().matches("eBPF object coupled is not at work").count(), 1, "{}", daemon.log());
    drop(taken);
    daemon.command(&["reload"])?.output()?;
    await_controls(client, 2, |socket| socket.control == "lia")?;
    let seen = coupled(&daemon)?;
    assert!(seen.is_object() && seen["absent"].is_null(), "{seen}");
    goes_on(&talk)
}

#[test]
fn status_and_metrics_tell_how_far_a_connection_is_held_back() -> Result<()> {
    let _turn = congestion::turn()?;
    let lab = network()?;
    let client = lab.host("client");
    let listen = "listen = \"127.0.0.1:9101\"\nsubflows = true";
    let config = format!("profile = \"heavy\"\ncongestion = \"lia\"\n[metrics]\n{listen}\n");
    let daemon = Daemon::start(client, &config)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let options = Options { congestion: None, ..Options::duration(PATIENCE) };
    let _upload = traffic::start(client, &server, Job::BulkUp, options)?;
    let ratio =
        |status: &Value| status["connections"]["listed"][0]["figures"]["coupled_growth_ratio"].as_f64();
    let of_two = |status: &Value| ratio(status).is_some_and(|ratio| ratio > 0.0 && ratio < 0.9);
    let status = daemon.await_that("two subflows that hold each other back", || daemon.status(), of_two)?;
    for subflow in status["connections"]["listed"][0]["subflows"].as_array().context("subflows")? {
        assert_eq!(subflow["congestion_control"], "lia");
        assert_eq!(subflow["figures"]["coupled_growth_ratio"], Value::Null);
    }
    let said = |command: &str| -> Result<String> {
        Ok(String::from_utf8(daemon.command(&[command])?.output()?.stdout)?)
    };
    // Lines are broken at blanks.
    let text = said("status")?.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(", lia: grows at 0."), "{text}");
    let metrics = said("metrics")?;
    assert!(metrics.contains("\nmptcp_pm_connection_coupled_growth_ratio{"), "{metrics}");
    Ok(())
}

#[test]
fn each_service_type_has_its_own_and_status_tells_them_apart() -> Result<()> {
    let _turn = congestion::turn()?;
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let servers = [(); 3].map(|()| Server::start(lab.host("server"), Protocol::Mptcp));
    let servers: Vec<_> = servers.into_iter().collect::<Result<_>>()?;
    let rule = |server: &Server, service: &str| {
        format!("[[application]]\nmatch = {{ port = {} }}\nservice = \"{service}\"\n", server.port())
    };
    let rules = rule(&servers[0], "aggregate") + &rule(&servers[2], "handover");
    let config = |congestion: &str| {
        let always = "manager = \"daemon\"\nprofile = \"heavy\"\nservice = \"interactive\"\n";
        format!("{always}congestion = {congestion}\n{rules}")
    };
    let daemon = Daemon::start(client, &config("{ aggregate = \"lia\", interactive = \"balia\" }"))?;
    daemon.await_that("the daemon in charge", || daemon.status(), |seen| seen["manager"] == "daemon")?;
    let default = congestion::default(client)?;

    // The first one uses both ways, once it is long.
    let upload = Options { congestion: None, ..Options::duration(PATIENCE) };
    let upload = traffic::start(client, &servers[0], Job::BulkUp, upload)?;
    let talks = [talk(&lab, &servers[1])?, talk(&lab, &servers[2])?];
    let all = [&upload, &talks[0], &talks[1]];
    let have = |expected: [&str; 3]| {
        let seen = daemon.await_that(
            &format!("two subflows each with {expected:?}"),
            || daemon.status(),
            |status| all.iter().zip(expected).all(|(one, control)| controls(status, one) == [control; 2]),
        );
        seen.context("by service type")
    };
    let status = have(["lia", "balia", &default])?;
    let services = all.map(|one| connection(&status, one).map(|found| found["service"]["type"].clone()));
    assert_eq!(services.map(Option::unwrap_or_default), ["aggregate", "interactive", "handover"]);
    let is_held_back = |status: &Value| {
        let ratio = connection(status, &upload).map(|found| &found["figures"]["coupled_growth_ratio"]);
        ratio.and_then(Value::as_f64).is_some_and(|ratio| ratio > 0.0 && ratio < 0.9)
    };
    daemon.await_that("two coupled subflows", || daemon.status(), is_held_back)?;

    // By hand, and back by a configuration.
    let token = connection(&status, &talks[1]).context("a connection")?["token"].to_string();
    let set = daemon.command(&["service", "set", &token, "aggregate"])?.output()?;
    ensure!(set.status.success(), "service set: {}", String::from_utf8_lossy(&set.stderr));
    have(["lia", "balia", "lia"])?;
    let reload = |congestion: &str| {
        daemon.write_config(&config(congestion))?;
        let output = daemon.command(&["reload"])?.output()?;
        ensure!(output.status.success(), "reload: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    reload("{ interactive = \"olia\" }")?;
    have([&default, "olia", &default])?;
    reload("\"balia\"")?;
    have(["balia"; 3])?;
    talks.iter().try_for_each(goes_on)
}

/// What the status says of a connection.
fn connection<'a>(status: &'a Value, transfer: &Transfer) -> Option<&'a Value> {
    let local = transfer.local()?.to_string();
    status["connections"]["listed"].as_array()?.iter().find(|listed| listed["local"] == local)
}

/// The congestion controls of its subflows.
fn controls(status: &Value, transfer: &Transfer) -> Vec<String> {
    let subflows = connection(status, transfer).and_then(|found| found["subflows"].as_array());
    let control = |subflow: &Value| subflow["congestion_control"].as_str().unwrap_or_default().to_owned();
    subflows.into_iter().flatten().map(control).collect()
}

#[test]
fn each_name_is_one_of_the_configuration() {
    for algorithm in Algorithm::ALL {
        let text = format!("congestion = \"{}\"\n", algorithm.name());
        let config = mptcp_pm::config::Config::parse(&text, "test").expect("a configuration");
        assert_eq!(config.congestion, mptcp_pm::config::Congestion::all(Some(algorithm)));
    }
}

fn network() -> Result<Lab> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    lab.host("client").ip("mptcp endpoint add 10.2.0.2 dev lte0 subflow")?;
    Ok(lab)
}

/// A connection whose application has chosen nothing.
fn talk(lab: &Lab, server: &Server) -> Result<Transfer> {
    let options = Options { congestion: None, ..talk_options() };
    let talk = traffic::start(lab.host("client"), server, Job::RequestResponse, options)?;
    goes_on(&talk)?;
    Ok(talk)
}

fn has_port(transfer: &Transfer, socket: &Socket) -> bool {
    transfer.local().is_some_and(|local| local.port() == socket.port)
}

fn await_controls(host: &Host, number: usize, each: impl Fn(&Socket) -> bool) -> Result<()> {
    let all = |seen: &Vec<Socket>| seen.len() == number && seen.iter().all(&each);
    await_that(&format!("{number} sockets as expected within {PATIENCE:?}"), || sockets(host), all).map(drop)
}

/// What the status says of the object; `null` where it is not listed, because nobody asked for it.
fn coupled(daemon: &Daemon) -> Result<Value> {
    let status = daemon.status()?;
    let features = status["ebpf"].as_array().context("a list of features")?;
    Ok(features.iter().find(|feature| feature["name"] == "coupled").cloned().unwrap_or_default())
}

fn is_registered(name: &str) -> Result<bool> {
    let names = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    Ok(names.split_whitespace().any(|known| known == name))
}
