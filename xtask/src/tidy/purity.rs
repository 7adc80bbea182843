//! The rule that makes whole days of flapping links testable in milliseconds: `core` does no I/O and knows no clock;
//! nor does `stats`.
use super::{
    File, Finding,
    rust_paths::{self, RustPath},
};

/// Crates that reach the outside; `netlink_` stands for all that begin so.
const CRATES: [&str; 11] = [
    "aya",
    "btf_rs",
    "libc",
    "netlink_",
    "nix",
    "rtnetlink",
    "sd_notify",
    "socket2",
    "tempfile",
    "tokio",
    "tun_rs",
];

/// What of the standard library reaches the outside.
const STANDARD: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
];

/// The modules of the daemon that do its I/O.
const MODULES: [&str; 7] = ["bpf", "cli", "control", "daemon", "desktop", "netlink", "view"];

/// What of these is pure: the models in which `stats` gives its figures.
const PURE: [(&str, &str); 2] = [("view", "figures"), ("view", "paths")];

/// The files of the pure modules, `core` and `stats`, name nothing that does I/O; only tests may use proptest.
pub fn pure_modules_do_no_io(file: &File) -> Vec<Finding> {
    let is_of = |module: &str| {
        let root = format!("mptcp-pm/src/{module}");
        file.path.starts_with(&root) || file.path.ends_with(root + ".rs")
    };
    let Some(module) = ["core", "stats"].into_iter().find(|module| is_of(module)) else { return Vec::new() };
    if !file.is_rust() {
        return Vec::new();
    }
    let is_test_file =
        file.path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    match rust_paths::read(&file.text) {
        Ok(paths) => paths.iter().filter_map(|path| breach(file, module, path, is_test_file)).collect(),
        Err(error) => vec![file.finding(1, format!("reading the file: {error}: mend its syntax"))],
    }
}

fn breach(file: &File, module: &str, path: &RustPath, is_test_file: bool) -> Option<Finding> {
    let name = path.segments.join("::");
    let allowed = is_test_file || path.in_test;
    let what = if reads_a_clock(&path.segments) {
        format!("{module} knows no clock, but this is `{name}`: take the time as an argument")
    } else if does_io(&path.segments) {
        format!(
            "{module} does no I/O, but this is `{name}`: turn it into an event that comes in or an action that goes out"
        )
    } else if path.segments.len() > 1 && path.segments[0] == "proptest" && !allowed {
        format!("only tests may use `{name}`: move this under #[cfg(test)]")
    } else {
        return None;
    };
    Some(file.finding(path.line, what))
}

fn reads_a_clock(segments: &[String]) -> bool {
    segments.windows(2).any(|pair| ["Instant", "SystemTime"].contains(&&*pair[0]) && pair[1] == "now")
}

fn does_io(segments: &[String]) -> bool {
    let [first, second, ..] = segments else { return false };
    let is_crate = |name: &&str| first == *name || (name.ends_with('_') && first.starts_with(*name));
    CRATES.iter().any(is_crate) || is_outside_std(segments) || is_outer_module(first, second, segments)
}

fn is_outside_std(segments: &[String]) -> bool {
    let name = segments.join("::") + "::";
    // A glob over the sockets brings them in as their names would.
    STANDARD.iter().any(|path| name.starts_with(&format!("{path}::"))) || name == "std::net::*::"
}

/// Whether a path leads up and out of the pure modules, into a module that does I/O.
fn is_outer_module(first: &str, second: &str, segments: &[String]) -> bool {
    let up = |name: &str| ["crate", "mptcp_pm", "super"].contains(&name);
    let mut inner = segments.iter().map(String::as_str).skip_while(|segment| up(segment));
    let module = inner.next().unwrap_or(second);
    let is_pure = PURE.contains(&(module, inner.next().unwrap_or_default()));
    up(first) && MODULES.contains(&module) && !is_pure
}

#[cfg(test)]
mod tests {
    use super::{super::testing::lines, *};

    fn found(text: &str) -> bool {
        !lines(pure_modules_do_no_io, "mptcp-pm/src/core/plan.rs", text).is_empty()
    }

    #[test]
    fn everything_that_reaches_the_outside_is_found() {
        let bad = [
            "use tokio::time;",
            "use std::{collections::BTreeMap, fs};",
            "use std::net::{IpAddr, UdpSocket};",
            "use std::net::*;",
            "fn f() { std::thread::yield_now() }",
            "fn f() -> Instant { Instant::now() }",
            "fn f() { let t = std::time::SystemTime::now(); }",
            "use netlink_packet_route::link::LinkAttribute;",
            "use nix::errno::Errno;",
            "use aya::Ebpf;",
            "use crate::netlink::route;",
            "use super::super::bpf;",
            "use crate::{core::plan, daemon};",
            "use crate::view::connections::Connections;",
            "use crate::view;",
            "fn f() { assert!(std::env::var(\"X\").is_ok()) }",
            "use proptest::prelude::*;",
        ];
        for text in bad {
            assert!(found(text), "{text}");
        }
    }

    #[test]
    fn what_is_pure_is_not() {
        let good = [
            "use std::{collections::BTreeMap, net::{IpAddr, Ipv4Addr}, time::{Duration, Instant}};",
            "use crate::core::world::World;",
            "use super::plan;",
            "// use tokio::time;\nconst TEXT: &str = \"std::fs\";",
            "use crate::view::{figures::Figures, paths::Paths};",
            "fn f(now: Instant) -> Instant { now }",
            "use std::os_like::x;",
            "#[cfg(test)]\nmod tests { use proptest::prelude::*; }",
        ];
        for text in good {
            assert!(!found(text), "{text}");
        }
    }

    #[test]
    fn only_pure_modules_are_asked_and_their_tests_may_use_proptest() {
        assert!(lines(pure_modules_do_no_io, "mptcp-pm/src/daemon.rs", "use tokio::time;").is_empty());
        assert!(
            lines(pure_modules_do_no_io, "mptcp-pm/src/core/plan/tests.rs", "use proptest::prelude::*;")
                .is_empty()
        );
        assert_eq!(lines(pure_modules_do_no_io, "mptcp-pm/src/core/plan/tests.rs", "use std::fs;"), [1]);
        for root in ["core", "stats"] {
            let path = format!("mptcp-pm/src/{root}.rs");
            assert_eq!(lines(pure_modules_do_no_io, &path, "//! Pure.\nuse std::fs;"), [2]);
        }
    }
}
