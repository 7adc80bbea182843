//! Service types of living connections: whose they are may be known early or late, rules change, hands decide.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::core::service::{Owner, Rules, Service, Subject, Why};
use crate::core::world::EndpointFlags;

const RULES: &str = "\
[[application]]
match = { process = \"ssh\" }
service = \"interactive\"
[[application]]
match = { uid = 1000 }
service = \"aggregate\"
";

fn paths(config: &str) -> Paths {
    let mut paths = Paths::default();
    paths.set_rules(rules(config));
    paths
}

fn rules(config: &str) -> Rules {
    Rules::of(&Config::parse(config, "test.toml").expect("is right"))
}

fn addr(last: u8, port: u16) -> SocketAddr {
    ([192, 0, 2, last], port).into()
}

fn ends(port: u16) -> Ends {
    Ends::new(addr(7, port), addr(9, 443))
}

fn begun(ends: Ends) -> Notice {
    Notice::Begun { ends, server_side: false, deny_join_id0: false, established: true }
}

fn begin(paths: &mut Paths, token: Token) {
    paths.note(token, begun(ends(40_000)), Duration::ZERO);
}

fn ssh() -> Owner {
    Owner { process: Some("ssh".into()), uid: Some(1000), ..Owner::default() }
}

fn seen(token: Token, uid: u32) -> Seen {
    Seen {
        token,
        manager: Manager::Daemon,
        ends: ends(40_000),
        server_side: false,
        established: true,
        ending: false,
        subflows: Connection::new(ends(40_000), false).subflows,
        owner: Owner { uid: Some(uid), ..Owner::default() },
        addresses: Vec::new(),
    }
}

fn service(paths: &Paths, token: Token) -> (Service, Why) {
    let connection = paths.connection(token).expect("is known");
    (connection.service, connection.why)
}

const BY_FIRST: (Service, Why) = (Service::Interactive, Why::Rule { rule: 1, line: 1 });
const BY_SECOND: (Service, Why) = (Service::Aggregate, Why::Rule { rule: 2, line: 4 });
const BY_PROFILE: (Service, Why) = (Service::Handover, Why::Profile);

#[test]
fn the_owner_may_be_known_before_the_connection_begins_or_after() {
    let mut paths = paths(RULES);
    paths.owned(1, ssh());
    begin(&mut paths, 1);
    assert_eq!(service(&paths, 1), BY_FIRST);
    begin(&mut paths, 2);
    assert_eq!(service(&paths, 2), BY_PROFILE);
    paths.owned(2, ssh());
    assert_eq!(service(&paths, 2), BY_FIRST);
}

#[test]
fn the_latest_owner_of_a_token_counts_and_those_that_never_began_are_forgotten() {
    let mut paths = paths(RULES);
    paths.owned(1, Owner::default());
    paths.owned(1, ssh());
    begin(&mut paths, 1);
    assert_eq!(service(&paths, 1), BY_FIRST);
    paths.owned(2, ssh());
    (1000..3000).for_each(|token| paths.owned(token, ssh()));
    begin(&mut paths, 2);
    assert_eq!(service(&paths, 2), BY_PROFILE);
    begin(&mut paths, 2999);
    assert_eq!(service(&paths, 2999), BY_FIRST);
}

#[test]
fn connections_of_one_owner_share_what_is_known_of_it_until_they_are_gone() {
    let mut paths = paths("");
    for token in [1, 2] {
        paths.owned(token, ssh());
        begin(&mut paths, token);
    }
    let owner = |paths: &Paths, token| paths.connection(token).expect("is known").owner.clone();
    assert!(Arc::ptr_eq(&owner(&paths, 1), &owner(&paths, 2)));
    for pid in 3..1000 {
        paths.owned(pid, Owner { pid: Some(pid), ..ssh() });
        begin(&mut paths, pid);
        paths.note(pid, Notice::Closed, Duration::ZERO);
    }
    assert!(paths.owners.count() < 50, "{} owners are kept", paths.owners.count());
    paths.owned(1000, ssh());
    begin(&mut paths, 1000);
    assert!(Arc::ptr_eq(&owner(&paths, 1), &owner(&paths, 1000)));
}

#[test]
fn thousands_of_connections_fit() {
    // Bytes; what an idle one has, beside what is on the heap.
    assert!(size_of::<Connection>() <= 368, "{}", size_of::<Connection>());
    assert!(size_of::<Subflow>() <= 88, "{}", size_of::<Subflow>());
}

#[test]
fn an_older_connection_has_the_user_that_its_socket_tells() {
    let mut paths = paths(RULES);
    paths.replace(vec![seen(1, 1000), seen(2, 0)]);
    assert_eq!(service(&paths, 1), BY_SECOND);
    assert_eq!(service(&paths, 2), BY_PROFILE);
    // What was told when it began is more than what the socket tells.
    paths.owned(2, ssh());
    paths.replace(vec![seen(2, 0)]);
    assert_eq!(service(&paths, 2), BY_FIRST);
}

#[test]
fn a_reload_changes_living_connections_but_not_what_was_set_by_hand() {
    let mut paths = paths("");
    for token in [1, 2] {
        paths.owned(token, ssh());
        begin(&mut paths, token);
    }
    paths.set_service(2, Some(Service::Single));
    while paths.next(Duration::ZERO).is_some() {}
    assert_eq!(paths.deadline(), None);
    paths.set_rules(rules(RULES));
    assert_eq!(service(&paths, 1), BY_FIRST);
    assert_eq!(service(&paths, 2), (Service::Single, Why::Hand));
    assert_eq!(paths.deadline(), Some(Duration::ZERO), "it is looked at again");
    paths.set_service(2, None);
    assert_eq!(service(&paths, 2), BY_FIRST);
    paths.set_rules(rules("service = \"aggregate\""));
    assert_eq!(service(&paths, 1), (Service::Aggregate, Why::Configuration));
}

#[test]
fn what_was_set_by_hand_goes_with_the_connection() {
    let mut paths = paths("");
    begin(&mut paths, 1);
    paths.set_service(1, Some(Service::Single));
    // Somebody else's now.
    paths.note(1, begun(ends(40_001)), Duration::ZERO);
    assert_eq!(service(&paths, 1), BY_PROFILE);
    paths.set_service(7, Some(Service::Single));
    assert!(paths.connection(7).is_none());
}

#[test]
fn where_the_kernel_manages_no_service_type_is_told() {
    let mut paths = paths("");
    paths.replace(vec![Seen { manager: Manager::Kernel, ..seen(1, 0) }, seen(2, 0)]);
    let told: Vec<_> = paths.served().map(|(token, served)| (token, served.service)).collect();
    assert_eq!(told, [(1, None), (2, Some(BY_PROFILE))]);
}

#[test]
fn each_change_of_a_service_type_is_told_once() {
    let mut paths = paths(RULES);
    begin(&mut paths, 1);
    paths.replace(vec![seen(1, 0), seen(2, 1000), Seen { manager: Manager::Kernel, ..seen(3, 0) }]);
    // Whether it is the default or not.
    let (handover, aggregate) = (Some(Service::Handover), Some(Service::Aggregate));
    assert_eq!(paths.take_services(), [(1, handover), (2, aggregate), (3, None)]);
    assert_eq!(paths.take_services(), []);
    paths.owned(1, ssh());
    paths.set_service(2, aggregate);
    assert_eq!(paths.take_services(), [(1, Some(Service::Interactive))]);
    paths.set_rules(rules(""));
    assert_eq!(paths.take_services(), [(1, handover)]);
    paths.note(1, Notice::Closed, Duration::ZERO);
    paths.replace(Vec::new());
    assert_eq!(paths.take_services(), [(1, None), (2, None), (3, None)]);
}

#[test]
fn what_the_kernel_manages_is_not_looked_at_for_what_was_read_of_it() {
    for (manager, looks) in [(Manager::Kernel, false), (Manager::Daemon, true)] {
        let mut paths = paths("");
        let way =
            |addr: SocketAddr| NewEndpoint { addr: addr.ip(), ifindex: 2, flags: EndpointFlags::SUBFLOW };
        paths.aim(Aims { ways: [addr(7, 0), addr(8, 0)].map(way).into(), ..Aims::default() });
        let second = Ends::new(addr(8, 40_000), addr(9, 443));
        let mut known = Seen { manager, ..seen(1, 0) };
        known.subflows.push(Subflow::new(second, 1, false, true));
        paths.replace(vec![known]);
        // Nothing is decided on it yet.
        paths.due.clear();
        paths.waiting.clear();
        for ends in [ends(40_000), second] {
            let (rtt, least) = (None, None);
            let read = Figures {
                token: 1,
                ends,
                opened: true,
                rtt,
                least,
                acked: 0,
                received: 0,
                backlogged: false,
            };
            paths.read(&read, Duration::ZERO);
        }
        paths.measured(Duration::ZERO);
        assert_eq!(!paths.due.is_empty(), looks, "{manager:?}");
    }
}

/// What can happen to one connection, in any order.
#[derive(Clone, Debug)]
enum Happening {
    Begun,
    Seen,
    Owned,
    Set(Option<Service>),
    Rules(bool),
    Closed,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        Just(Happening::Begun),
        Just(Happening::Seen),
        Just(Happening::Owned),
        prop::option::of(prop::sample::select(&Service::ALL[..])).prop_map(Happening::Set),
        any::<bool>().prop_map(Happening::Rules),
        Just(Happening::Closed),
    ]
}

proptest! {
    /// However it came about: a hand decides, else the rules in force on what is known of the owner.
    #[test]
    fn the_service_type_follows_from_what_is_known(history in prop::collection::vec(happening(), 0..24)) {
        let mut paths = paths("");
        let (mut in_force, mut by_hand) = (rules(""), None);
        for one in history {
            let is_known = paths.connection(1).is_some();
            match one {
                Happening::Begun => begin(&mut paths, 1),
                Happening::Seen => paths.replace(vec![seen(1, 1000)]),
                Happening::Owned => paths.owned(1, ssh()),
                Happening::Set(service) => {
                    paths.set_service(1, service);
                    by_hand = service.filter(|_| is_known);
                }
                Happening::Rules(on) => {
                    in_force = rules(if on { RULES } else { "" });
                    paths.set_rules(in_force.clone());
                }
                Happening::Closed => {
                    paths.note(1, Notice::Closed, Duration::ZERO);
                    by_hand = None;
                }
            }
            if let Some(connection) = paths.connection(1) {
                let subject = Subject::new(&connection.owner, &connection.ends, false);
                let expected = by_hand.map_or_else(|| in_force.decide(&subject), |one| (one, Why::Hand));
                prop_assert_eq!((connection.service, connection.why), expected);
            }
        }
    }
}

#[test]
fn what_is_known_of_a_connection_with_two_subflows_takes_less_than_a_kilobyte() {
    let all = size_of::<Connection>() + 2 * size_of::<Subflow>();
    assert!(all <= 1024, "{all} bytes, {} for a subflow", size_of::<Subflow>());
}
