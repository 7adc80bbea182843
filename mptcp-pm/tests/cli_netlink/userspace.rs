//! The commands for one connection of the userspace path manager.
use std::process::Command;
use std::time::Instant;

use crate::connection::{connect, ends_from, listen, local};
use crate::monitor::Monitor;
use crate::namespace::{self, done, ip, refused, sysctl};

/// Waits until there is a subflow from an address, or none; its ends.
fn subflow_from(addr: &str, wanted: bool) -> Option<(String, String)> {
    let end = Instant::now() + namespace::PATIENCE;
    loop {
        let ends = ends_from(addr);
        if ends.is_empty() != wanted {
            return ends.into_iter().next();
        }
        assert!(Instant::now() < end, "subflows from {addr}: {ends:?}");
    }
}

/// The flags of the subflow from an address, as `ss` shows them: `B` and `b` are for backup.
fn flags_from(addr: &str) -> String {
    let output = Command::new("ss").args(["-tinH", "src", addr]).output().expect("ss(8) of iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let flags = text.split_once("flags:").unwrap_or_else(|| panic!("{text}")).1;
    flags.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_connection_gets_its_subflows_and_announcements_by_hand() {
    namespace::run(|| {
        sysctl("net.mptcp.path_manager=userspace");
        ip("addr add 127.0.0.7/8 dev lo");
        let monitor = Monitor::start("monitor --json");
        let listener = listen("127.0.0.1:5001");
        let (client, _server) = connect(&listener, "127.0.0.1:5001");
        let here = local(&client);
        let created =
            monitor.until(|event| event["event"] == "established" && event["local"] == here.as_str());
        let token = created["token"].as_u64().unwrap();

        let create =
            format!("subflow create --token {token} --local 127.0.0.7 --local-id 7 --remote 127.0.0.1:5001");
        assert_eq!(done(&create), "");
        let (from, to) = subflow_from("127.0.0.7", true).unwrap();
        monitor.until(|event| event["event"] == "sub-established" && event["local"] == from.as_str());
        let listed = done(&format!("endpoint list --token {token:#x}"));
        assert_eq!(listed, "  7  127.0.0.7                 -                subflow\n");

        let ends = format!("--token {token:#x} --local {from} --remote {to}");
        assert!(!flags_from("127.0.0.7").contains('b'));
        assert_eq!(done(&format!("priority {ends} backup")), "");
        assert!(flags_from("127.0.0.7").contains('b'), "{}", flags_from("127.0.0.7"));
        monitor.until(|event| event["event"] == "sub-priority" && event["backup"] == true);
        assert_eq!(done(&format!("priority {ends} active")), "");
        assert!(!flags_from("127.0.0.7").contains('b'), "{}", flags_from("127.0.0.7"));

        assert_eq!(done(&format!("subflow destroy {ends}")), "");
        assert_eq!(subflow_from("127.0.0.7", false), None);
        let message = refused(&format!("subflow destroy {ends}"));
        assert!(
            message.starts_with("cannot destroy subflow 127.0.0.7:") && message.contains("`ss -ti`"),
            "{message}"
        );

        assert_eq!(done(&format!("announce --token {token} 127.0.0.8 --id 8")), "");
        let announced = monitor.until(|event| event["event"] == "announced");
        assert_eq!(announced["remote_id"], 8);
        let remote = announced["remote"].as_str().unwrap();
        assert!(remote.starts_with("127.0.0.8:"), "{announced}");
        assert_eq!(done(&format!("withdraw --token {token} --id 8")), "");
        monitor.until(|event| event["event"] == "removed" && event["remote_id"] == 8);
    });
}

#[test]
fn unknown_connections_and_those_of_the_kernel_are_refused() {
    namespace::run(|| {
        ip("addr add 127.0.0.7/8 dev lo");
        let monitor = Monitor::start("monitor --json");
        let listener = listen("127.0.0.1:5001");
        let (_client, _server) = connect(&listener, "127.0.0.1:5001");
        let token = monitor.until(|event| event["event"] == "established")["token"].as_u64().unwrap();
        let commands = |token: u64| {
            [
                format!("announce --token {token} 127.0.0.8 --id 8"),
                format!("withdraw --token {token} --id 8"),
                format!(
                    "subflow create --token {token} --local 127.0.0.7 --local-id 7 --remote 127.0.0.1:5001"
                ),
                format!("subflow destroy --token {token} --local 127.0.0.7:7 --remote 127.0.0.1:5001"),
                format!("priority --token {token} --local 127.0.0.7 --remote 127.0.0.1:5001 backup"),
            ]
        };
        for command in commands(token) {
            let message = refused(&command);
            assert!(message.contains("net.mptcp.path_manager was `userspace`"), "{command}: {message}");
        }
        for command in commands(token ^ 1) {
            let message = refused(&command);
            assert!(message.contains("show the tokens that exist"), "{command}: {message}");
        }
        let message = refused(&format!(
            "subflow create --token {token} --local 192.0.2.7 --local-id 7 --remote 127.0.0.1:5001"
        ));
        assert!(message.starts_with("192.0.2.7 is no address of this machine"), "{message}");
    });
}
