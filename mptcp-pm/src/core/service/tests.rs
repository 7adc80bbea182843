//! Which rule decides: the first one of which all conditions hold, of what is known.
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::core::connections::Ends;

fn rules(text: &str) -> Rules {
    Rules::of(&Config::parse(text, "test.toml").expect("is right"))
}

/// One table.
fn rule(conditions: &str, service: &str) -> String {
    format!("[[application]]\nmatch = {{ {conditions} }}\nservice = \"{service}\"\n")
}

fn curl() -> Owner {
    Owner {
        process: Some("curl".into()),
        pid: Some(7),
        uid: Some(1000),
        cgroup: Some("/user.slice/user-1000.slice/session-3.scope".into()),
    }
}

fn ends() -> Ends {
    Ends::new("192.0.2.7:40000".parse().expect("parses"), "203.0.113.9:443".parse().expect("parses"))
}

/// What is decided on a connection that curl has opened.
fn decided(text: &str) -> (Service, Why) {
    rules(text).decide(&Subject::new(&curl(), &ends(), false))
}

#[test]
fn without_a_rule_the_profile_decides_or_the_default_that_is_told() {
    assert_eq!(decided(""), (Service::Handover, Why::Profile));
    assert_eq!(decided("profile = \"heavy\""), (Service::Aggregate, Why::Profile));
    assert_eq!(decided("profile = \"site\""), (Service::Aggregate, Why::Profile));
    assert_eq!(decided("profile = \"site\"\nservice = \"single\""), (Service::Single, Why::Configuration));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let text = rule("process = \"wget\"", "single")
        + &rule("port = 443", "interactive")
        + &rule("process = \"curl\"", "aggregate");
    assert_eq!(decided(&text), (Service::Interactive, Why::Rule { rule: 2, line: 4 }));
    let rules = rules(&text);
    let passed = rules.passed_over(&Subject::new(&curl(), &ends(), false));
    assert_eq!(passed, [PassedOver { rule: 1, line: 1, condition: "process" }]);
}

#[test]
fn each_condition_holds_where_it_should() {
    for holds in [
        "process = \"cu*\"",
        "uid = 1000",
        "cgroup = \"/user.slice\"",
        "cgroup = \"/user.slice/user-*.slice\"",
        "cgroup = \"/user.slice/*/session-3.scope\"",
        "cgroup = \"/**/session-*\"",
        "cgroup = \"/\"",
        "remote = \"203.0.113.0/24\"",
        "remote = \"203.0.113.9\"",
        "port = 443",
        "port = \"400-443\"",
        "process = \"curl\", uid = 1000, cgroup = \"/user.slice\", remote = \"0.0.0.0/0\", port = \"1-65535\"",
    ] {
        assert_eq!(decided(&rule(holds, "single")).0, Service::Single, "{holds}");
    }
    for fails in [
        "process = \"cur\"",
        "uid = 0",
        "cgroup = \"/user.slic\"",
        "cgroup = \"/user.slice/session-3.scope\"",
        "cgroup = \"/*/session-3.scope\"",
        "remote = \"203.0.112.0/24\"",
        "remote = \"::/0\"",
        "port = 40000",
        "port = \"444-500\"",
        "process = \"curl\", uid = 1001",
    ] {
        assert_eq!(decided(&rule(fails, "single")).1, Why::Profile, "{fails}");
    }
}

#[test]
fn what_is_not_known_matches_no_condition() {
    let nobody = Owner::default();
    let subject = Subject::new(&nobody, &ends(), false);
    for conditions in ["process = \"*\"", "uid = 0", "cgroup = \"/\""] {
        assert_eq!(rules(&rule(conditions, "single")).decide(&subject).1, Why::Profile, "{conditions}");
    }
    for conditions in ["port = 443", "remote = \"203.0.113.9\""] {
        assert_eq!(rules(&rule(conditions, "single")).decide(&subject).0, Service::Single, "{conditions}");
    }
    let nothing = Subject { owner: &nobody, remote: None, port: None };
    let both = rule("port = 443", "single") + &rule("remote = \"0.0.0.0/0\"", "single");
    assert_eq!(rules(&both).decide(&nothing).1, Why::Profile);
}

#[test]
fn where_we_have_accepted_the_port_is_ours_and_the_address_the_peers() {
    let accepted = Ends::new(ends().remote(), ends().local());
    let nobody = Owner::default();
    let subject = Subject::new(&nobody, &accepted, true);
    assert_eq!(rules(&rule("port = 443", "single")).decide(&subject).0, Service::Single);
    assert_eq!(rules(&rule("remote = \"192.0.2.7\"", "single")).decide(&subject).0, Service::Single);
}

#[test]
fn what_is_known_already_is_not_replaced() {
    let mut owner = Owner { uid: Some(5), ..Owner::default() };
    owner.complete(curl());
    assert_eq!(owner, Owner { uid: Some(5), ..curl() });
}

/// Conditions that overlap in all ways.
const CONDITIONS: [&str; 6] = [
    "port = 443",
    "port = \"1-500\"",
    "process = \"curl\"",
    "uid = 1000, process = \"w*\"",
    "cgroup = \"/user.slice\"",
    "remote = \"203.0.113.0/25\"",
];

prop_compose! {
    fn some_owner()(
        process in prop::option::of(prop::sample::select(&["curl", "wget"][..])),
        uid in prop::option::of(999u32..1002),
        cgroup in prop::option::of(prop::sample::select(&["/user.slice/a", "/system.slice"][..])),
    ) -> Owner {
        Owner { process: process.map(Into::into), pid: None, uid, cgroup: cgroup.map(Into::into) }
    }
}

proptest! {
    /// The same as asking each rule alone, in turn; and rules after the one that decides change nothing.
    #[test]
    fn of_any_rules_the_first_that_matches_alone_decides(
        order in Just(CONDITIONS.to_vec()).prop_shuffle(),
        kept in 0..=CONDITIONS.len(),
        owner in some_owner(),
        port in prop::option::of(440u16..503),
        last in 100u8..140,
    ) {
        let subject = Subject { owner: &owner, remote: Some([203, 0, 113, last].into()), port };
        let tables: Vec<String> =
            order[..kept].iter().map(|conditions| rule(conditions, "interactive")).collect();
        // What one covers is refused after it, which is not the matter here.
        let Ok(config) = Config::parse(&tables.concat(), "test.toml") else { return Ok(()) };
        let alone = |table: &String| rules(table).decide(&subject).0 == Service::Interactive;
        let expected = tables.iter().position(alone);
        let found = match Rules::of(&config).decide(&subject).1 {
            Why::Rule { rule, line } => {
                prop_assert_eq!(line, 3 * (rule - 1) + 1);
                Some(rule - 1)
            }
            _ => None,
        };
        prop_assert_eq!(found, expected);
        let passed = Rules::of(&config).passed_over(&subject);
        prop_assert_eq!(passed.len(), expected.unwrap_or(kept));
    }
}

/// Service types and MPTCP are decided in one order, each by the tables that say something about it.
#[test]
fn each_table_decides_on_what_it_says() {
    let text = "[[application]]\nmatch = { process = \"c*\" }\nservice = \"single\"\n".to_owned()
        + "[[application]]\nmatch = { uid = 7 }\nmptcp = false\n"
        + "[[application]]\nmatch = { uid = 1000 }\nservice = \"aggregate\"\nmptcp = true\n";
    let (rules, owner) = (rules(&text), curl());
    let subject = Subject { owner: &owner, remote: None, port: None };
    assert_eq!(rules.decide(&subject), (Service::Single, Why::Rule { rule: 1, line: 1 }));
    let passed_over = vec![PassedOver { rule: 2, line: 4, condition: "uid" }];
    let expected = Conversion { becomes: true, rule: Some(3), line: Some(7), passed_over };
    assert_eq!(rules.mptcp(&subject), expected);
    let nobody = Owner::default();
    let subject = Subject { owner: &nobody, remote: None, port: None };
    assert_eq!((rules.mptcp(&subject).becomes, rules.mptcp(&subject).rule), (false, None));
}

#[test]
fn a_slice_decides_where_no_rule_does() {
    let rules = rules("service = \"handover\"\n[[application]]\nmatch = { uid = 0 }\nservice = \"single\"\n");
    let decided = |cgroup: &str, uid| {
        let owner = Owner { cgroup: Some(cgroup.to_owned()), uid: Some(uid), ..Owner::default() };
        rules.decide(&Subject { owner: &owner, remote: None, port: None })
    };
    let inside = "/user.slice/user@7.service/mptcp.slice/mptcp-aggregate.slice/run-1.scope";
    assert_eq!(decided(inside, 7), (Service::Aggregate, Why::Slice));
    assert_eq!(decided(inside, 0), (Service::Single, Why::Rule { rule: 1, line: 2 }));
    for other in ["/mptcp.slice", "/mptcp-other.slice", "/mptcp-single.slicer"] {
        assert_eq!(decided(other, 7), (Service::Handover, Why::Configuration));
    }
}
