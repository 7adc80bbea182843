//! `status` of a daemon at work: the connections of this machine, their subflows, and why one has not more.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::connection::{connect, listen, local, socket};
use crate::namespace::{self, PATIENCE, SERVER, ip, program, stderr};

/// The daemon, in a folder of its own.
struct Daemon {
    folder: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), config).unwrap();
        let at = folder.path().display();
        let arguments = format!("run --config {at}/config --socket {at}/socket --runtime-dir {at}/runtime");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = program(&arguments).stderr(log).stdout(Stdio::null()).spawn().expect("runs");
        let daemon = Self { folder, child };
        daemon.until("it is settled", |status| status["settled"] == true);
        daemon
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, arguments: &str) -> Option<String> {
        let output = program(arguments).arg("--socket").arg(self.file("socket")).output().expect("runs");
        if output.status.success() {
            return Some(String::from_utf8(output.stdout).unwrap());
        }
        let reason = stderr(&output);
        assert!(reason.contains("no mptcp-pm daemon"), "{reason}");
        None
    }

    /// The status, once something holds that no event tells.
    fn until(&self, expected: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status: Option<Value> =
                self.ask("status --json").map(|text| serde_json::from_str(&text).expect("is JSON"));
            if let Some(status) = status.as_ref().filter(|status| holds(status)) {
                return status.clone();
            }
            let log = || std::fs::read_to_string(self.file("log")).unwrap();
            assert!(Instant::now() < end, "expected: {expected}; found {status:#?}\n{}", log());
        }
    }

    /// The connection whose local end is this, once something holds for it.
    fn connection(&self, local: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let find = |status: &Value| {
            let listed = status["connections"]["listed"].as_array()?;
            listed.iter().find(|connection| connection["local"] == local).cloned()
        };
        find(&self.until(local, |status| find(status).as_ref().is_some_and(&holds))).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn has_reason(connection: &Value, words: &str) -> bool {
    connection["reason"].as_str().is_some_and(|reason| reason.contains(words))
}

#[test]
fn both_subflows_of_a_connection_are_shown() {
    namespace::run(|| {
        let other = namespace::two_uplinks();
        let daemon = Daemon::start("profile = \"light\"\nmanager = \"kernel\"\n");
        let listener = other.run(|| listen(&format!("{SERVER}:5001")));
        let (client, _server) = connect(&listener, &format!("{SERVER}:5001"));
        let joined = |connection: &Value| {
            let subflows = connection["subflows"].as_array().unwrap();
            subflows.len() == 2 && subflows.iter().all(|subflow| subflow["state"] == "established")
        };
        let connection = daemon.connection(&local(&client), joined);
        assert_eq!((&connection["opened_by"], &connection["reason"]), (&"us".into(), &Value::Null));
        assert_eq!(
            (connection["bytes_sent"].as_u64(), connection["bytes_received"].as_u64()),
            (Some(12), Some(12))
        );
        let word = |subflow: usize, key: &str| connection["subflows"][subflow][key].clone();
        assert_eq!((word(0, "kind"), word(0, "interface")), ("initial".into(), "wan0".into()));
        assert_eq!((word(1, "kind"), word(1, "interface")), ("join".into(), "wan1".into()));
        assert_eq!((word(0, "backup_by_us"), word(1, "backup_by_us")), (false.into(), true.into()), "light");
        assert!(word(0, "rtt_ms").as_f64().is_some_and(|rtt| rtt > 0.0), "{connection}");
        assert!(
            word(1, "local").as_str().is_some_and(|local| local.starts_with("10.2.0.2:")),
            "{connection}"
        );

        let text = daemon.ask("status").unwrap();
        assert!(text.contains("\nconnections (1):\n"), "{text}");
        let token = connection["token"].as_u64().unwrap();
        assert!(
            text.contains(&format!("  {token:#010x} {} > {SERVER}:5001, opened by us", local(&client))),
            "{text}"
        );
        assert!(text.contains("\n    wan0 initial: carrying, rtt "), "{text}");
        assert!(text.contains("\n    wan1 join 10.2.0.2:") && text.contains(": backup"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    });
}

#[test]
fn the_doctor_finds_nothing_where_the_daemon_is_at_work() {
    namespace::run(|| {
        let _other = namespace::two_uplinks();
        namespace::sysctl("net.ipv4.conf.wan1.rp_filter=1");
        namespace::sysctl("net.mptcp.path_manager=userspace");
        let checks = || {
            let output = namespace::output("doctor --json --config /dev/null");
            let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
            let checks: Vec<String> =
                found.iter().map(|finding| finding["check"].as_str().unwrap().to_owned()).collect();
            (output.status.code(), checks)
        };
        let before = checks();
        assert_eq!(before.0, Some(1));
        for check in ["path-manager", "endpoints", "rp-filter", "daemon"] {
            assert!(before.1.contains(&check.to_owned()), "{check}: {before:?}");
        }
        let _daemon = Daemon::start("");
        let after = checks();
        assert_eq!(after.0, Some(0), "{after:?}");
        assert!(!after.1.contains(&"daemon".to_owned()), "{after:?}");
    });
}

#[test]
fn why_a_connection_has_no_second_subflow_is_shown() {
    namespace::run(|| {
        let other = namespace::two_uplinks();
        let daemon = Daemon::start("manager = \"kernel\"\n[limits]\nsubflows = 0\n");
        let listener = other.run(|| listen(&format!("{SERVER}:5001")));
        let (limited, _server) = connect(&listener, &format!("{SERVER}:5001"));
        daemon.connection(&local(&limited), |seen| {
            has_reason(seen, "not over wan1: the limits allow 0 subflows")
        });

        std::fs::write(daemon.file("config"), "manager = \"kernel\"\n").unwrap();
        daemon.ask("reload").unwrap();
        other.run(|| ip("mptcp limits set subflows 0"));
        let (refused, _server) = connect(&listener, &format!("{SERVER}:5001"));
        daemon.connection(&local(&refused), |seen| {
            has_reason(seen, "not over wan1: nothing here forbids it, so the peer takes no more")
        });

        let plain = other.run(|| {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&format!("{SERVER}:5002").parse::<SocketAddr>().unwrap().into()).unwrap();
            listener.listen(8).unwrap();
            listener
        });
        let fallen = socket();
        fallen.connect(&format!("{SERVER}:5002").parse::<SocketAddr>().unwrap().into()).unwrap();
        let seen = daemon.connection(&local(&fallen), |seen| has_reason(seen, "fallen back to TCP"));
        assert_eq!(seen["fallback"], true);

        let here = listen("10.1.0.2:5003");
        let from_peer = other.run(|| {
            let client = socket();
            client.connect(&"10.1.0.2:5003".parse::<SocketAddr>().unwrap().into()).unwrap();
            client
        });
        let (accepted, _) = here.accept().unwrap();
        let seen = daemon.connection("10.1.0.2:5003", |seen| has_reason(seen, "the peer opened it"));
        assert_eq!(seen["opened_by"], "peer");
        let text = daemon.ask("status").unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        drop((plain, from_peer, accepted));
    });
}
