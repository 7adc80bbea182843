//! Each thing that a kernel may lack is hidden on this one; what depends on it is absent by name, the rest is there.
use std::collections::BTreeSet;

use super::*;
use crate::probe::State;

fn state(features: &[Feature], name: &str) -> State {
    feature(features, name).state
}

fn feature<'a>(features: &'a [Feature], name: &str) -> &'a Feature {
    let found = features.iter().find(|feature| feature.feature == name);
    found.unwrap_or_else(|| panic!("{name} is not among {features:#?}"))
}

/// What is not there, without that which this kernel never has.
fn missing(features: &[Feature]) -> BTreeSet<&str> {
    let elsewhere = ["packet-scheduler", "modify-return", "mptcpify", "mptcpify/mptcpify"];
    let missing = features.iter().filter(|feature| feature.state != State::Yes);
    missing.map(|feature| feature.feature.as_str()).filter(|name| !elsewhere.contains(name)).collect()
}

/// What is found on a kernel that lacks what has this name.
fn lacking(name: &str) -> Vec<Feature> {
    let kernel = Kernel::with(Types::without(name));
    of(&kernel, kernel.types().unwrap())
}

#[test]
fn each_program_of_each_object_is_tried() {
    for name in objects::names() {
        let file = aya_obj::Object::parse(objects::get(name).unwrap()).unwrap();
        let known = OBJECTS.iter().find(|programs| programs.object == name);
        let known =
            known.unwrap_or_else(|| panic!("the object {name} is not in the list: add it with its programs"));
        let listed: BTreeSet<_> = known.programs.iter().map(|(program, _)| *program).collect();
        assert_eq!(file.programs.keys().map(String::as_str).collect::<BTreeSet<_>>(), listed, "{name}");
    }
}

#[test]
fn this_kernel_takes_all_of_them() {
    let features = features();
    assert_eq!(missing(&features), BTreeSet::new(), "{features:#?}");
    let programs = OBJECTS.iter().flat_map(|of| of.programs.iter().map(move |(name, _)| (of.object, *name)));
    let may_run_before = state(&features, "modify-return") == State::Yes;
    for (object, name) in programs.filter(|(_, name)| may_run_before || *name != "mptcpify") {
        let verified = feature(&features, &format!("{object}/{name}")).verified_instructions;
        assert!(verified.is_some_and(|count| count > 1), "{object}/{name}: {verified:?}");
    }
}

#[test]
fn without_an_iterator_its_program_alone_is_absent() {
    let features = lacking("bpf_iter_tcp");
    let objects = ["path_stats", "silence", "unsent", "congestion"];
    let programs =
        ["path_stats/adopt", "silence/adopt", "unsent/adopt", "unsent/release", "congestion/change"];
    assert_eq!(missing(&features), objects.into_iter().chain(programs).collect());
    assert!(feature(&features, "path_stats").detail.contains("adopt"));
}

#[test]
fn without_a_field_what_only_reads_it_works() {
    let features = lacking("rate_interval_us");
    assert_eq!(missing(&features), BTreeSet::from(["fields"]));
    assert_eq!(feature(&features, "fields").detail, "there is no tcp_sock.rate_interval_us");
}

#[test]
fn without_a_field_that_it_needs_an_object_is_absent_as_a_whole() {
    let features = lacking("prior_cwnd");
    assert_eq!(missing(&features), BTreeSet::from(["fields", "coupled"]));
    assert!(feature(&features, "coupled").detail.contains("tcp_sock.prior_cwnd"));
}

#[test]
fn without_a_field_that_several_need_all_of_them_are_absent() {
    let features = lacking("srtt_us");
    assert_eq!(missing(&features), BTreeSet::from(["fields", "silence", "unsent", "coupled"]));
    assert!(feature(&features, "silence").detail.contains("tcp_sock.srtt_us"));
}

#[test]
fn without_struct_ops_there_is_no_congestion_control() {
    let features = lacking("bpf_struct_ops_tcp_congestion_ops");
    assert_eq!(missing(&features), BTreeSet::from(["congestion-control", "coupled"]));
    assert!(feature(&features, "coupled").detail.contains("bpf_struct_ops_tcp_congestion_ops"));
}

#[test]
fn without_its_function_nothing_runs_before_it() {
    let features = lacking("update_socket_protocol");
    assert_eq!(state(&features, "modify-return"), State::No);
    assert!(feature(&features, "modify-return").detail.contains("ENOENT"));
    assert_eq!(state(&features, "mptcpify"), State::No);
    assert!(feature(&features, "mptcpify/mptcpify").detail.contains("finding update_socket_protocol()"));
    assert_eq!(state(&features, "mptcpify/begun"), State::Yes);
}
