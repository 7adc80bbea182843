//! The program on the running kernel, called by hand, so that also kernels can try it that let no program run before
//! their functions: it decides as the rules themselves do.
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use aya::sys::{Stats, enable_stats};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;

use super::*;
use crate::bpf::offsets::Types;
use crate::bpf::sys::program::{Use, trial};
use crate::config::Config;
use crate::core::service::{Owner, Rules, Subject};

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const CLOSE_ON_EXEC: u64 = 0o2_000_000;
const TCP: u64 = 6;
const SCTP: u64 = 132;
const MPTCP: u64 = 262;

/// The program with the tables of a configuration.
struct Trial {
    program: OwnedFd,
    _object: Object,
    _cgroups: Option<HashMap<MapData, u64, Tables>>,
}

impl Trial {
    fn of(offsets: &[u32; fields::COUNT], text: &str) -> Self {
        Self::with(offsets, &Config::parse(text, "test.toml").expect("is right").applications)
    }

    fn with(offsets: &[u32; fields::COUNT], rules: &[ApplicationRule]) -> Self {
        let plan = Plan::of(rules);
        let mut object = open(offsets, &plan).expect("makes the maps");
        let program = object.load("mptcpify", Use::Trial).expect("as root");
        fill(&mut object, &plan).expect("fills the maps");
        let map = Map::HashMap(object.take_map("CGROUPS").expect("is there"));
        let mut cgroups: HashMap<MapData, u64, Tables> = map.try_into().expect("is one");
        // As `Cgroups` does, for that of this process alone.
        let (root, own) = (cgroup::root().expect("cgroup2"), own_cgroup());
        let id = fs::metadata(root.join(own.trim_start_matches('/'))).expect("is there").ino();
        cgroups.insert(id, plan.fitting(&own), 0).expect("there is room");
        Self { program, _object: object, _cgroups: Some(cgroups) }
    }

    fn run(&self, family: u64, kind: u64, protocol: u64) -> u64 {
        trial::run(self.program.as_fd(), &[family, kind, protocol]).expect("runs").into()
    }

    fn becomes_mptcp(&self) -> bool {
        self.run(AF_INET, STREAM, 0) == MPTCP
    }
}

fn offsets() -> [u32; fields::COUNT] {
    Types::of_this_kernel().and_then(|types| types.table_with(&NEEDED)).expect("a kernel with BTF")
}

/// Its path in the hierarchy of version 2.
fn own_cgroup() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").expect("is there");
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup2").to_owned()
}

/// One test at a time, since a process has one name; its own one.
fn my_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn call_this(name: &str) {
    fs::write("/proc/self/comm", name).expect("a name");
}

fn table(conditions: &str, mptcp: bool) -> String {
    format!("[[application]]\nmatch = {{ {conditions} }}\nmptcp = {mptcp}\n")
}

#[test]
fn only_what_is_to_be_tcp_becomes_mptcp() {
    let _turn = my_turn();
    let trial = Trial::of(&offsets(), &table("process = \"*\"", true));
    for family in [AF_INET, AF_INET6] {
        for protocol in [0, TCP] {
            assert_eq!(trial.run(family, STREAM, protocol), MPTCP);
            assert_eq!(trial.run(family, STREAM | CLOSE_ON_EXEC, protocol), MPTCP);
        }
        assert_eq!(trial.run(family, STREAM, SCTP), 0);
        assert_eq!(trial.run(family, STREAM, MPTCP), 0, "is MPTCP already");
        assert_eq!(trial.run(family, DATAGRAM, 0), 0);
    }
    assert_eq!(trial.run(AF_UNIX, STREAM, 0), 0);
}

#[test]
fn another_network_namespace_is_left_alone() {
    let _turn = my_turn();
    let trial = Trial::of(&offsets(), &table("process = \"*\"", true));
    assert!(trial.becomes_mptcp());
    let elsewhere = || {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("as root");
                trial.becomes_mptcp()
            });
            thread.join().expect("the thread")
        })
    };
    assert!(!elsewhere());
    assert!(trial.becomes_mptcp());
}

#[test]
fn without_a_table_nothing_does() {
    let _turn = my_turn();
    assert!(!Trial::of(&offsets(), "").becomes_mptcp());
}

/// A table that fits this process now and then.
fn any_rule() -> impl Strategy<Value = ApplicationRule> {
    let name =
        prop::sample::select(vec!["curl", "cu*", "{wget,curl}", "{cu*,w*}", "*", "curlew", "wget", "c"]);
    let user = prop::sample::select(vec!["0", "1000"]);
    let cgroup =
        prop::sample::select(vec!["/".to_owned(), "/**".to_owned(), own_cgroup(), "/elsewhere".to_owned()]);
    let conditions = (prop::option::of(name), prop::option::of(user), prop::option::of(cgroup));
    (conditions, any::<bool>()).prop_map(|((name, user, cgroup), mptcp)| {
        let name = name.map(|name| format!("process = \"{name}\""));
        let user = user.map(|user| format!("uid = {user}"));
        let cgroup = cgroup.map(|cgroup| format!("cgroup = \"{cgroup}\""));
        let all: Vec<String> = [name, user, cgroup].into_iter().flatten().collect();
        let conditions = if all.is_empty() { "process = \"*\"".to_owned() } else { all.join(", ") };
        one(&conditions, mptcp)
    })
}

/// One table by itself: several together would be refused where one never applies.
fn one(conditions: &str, mptcp: bool) -> ApplicationRule {
    let config = Config::parse(&table(conditions, mptcp), "test.toml").expect("is right");
    config.applications.into_iter().next().expect("one table")
}

/// What the rules themselves say of this process, under a name.
fn expected(rules: &[ApplicationRule], name: &str) -> bool {
    let owner = Owner { process: Some(name.to_owned()), pid: None, uid: Some(0), cgroup: Some(own_cgroup()) };
    let config = Config { applications: rules.to_vec(), ..Config::default() };
    Rules::of(&config).mptcp(&Subject { owner: &owner, remote: None, port: None }).becomes
}

#[test]
fn it_decides_as_the_rules_do() {
    let _turn = my_turn();
    let offsets = offsets();
    let before = fs::read_to_string("/proc/self/comm").expect("a name");
    let cases = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let rules = || prop::collection::vec(any_rule(), 0..5);
    proptest!(cases, |(rules in rules(), name in prop::sample::select(vec!["curl", "wget", "cu"]))| {
        call_this(name);
        let becomes = Trial::with(&offsets, &rules).becomes_mptcp();
        prop_assert_eq!(becomes, expected(&rules, name));
    });
    call_this(before.trim_end());
}

/// What does not fit by its cgroup leaves the decision to those that fit by their user, too.
#[test]
fn each_condition_counts_for_each_table() {
    let _turn = my_turn();
    let rules = [one("cgroup = \"/elsewhere\"", true), one("uid = 1000", true)];
    assert!(!Trial::with(&offsets(), &rules).becomes_mptcp());
}

#[tokio::test]
async fn cgroups_that_begin_without_end_are_taken_in_by_turns() {
    let types = Types::of_this_kernel().expect("a kernel with BTF");
    let plan = Plan::of(&[one("cgroup = \"/mptcp-pm-begun-*\"", true)]);
    let mut object = open(&offsets(), &plan).expect("makes the maps");
    let link = struct_ops::at_tracepoint(&object, types.btf(), TRACEPOINT, "begun").expect("as root");
    let mut cgroups = Cgroups::begin(&mut object, plan, link).expect("cgroup2");
    let folder = cgroup::root().expect("cgroup2").join(format!("mptcp-pm-begun-{}", std::process::id()));
    for _ in 0..MOST_AT_ONCE {
        fs::create_dir(&folder).and_then(|()| fs::remove_dir(&folder)).expect("begins and ends");
    }
    fs::create_dir(&folder).expect("begins");
    let id = fs::metadata(&folder).expect("is there").ino();
    cgroups.follow().await.expect("takes in");
    assert!(cgroups.map.get(&id, 0).is_err(), "the last one waits for its turn");
    // Nothing more is told: what is left over is remembered.
    while cgroups.map.get(&id, 0).is_err() {
        cgroups.follow().await.expect("takes in");
    }
    fs::remove_dir(&folder).expect("ends");
}

/// Nanoseconds that a run takes by the kernel's statistics: the least of five means over 10,000 runs, since the machine
/// may be doing other things.
fn cost(trial: &Trial, family: u64) -> u64 {
    let counted = || {
        let ours = aya::programs::loaded_programs().flatten();
        let ours = ours.filter(|program| program.name_as_str() == Some("mptcpify"));
        ours.fold((0, 0), |(time, runs), program| {
            (time + program.run_time().as_nanos() as u64, runs + program.run_count())
        })
    };
    let mean = |_| {
        let before = counted();
        for _ in 0..10_000 {
            trial.run(family, STREAM, 0);
        }
        let after = counted();
        (after.0 - before.0) / (after.1 - before.1)
    };
    (0..5).map(mean).min().expect("five of them")
}

#[test]
#[ignore = "a measurement, for an idle machine"]
fn a_run_takes_no_longer_than_200_ns() {
    let _turn = my_turn();
    let _counting = enable_stats(Stats::RunTime).expect("as root");
    let one = table("process = \"{curl,wget,python3*}\"", false) + &table("process = \"*\"", true);
    let mut all = table("process = \"nothing*\", cgroup = \"/elsewhere/*\"", true);
    all += &table("uid = 1000", false);
    all += &table("cgroup = \"/**\", process = \"*\"", true);
    for (what, text) in [("names alone", one), ("name, user and cgroup", all)] {
        let trial = Trial::of(&offsets(), &text);
        assert!(trial.becomes_mptcp());
        let (none, each) = (cost(&trial, AF_UNIX), cost(&trial, AF_INET));
        println!("{what}: {each} ns, of another family {none} ns, in {}", own_cgroup());
        assert!(each <= 200, "{each} ns");
    }
}
