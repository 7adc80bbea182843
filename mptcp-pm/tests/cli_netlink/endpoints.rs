//! Endpoints and limits: what the commands do is what `ip mptcp` shows, and what cannot be done says why.
use std::process::Command;

use serde_json::json;

use crate::connection::{connect, endpoints, listen};
use crate::namespace::{self, done, ip, json, refused, stderr};

/// The lines of `ip mptcp endpoint`.
fn shown() -> Vec<String> {
    ip("mptcp endpoint").lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn endpoints_come_change_and_go_as_ip_shows_them() {
    namespace::run(|| {
        ip("addr add 192.0.2.1/24 dev lo");
        ip("addr add 2001:db8::1/64 dev lo nodad");
        assert_eq!(done("endpoint list"), "no endpoints\n");
        let added = done("endpoint add 192.0.2.1 --dev lo --subflow --backup");
        assert_eq!(added, "  1  192.0.2.1                 lo               subflow,backup\n");
        done("endpoint add 2001:db8::1 --id 9 --signal");
        done("endpoint add 192.0.2.1 --signal --port 5000 --id 4");
        let expected = [
            "192.0.2.1 id 1 subflow backup dev lo",
            "192.0.2.1 port 5000 id 4 signal",
            "2001:db8::1 id 9 signal",
        ];
        assert_eq!(shown(), expected);
        let all = json("endpoint list --json");
        assert_eq!(all.as_array().map(Vec::len), Some(3));
        let first = json!({"id": 1, "addr": "192.0.2.1", "port": 0, "interface": "lo", "ifindex": 1,
            "flags": ["subflow", "backup"]});
        assert_eq!(all[0], first);

        assert_eq!(
            done("endpoint change 1 --no-backup --fullmesh"),
            "  1  192.0.2.1                 lo               subflow,fullmesh\n"
        );
        done("endpoint change 2001:db8::1 --backup");
        done("endpoint change 192.0.2.1 --port 5000 --backup");
        let expected = [
            "192.0.2.1 id 1 subflow fullmesh dev lo",
            "192.0.2.1 port 5000 id 4 signal backup",
            "2001:db8::1 id 9 signal backup",
        ];
        assert_eq!(shown(), expected);

        assert_eq!(done("endpoint delete 9 2001:db8::1"), "");
        assert_eq!(done("endpoint delete 4"), "");
        assert_eq!(shown(), expected[..1]);
        done("endpoint flush");
        assert_eq!(shown(), Vec::<String>::new());
    });
}

#[test]
fn the_kernel_s_reason_and_a_remedy_are_told() {
    namespace::run(|| {
        ip("addr add 192.0.2.1/24 dev lo");
        ip("addr add 192.0.2.2/24 dev lo");
        done("endpoint add 192.0.2.1 --subflow");
        for (arguments, reason, remedy) in [
            ("add 192.0.2.1 --subflow", "cannot add endpoint 192.0.2.1: ", "endpoint list"),
            ("add 192.0.2.2 --subflow --id 1", "cannot add endpoint 192.0.2.2: ", "leave --id out"),
            ("add 192.0.2.3 --subflow", "192.0.2.3 is no address of this machine", "ip address"),
            ("add 192.0.2.1 --subflow --dev wan7", "no interface \"wan7\"", "there are lo"),
            ("change 7 --backup", "no endpoint id 7", "endpoint list"),
            ("change 192.0.2.2 --backup", "no endpoint 192.0.2.2", "endpoint list"),
            ("change 192.0.2.1 --port 7 --backup", "no endpoint 192.0.2.1 with port 7", "endpoint list"),
            ("delete 7", "no endpoint id 7", "endpoint list"),
            ("delete 7 192.0.2.1", "no endpoint id 7", "endpoint list"),
            ("delete 1 192.0.2.2", "endpoint 1 is 192.0.2.1, not 192.0.2.2", "nothing is deleted"),
            ("delete 0 192.0.2.1", "no connection has its initial subflow from 192.0.2.1", "ss -Ma"),
            ("list --token 5", "cannot list addresses of connection 0x00000005: ", "show the tokens"),
        ] {
            let message = refused(&format!("endpoint {arguments}"));
            assert!(message.starts_with(reason) && message.contains(remedy), "{arguments}: {message}");
        }
        assert_eq!(shown(), ["192.0.2.1 id 1 subflow"]);
    });
}

#[test]
fn a_full_table_says_so() {
    namespace::run(|| {
        let message = (1..=255).find_map(|last| {
            ip(&format!("addr add 192.0.2.{last}/32 dev lo"));
            let output = namespace::output(&format!("endpoint add 192.0.2.{last} --subflow"));
            (!output.status.success()).then(|| stderr(&output))
        });
        // From 7.2 on there is room for all.
        let message = message.unwrap_or_default();
        assert_eq!(message.is_empty(), shown().len() == 255, "{message}");
        assert!(message.is_empty() || message.contains("delete another one first"), "{message}");
    });
}

#[test]
fn flags_that_this_kernel_drops_are_told() {
    namespace::run(|| {
        let output = namespace::output("endpoint add 127.0.0.1 --subflow --laminar");
        let kept = endpoints();
        assert_eq!(kept.len(), 1);
        let knows_laminar = kept[0].2.contains(&"laminar".to_owned());
        assert_eq!(output.status.success(), knows_laminar, "{}", stderr(&output));
        assert_eq!(stderr(&output).contains("this kernel dropped laminar"), !knows_laminar);
    });
}

#[test]
fn id_0_ends_the_initial_subflow() {
    namespace::run(|| {
        let listener = listen("127.0.0.1:5001");
        let (client, server) = connect(&listener, "127.0.0.1:5001");
        assert_eq!(done("endpoint delete 0 127.0.0.1"), "");
        let gone = || crate::connection::ends_from("127.0.0.1").is_empty();
        let end = std::time::Instant::now() + namespace::PATIENCE;
        while !gone() {
            assert!(std::time::Instant::now() < end, "{:?}", crate::connection::ends_from("127.0.0.1"));
        }
        drop((client, server));
    });
}

#[test]
fn limits_are_those_that_ip_shows() {
    namespace::run(|| {
        assert_eq!(done("limits set --subflows 5"), "");
        assert_eq!(ip("mptcp limits").trim(), "add_addr_accepted 0 subflows 5");
        done("limits set --add-addr-accepted 3");
        assert_eq!(ip("mptcp limits").trim(), "add_addr_accepted 3 subflows 5");
        assert_eq!(done("limits"), "subflows           5\nadd-addr-accepted  3\n");
        assert_eq!(json("limits show --json"), json!({"subflows": 5, "add_addr_accepted": 3}));
        let message = refused("limits set --subflows 65");
        let reason = "cannot set limits subflows 65, add_addr_accepted 3: ";
        assert!(message.starts_with(reason) && message.contains("up to 8"), "{message}");
        assert_eq!(ip("mptcp limits").trim(), "add_addr_accepted 3 subflows 5");
    });
}

#[test]
fn reading_takes_no_privilege_and_writing_does() {
    namespace::run(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let copy = folder.path().join("mptcp-pm");
        std::fs::copy(env!("CARGO_BIN_EXE_mptcp-pm"), &copy).unwrap();
        let run = |words: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
            command.args(words.split(' ')).output().expect("setpriv(1) of util-linux")
        };
        assert_eq!(run("endpoint list").stdout, b"no endpoints\n");
        for words in
            ["endpoint add 127.0.0.1 --subflow", "endpoint flush", "limits set --subflows 1", "monitor"]
        {
            let refused = run(words);
            assert_eq!(refused.status.code(), Some(1), "{words}");
            assert!(stderr(&refused).contains("it takes root or CAP_NET_ADMIN"), "{}", stderr(&refused));
        }
    });
}
