//! `doctor`: each fault, provoked for real, is named and no other, and the exit code tells whether there is one.
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::connection::{connect, listen, socket};
use crate::namespace::{self, Other, SERVER, done, ip, output, stderr, sysctl};

/// Two uplinks and an endpoint at the second: all that a second subflow takes.
fn healthy() -> Other {
    let other = namespace::two_uplinks();
    done("endpoint add 10.2.0.2 --dev wan1 --subflow");
    other
}

/// The findings of one severity: the words for what was looked at, and what is wrong.
fn findings(severity: &str) -> Vec<(String, String)> {
    let output = output("doctor --json --config /dev/null");
    let all: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let has_problem = all.iter().any(|finding| finding["severity"] == "problem");
    assert_eq!(output.status.code(), Some(i32::from(has_problem)), "{all:#?}");
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    assert!(all.iter().all(|finding| !word(finding, "remedy").is_empty()));
    let of_severity = all.iter().filter(|finding| finding["severity"] == severity);
    of_severity.map(|finding| (word(finding, "check"), word(finding, "finding"))).collect()
}

/// There is one problem, and it names what is wrong.
fn assert_only(check: &str, words: &str) {
    match findings("problem").as_slice() {
        [(found, finding)] => assert!(found == check && finding.contains(words), "{found}: {finding}"),
        other => panic!("{other:#?}"),
    }
}

fn notes() -> Vec<String> {
    findings("note").into_iter().map(|(check, _)| check).collect()
}

/// A counter of the namespace of this thread, of the group `MPTcpExt:` or `TcpExt:`.
fn counter(group: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(group)).map(str::split_whitespace);
    let place = lines.next().unwrap().position(|known| known == name).expect("this kernel counts it");
    lines.next().unwrap().nth(place).unwrap().parse().unwrap()
}

#[test]
fn a_healthy_namespace_has_only_notes() {
    namespace::run(|| {
        let _other = healthy();
        assert_eq!(findings("problem"), []);
        let notes = notes();
        assert!(
            ["daemon", "application"].iter().all(|note| notes.contains(&(*note).to_owned())),
            "{notes:?}"
        );
        let text = done("doctor --config /dev/null");
        assert!(
            text.starts_with("ready: nothing found that keeps MPTCP from a second subflow\n\nnote, "),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    });
}

#[test]
fn what_is_switched_off_is_named() {
    namespace::run(|| {
        let _other = healthy();
        sysctl("net.mptcp.enabled=0");
        assert_only("enabled", "switched off");
        sysctl("net.mptcp.enabled=1");
        done("limits set --subflows 0");
        assert_only("limits", "allow 0 subflows");
        done("limits set --subflows 2");
        sysctl("net.mptcp.path_manager=userspace");
        assert_only("path-manager", "userspace path manager");
        sysctl("net.mptcp.path_manager=kernel");
        assert_eq!(findings("problem"), []);
    });
}

#[test]
fn one_way_out_is_named_with_what_the_others_lack() {
    namespace::run(|| {
        let _other = healthy();
        ip("route del default dev wan1");
        assert_only(
            "uplinks",
            "only wan0 leads to the Internet, so there is no second path: wan1 has no default route",
        );
        ip("link set wan1 down");
        assert_only("uplinks", "wan1 is down");
        ip("link del wan1");
        let checks: Vec<String> = findings("problem").into_iter().map(|(check, _)| check).collect();
        assert_eq!(checks, ["uplinks", "endpoint-address"], "the endpoint outlives its interface");
        done("endpoint flush");
        assert_only(
            "uplinks",
            "only wan0 leads to the Internet, so there is no second path: no other interface",
        );
        ip("link del wan0");
        assert_only("uplinks", "no interface leads to the Internet");
    });
}

#[test]
fn endpoints_that_do_not_serve_are_named() {
    namespace::run(|| {
        let _other = healthy();
        done("endpoint flush");
        assert_only("endpoints", "no endpoint makes use of 10.2.0.2");
        done("endpoint add 10.2.0.2 --subflow");
        assert_only("endpoint-route", "leaves by wan0, not by wan1");
        ip("route add default via 10.2.0.1 dev wan1 table 100");
        ip("rule add from 10.2.0.2 lookup 100");
        assert_eq!(findings("problem"), []);
        done("endpoint flush");
        done("endpoint add 10.2.0.2 --dev wan1 --subflow");
        assert_eq!(findings("problem"), []);
        ip("addr add 10.3.0.2/24 dev wan1 scope link");
        done("endpoint add 10.3.0.2 --subflow");
        ip("addr del 10.3.0.2/24 dev wan1");
        assert_only("endpoint-address", "is for 10.3.0.2, which this machine has not");
    });
}

#[test]
fn a_strict_reverse_path_filter_is_named() {
    namespace::run(|| {
        let _other = healthy();
        sysctl("net.ipv4.conf.wan1.rp_filter=1");
        assert_only("rp-filter", "wan1 drops packets");
        sysctl("net.ipv4.conf.all.rp_filter=2");
        assert_eq!(findings("problem"), [], "the greater one holds");
    });
}

#[test]
fn mptcpd_is_named_with_its_process() {
    namespace::run(|| {
        let _other = healthy();
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("mptcpd");
        std::fs::copy("/bin/sleep", &fake).unwrap();
        let mut mptcpd = Command::new(&fake).arg("1000").spawn().expect("runs");
        let end = Instant::now() + namespace::PATIENCE;
        // The name is there once exec has happened in the child.
        while std::fs::read_to_string(format!("/proc/{}/comm", mptcpd.id())).unwrap().trim() != "mptcpd" {
            assert!(Instant::now() < end);
        }
        assert_only("mptcpd", &format!("process {}", mptcpd.id()));
        mptcpd.kill().unwrap();
        mptcpd.wait().unwrap();
        assert_eq!(findings("problem"), []);
    });
}

#[test]
fn a_wrong_configuration_is_named() {
    namespace::run(|| {
        let _other = healthy();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "profil = \"heavy\"\n").unwrap();
        let output = output(&format!("doctor --config {}", file.path().display()));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text.starts_with("configuration: the configuration is wrong: "), "{text}");
    });
}

#[test]
fn peers_without_mptcp_are_told() {
    namespace::run(|| {
        let other = healthy();
        let at = format!("{SERVER}:5001");
        let listener = other.run(|| {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&format!("{SERVER}:5001").parse::<SocketAddr>().unwrap().into()).unwrap();
            listener.listen(8).unwrap();
            listener
        });
        let client = socket();
        client.connect(&at.parse::<SocketAddr>().unwrap().into()).unwrap();
        assert_only("peer", "no server answered");
        let speaks = other.run(|| listen(&format!("{SERVER}:5002")));
        let _pair = connect(&speaks, &format!("{SERVER}:5002"));
        assert_eq!(findings("problem"), [], "one that does is enough");
        let notes = findings("note");
        let fallback = notes.iter().find(|(check, _)| check == "fallback").expect("a note");
        assert!(fallback.1.contains(&format!("at present to {at}")), "{fallback:?}");
        drop((client, listener));
    });
}

#[test]
fn a_blackhole_is_named_for_as_long_as_it_lasts() {
    namespace::run(|| {
        let other = healthy();
        // The SYNs that ask for MPTCP, one and its repetition, go unanswered, the first one that does not is answered.
        other.run(|| ip("route add blackhole 10.1.0.2/32"));
        sysctl("net.mptcp.syn_retrans_before_tcp_fallback=1");
        let listener = other.run(|| listen(&format!("{SERVER}:5001")));
        std::thread::scope(|scope| {
            let client = socket();
            let connected = scope.spawn(move || {
                client.connect(&format!("{SERVER}:5001").parse::<SocketAddr>().unwrap().into())
            });
            let end = Instant::now() + namespace::PATIENCE;
            while counter("TcpExt:", "TCPSynRetrans") == 0 {
                assert!(Instant::now() < end, "the kernel does not try again");
                std::thread::yield_now();
            }
            other.run(|| ip("route del blackhole 10.1.0.2/32"));
            connected.join().unwrap().expect("connects without MPTCP");
        });
        assert_eq!(counter("MPTcpExt:", "Blackhole"), 1);
        let checks: Vec<String> = findings("problem").into_iter().map(|(check, _)| check).collect();
        assert!(checks.contains(&"blackhole".to_owned()), "{checks:?}");
        listener.accept().unwrap();
        sysctl("net.mptcp.blackhole_timeout=3600");
        let _pair = connect(&listener, &format!("{SERVER}:5001"));
        assert_eq!(findings("problem"), [], "its remedy holds");
    });
}
