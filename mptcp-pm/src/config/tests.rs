//! Tests of the configuration: what is understood, and what is refused where with which words.
use mptcp_common::coupled::Algorithm;
use proptest::prelude::*;

use super::*;
use crate::core::service::Service;
use crate::core::world::Link;

const SAMPLE: &str = include_str!("../../../packaging/mptcp-pm.toml");

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    Config::parse(text, "test.toml").expect_err("must be refused").to_string()
}

/// A file with one `[[uplink]]` table.
fn uplink(keys: &str) -> String {
    format!("[[uplink]]\n{keys}\n")
}

fn link(name: &str, kind: Option<&str>, mac: [u8; 6]) -> Link {
    Link {
        index: 2,
        name: name.into(),
        kind: kind.map(Into::into),
        hardware: 1,
        mac: mac.into(),
        up: true,
        carrier: true,
        loopback: false,
        master: None,
    }
}

const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 1];

#[test]
fn an_empty_file_and_the_sample_as_it_is_are_the_defaults() {
    assert_eq!(parse(""), Config::default());
    assert_eq!(parse(SAMPLE), Config::default());
    let Config { profile, manager, vpn, .. } = Config::default();
    assert_eq!((profile, manager, vpn), (Profile::Light, None, false));
}

#[test]
fn the_sample_with_its_settings_uncommented_uses_every_key() {
    let config = parse(&SAMPLE.replace("#:", ""));
    assert_eq!(config.limits, LimitsSetting { subflows: Some(4), add_addr_accepted: Some(4) });
    assert_eq!(config.control, Control::default());
    let listen = Listen::Unix("/run/mptcp-pm/metrics.sock".into());
    assert_eq!(config.metrics, Some(Metrics { listen, group: DEFAULT_GROUP.into(), subflows: false }));
    let roles: Vec<_> = config.uplinks.iter().map(|rule| rule.role).collect();
    assert_eq!(roles, [Some(Role::Backup), Some(Role::Primary), Some(Role::Secondary)]);
    assert_eq!(config.uplinks[0].matching.kind.as_deref(), Some("wwan"));
    assert_eq!(config.uplinks[0].metered, Some(true));
    assert_eq!(config.uplinks[1].matching.mac, Some(MAC));
    assert_eq!(config.uplinks[1].flags, Some(EndpointFlags::SUBFLOW));
    assert_eq!(config.uplinks[1].provider.as_deref(), Some("Example Fibre"));
    assert_eq!(config.service, Some(Service::Handover));
    assert_eq!(config.congestion.of(Service::Aggregate), Some(Algorithm::Lia));
    let services: Vec<_> = config.applications.iter().map(|rule| rule.service).collect();
    let types = [Service::Interactive, Service::Aggregate, Service::Handover, Service::Single].map(Some);
    assert_eq!(services, [&[None; 3][..], &types].concat());
    let conversions: Vec<_> = config.applications.iter().filter_map(|rule| rule.mptcp).collect();
    assert_eq!(conversions, [false, true, true]);
    let line = |rule: &ApplicationRule| SAMPLE.lines().nth(rule.line - 1);
    assert!(config.applications.iter().all(|rule| line(rule) == Some("#:[[application]]")));
}

#[test]
fn congestion_controls_have_the_names_that_their_users_know() {
    assert!(parse("").congestion.keeps());
    assert!(parse("congestion = \"keep\"").congestion.keeps());
    for algorithm in Algorithm::ALL {
        let text = format!("congestion = \"{}\"", algorithm.name());
        assert_eq!(parse(&text).congestion, Congestion::all(Some(algorithm)));
    }
    let said = refusal("congestion = \"bbr\"");
    assert!(
        said.contains("unknown value \"bbr\": use one of \"keep\", \"lia\", \"olia\", \"balia\""),
        "{said}"
    );
}

#[test]
fn each_service_type_may_have_a_congestion_control_of_its_own() {
    for text in
        ["congestion = { aggregate = \"lia\", single = \"keep\" }", "[congestion]\naggregate = \"lia\"\n"]
    {
        let congestion = parse(text).congestion;
        assert!(!congestion.keeps());
        for service in Service::ALL {
            let expected = (service == Service::Aggregate).then_some(Algorithm::Lia);
            assert_eq!(congestion.of(service), expected, "{service:?}");
        }
    }
    assert!(parse("congestion = {}").congestion.keeps());
    let said = refusal("congestion = { bulk = \"lia\", aggregate = \"bbr\" }");
    assert!(
        said.contains("unknown key \"bulk\": known here: handover, interactive, aggregate, single")
            && said.contains("1:42: unknown value \"bbr\""),
        "{said}"
    );
}

#[test]
fn metrics_are_on_loopback_addresses_and_unix_sockets() {
    let listen = |at: &str| {
        let config = parse(&format!("[metrics]\nlisten = \"{at}\"\nsubflows = true"));
        let metrics = config.metrics.expect("is configured");
        assert!(metrics.subflows);
        metrics.listen
    };
    for at in ["127.0.0.1:9101", "127.8.9.10:1", "[::1]:9101", "unix:/run/mptcp-pm/metrics.sock"] {
        assert_eq!(listen(at).to_string(), at);
    }
}

#[test]
fn the_sample_fits_eighty_columns() {
    let longest = SAMPLE.lines().max_by_key(|line| line.chars().count()).expect("has lines");
    assert!(longest.chars().count() <= 80, "{longest}");
}

#[test]
fn all_conditions_of_a_match_must_hold() {
    let config = parse(&uplink("match = { name = \"wl*\", mac = \"02:00:5e:10:00:01\", kind = \"wwan\" }"));
    let rule = &config.uplinks[0];
    assert!(rule.matches(&link("wlan0", Some("wwan"), MAC)));
    assert!(rule.is_explicit());
    assert!(!rule.matches(&link("eth0", Some("wwan"), MAC)));
    assert!(!rule.matches(&link("wlan0", None, MAC)));
    assert!(!rule.matches(&link("wlan0", Some("wwan"), [2; 6])));
}

#[test]
fn only_a_name_is_explicit() {
    let config = parse(&uplink("match = { mac = \"02:00:5E:10:00:01\" }"));
    assert!(config.uplinks[0].matches(&link("tun0", Some("tun"), MAC)));
    assert!(!config.uplinks[0].is_explicit());
}

#[test]
fn globs_know_classes_and_alternatives() {
    let config = parse(&uplink("match = { name = \"{en,eth}[0-9]*\" }"));
    let names = ["en0s1", "eth0", "enp0", "wlan0"];
    let matched = names.map(|name| config.uplinks[0].matches(&link(name, None, MAC)));
    assert_eq!(matched, [true, true, false, false]);
}

#[test]
fn mistakes_are_refused_with_place_and_remedy() {
    let cases = [
        ("profil = \"light\"", "test.toml:1:1: unknown key \"profil\": known here: profile, manager"),
        ("service = \"fast\"", "1:11: unknown value \"fast\": use one of \"handover\", \"interactive\""),
        ("profile = 3", "1:11: wrong type, integer: expected a string"),
        ("\nprofile = \"tiny\"", "2:11: unknown value \"tiny\": use one of \"light\", \"heavy\", \"site\""),
        ("manager = \"both\"", "1:11: unknown value \"both\": use one of \"kernel\", \"daemon\""),
        ("share-with-vpn = \"yes\"", "1:18: wrong type, string: expected true or false"),
        ("share_with_vpn = true", "known here: profile, manager, service, congestion, share-with-vpn"),
        ("limits = 3", "1:10: wrong type, integer: expected a table"),
        ("[limits]\nsubflows = 65", "2:12: 65 is out of range: use a whole number from 0 to 64"),
        ("[limits]\nsubflows = -1", "2:12: -1 is out of range"),
        ("[limits]\nsubflows = 1.5", "2:12: wrong type, float"),
        ("[control]\nsocket = \"run/x\"", "2:10: no absolute path of a file"),
        ("[control]\ngroup = \"\"", "2:9: empty string"),
        ("[metrics]", "1:1: [metrics] without listen: add listen = \"127.0.0.1:9101\", \"[::1]:9101\" or"),
        ("[metrics]\nlisten = 9101", "2:10: wrong type, integer: expected a string"),
        ("[metrics]\nlisten = \"localhost:9101\"", "2:10: no address and port, and no Unix socket"),
        ("[metrics]\nlisten = \"127.0.0.1\"", "2:10: no address and port, and no Unix socket"),
        ("[metrics]\nlisten = \"127.0.0.1:0\"", "2:10: port 0 is no port"),
        ("[metrics]\nlisten = \"0.0.0.0:9101\"", "2:10: 0.0.0.0:9101 can be reached from other machines"),
        ("[metrics]\nlisten = \"[::]:9101\"", "2:10: [::]:9101 can be reached from other machines"),
        (
            "[metrics]\nlisten = \"[::ffff:127.0.0.1]:9101\"",
            "2:10: [::ffff:127.0.0.1]:9101 can be reached from other machines",
        ),
        ("[metrics]\nlisten = \"unix:metrics\"", "2:10: no absolute path of a file: \"metrics\""),
        ("[metrics]\nlisten = \"unix:/run/mptcp-pm/control\"", "2:10: this is the control socket"),
        (
            "[metrics]\nlisten = \"127.0.0.1:9101\"\ngroup = \"adm\"",
            "3:9: group for a network address, which has none: remove group",
        ),
        ("[metrics]\nlisten = \"127.0.0.1:9101\"\nsubflow = true", "known here: listen, group, subflows"),
        ("[uplink]\nrole = \"off\"", "wrong type, table: expected tables: begin each with [[uplink]]"),
        ("uplink = [1]", "1:11: wrong type, integer: expected tables"),
        ("profile = ", "test.toml:1:11: not TOML: "),
        ("profile = \"light\"\nprofile = \"light\"", "2:1: not TOML: duplicate key"),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}

#[test]
fn a_socket_path_must_fit_into_a_socket_address() {
    let path = |bytes: usize| format!("[control]\nsocket = \"/{}\"", "x".repeat(bytes - 1));
    assert_eq!(parse(&path(107)).control.socket.as_os_str().len(), 107);
    assert!(refusal(&path(108)).contains("108 bytes are too long"));
}

#[test]
fn mistakes_in_an_uplink_are_refused_with_place_and_remedy() {
    let cases = [
        ("role = \"off\"", "test.toml:1:1: [[uplink]] without match: add match = { name = \"…\" }"),
        ("match = {}", "2:9: match without a condition: give it name, mac or kind"),
        ("match = \"wl*\"", "2:9: wrong type, string: expected a table"),
        ("match = { nam = \"wl*\" }", "2:11: unknown key \"nam\": known here: name, mac, kind"),
        ("match = { name = \"wl[\" }", "2:18: bad pattern \"wl[\""),
        ("match = { name = \"averyverylongname\" }", "no interface can be called"),
        ("match = { name = \"\" }", "2:18: empty string"),
        ("match = { mac = \"02:00:5e:10:00\" }", "2:17: no hardware address of an interface"),
        ("match = { mac = \"03:00:5e:10:00:01\" }", "no hardware address of an interface"),
        ("match = { mac = \"02:00:5e:10:00:+1\" }", "no hardware address of an interface"),
        ("match = { name = \"a\" }\nprovider = \" \"", "3:12: empty string"),
        ("match = { name = \"a\" }\nprovider = \"a\\nb\"", "3:12: control character"),
        ("match = { name = \"a\" }\nrole = \"main\"", "use one of \"primary\", \"secondary\""),
        ("match = { name = \"a\" }\nmetered = 1", "3:11: wrong type, integer: expected true or false"),
        ("match = { name = \"a\" }\nflags = \"subflow\"", "3:9: wrong type, string: expected a list"),
        ("match = { name = \"a\" }\nflags = [\"subflows\"]", "use one of \"signal\", \"subflow\""),
        ("match = { name = \"a\" }\nflags = []", "3:9: these flags put the uplink to no use"),
        ("match = { name = \"a\" }\nflags = [\"backup\"]", "these flags put the uplink to no use"),
        ("match = { name = \"a\" }\nflags = [\"implicit\"]", "only the kernel makes implicit endpoints"),
        (
            "match = { name = \"a\" }\nflags = [\"signal\", \"fullmesh\"]",
            "the kernel refuses signal with fullmesh",
        ),
        ("match = { name = \"a\" }\nflags = [\"laminar\", \"fullmesh\"]", "fullmesh overrides laminar"),
        (
            "match = { name = \"a\" }\nrole = \"off\"\nflags = [\"subflow\"]",
            "4:9: flags for an uplink that is off",
        ),
        (
            "match = { name = \"a\" }\nrole = \"primary\"\nflags = [\"subflow\", \"backup\"]",
            "4:9: flag \"backup\" for a primary uplink: use role = \"backup\"",
        ),
    ];
    for (keys, expected) in cases {
        let message = refusal(&uplink(keys));
        assert!(message.contains(expected), "{keys:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_table_that_can_never_apply_is_refused() {
    let both = |first: &str, second: &str| {
        let table = |conditions| uplink(&format!("match = {{ {conditions} }}"));
        Config::parse(&(table(first) + &table(second)), "test.toml").map_err(|error| error.to_string())
    };
    let never = "test.toml:3:1: never applies: [[uplink]] number 1 matches all of it first";
    for (first, second) in [
        ("name = \"wl*\"", "name = \"wl*\""),
        ("name = \"wl*\"", "name = \"wlan0\""),
        ("name = \"wl*\"", "name = \"wl*\", kind = \"wwan\""),
        ("mac = \"02:00:5e:10:00:0a\"", "mac = \"02:00:5E:10:00:0A\""),
    ] {
        let message = both(first, second).expect_err("must be refused");
        assert!(message.starts_with(never), "{first} {second}: {message}");
    }
    assert!(both("name = \"wlan0\"", "name = \"wl*\"").is_ok());
    assert!(both("name = \"wl*\", kind = \"wwan\"", "name = \"wl*\"").is_ok());
}

fn application(conditions: &str) -> String {
    format!("[[application]]\nmatch = {{ {conditions} }}\nservice = \"single\"\n")
}

#[test]
fn mistakes_in_an_application_are_refused_with_place_and_remedy() {
    let cases = [
        (
            "[[application]]\nservice = \"single\"",
            "test.toml:1:1: [[application]] without match: add match = {",
        ),
        (
            "[[application]]\nmatch = { uid = 0 }",
            "1:1: [[application]] without service and mptcp: add service = ",
        ),
        ("[[application]]\nmatch = { uid = 0 }\nservice = 1", "3:11: wrong type, integer: expected a string"),
        ("[application]\nservice = \"single\"", "expected tables: begin each with [[application]]"),
        (
            &application(""),
            "2:9: match without a condition: give it process, uid, user, cgroup, remote or port",
        ),
        (&application("name = \"a\""), "2:11: unknown key \"name\": known here: process, uid, user, cgroup"),
        (&application("process = \"a[\""), "2:21: bad pattern \"a[\""),
        (
            &application("process = \"/usr/bin/curl\""),
            "a path is no name of a process: \"/usr/bin/curl\": write",
        ),
        (
            &application("process = \"chromium-browser\""),
            "no process is called \"chromium-browser\": the kernel keeps 15 bytes of a name: \
             write \"chromium-browse\"",
        ),
        (&application("uid = -1"), "2:17: -1 is out of range"),
        (&application("uid = 4294967295"), "out of range: use a whole number from 0 to 4294967294"),
        (&application("user = \"no such user\""), "2:18: no user is called \"no such user\": see `getent"),
        (&application("uid = 0, user = \"root\""), "2:27: uid and user both say who: remove one of the two"),
        (&application("cgroup = \"user.slice\""), "2:20: no path of a cgroup: \"user.slice\": begin with /"),
        (&application("cgroup = \"/user.slice/\""), "no path of a cgroup: \"/user.slice/\""),
        (&application("cgroup = \"/user[\""), "bad pattern \"/user[\""),
        (&application("remote = \"example.org\""), "2:20: no address and no prefix: \"example.org\""),
        (&application("remote = \"192.0.2.1/24\""), "has bits beyond its prefix: write \"192.0.2.0/24\""),
        (&application("port = 0"), "2:18: port 0 is no port"),
        (&application("port = 65536"), "65536 is out of range"),
        (
            &application("port = \"http\""),
            "no port and no range of ports: \"http\": write 443 or \"8000-8099\"",
        ),
        (&application("port = \"1-+5\""), "no port and no range of ports"),
        (&application("port = \"90-80\""), "no port is from 90 to 80: write \"80-90\""),
        (&application("port = [80]"), "2:18: wrong type, array: expected a port: 443 or \"8000-8099\""),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        assert!(message.contains(expected), "{text:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// One table that says something about MPTCP.
fn conversion(conditions: &str) -> String {
    format!("[[application]]\nmatch = {{ {conditions} }}\nmptcp = true\n")
}

#[test]
fn what_cannot_decide_when_a_socket_is_made_is_refused_with_place_and_remedy() {
    let many: String = (0..65).map(|uid| conversion(&format!("uid = {uid}"))).collect();
    let names = |from: usize| (from..from + 60).map(|name| format!("n{name}")).collect::<Vec<_>>().join(",");
    let longest: String =
        (0..18).map(|row| conversion(&format!("process = \"{{{}}}\"", names(60 * row)))).collect();
    let cases: [(&str, &str); 6] = [
        (
            &conversion("process = \"ssh\", port = 22"),
            "test.toml:2:35: port cannot decide on mptcp: a socket is made before it is known where it leads: \
             remove port, or put service and mptcp into a table each",
        ),
        (&conversion("remote = \"192.0.2.1\""), "2:20: remote cannot decide on mptcp"),
        (
            &conversion("process = \"c?rl\""),
            "2:21: \"c?rl\" cannot decide on mptcp: it needs whole names or how they begin: write for example",
        ),
        (
            "[[application]]\nmatch = { uid = 0 }\nmptcp = 1",
            "3:9: wrong type, integer: expected true or false",
        ),
        (&many, "193:1: more than 64 [[application]] tables with mptcp: put several names into one"),
        (&longest, "52:1: more than 1024 names of processes in tables with mptcp: use beginnings"),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_table_applies_as_long_as_an_earlier_one_has_not_said_the_same() {
    let says = |what: &str| format!("[[application]]\nmatch = {{ uid = 0 }}\n{what}\n");
    let (service, mptcp) = ("service = \"single\"", "mptcp = true");
    assert_eq!(parse(&(says(service) + &says(mptcp))).applications.len(), 2);
    for earlier in [says(service) + &says(&format!("{service}\n{mptcp}")), says(mptcp) + &says(service)] {
        assert_eq!(parse(&earlier).applications.len(), 2);
    }
    let never = "[[application]] number 1 matches all of it first";
    assert!(refusal(&(says(&format!("{service}\n{mptcp}")) + &says(mptcp))).contains(never));
}

#[test]
fn an_application_is_found_by_the_name_of_its_user() {
    let config = parse(&application("user = \"root\""));
    assert_eq!(config.applications[0].matching.uid, Some(0));
    assert_eq!(config, parse(&application("uid = 0")));
}

#[test]
fn an_application_that_can_never_apply_is_refused() {
    let both = |first: &str, second: &str| {
        Config::parse(&(application(first) + &application(second)), "test.toml")
            .map_err(|error| error.to_string())
    };
    let never = "test.toml:4:1: never applies: [[application]] number 1 matches all of it first";
    for (first, second) in [
        ("process = \"c*\"", "process = \"curl\""),
        ("process = \"c*\"", "process = \"c*\", uid = 3"),
        ("uid = 0", "user = \"root\""),
        ("cgroup = \"/a\"", "cgroup = \"/a/b\""),
        ("cgroup = \"/*\"", "cgroup = \"/a/b\", port = 1"),
        ("remote = \"192.0.2.0/24\"", "remote = \"192.0.2.9\""),
        ("port = \"80-90\"", "port = \"81-90\""),
    ] {
        let message = both(first, second).expect_err("must be refused");
        assert!(message.starts_with(never), "{first} {second}: {message}");
    }
    for (first, second) in [
        ("process = \"curl\"", "process = \"c*\""),
        ("process = \"curl\", uid = 3", "process = \"curl\""),
        ("cgroup = \"/a/b\"", "cgroup = \"/a\""),
        ("cgroup = \"/a\"", "cgroup = \"/ab\""),
        ("remote = \"192.0.2.9\"", "remote = \"192.0.2.0/24\""),
        ("port = \"80-90\"", "port = \"85-91\""),
    ] {
        assert!(both(first, second).is_ok(), "{first} {second}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_text() {
    let text = "profile = 1\n[[uplink]]\nmatch = { name = \"a\" }\nrole = \"x\"\nmeterd = true\n[limit]\n";
    let message = refusal(text);
    let places: Vec<_> = message.lines().map(|line| line.split(": ").next().expect("a place")).collect();
    assert_eq!(places, ["test.toml:1:11", "test.toml:4:8", "test.toml:5:1", "test.toml:6:2"], "{message}");
}

#[test]
fn columns_count_characters() {
    assert!(
        refusal("\"é\" = 1\n[control]\ngroup = \"ü\"\n\"üüü\" = 2").contains("test.toml:4:1: unknown key")
    );
    assert!(refusal(&uplink("match = { name = \"é*\", mac = 3 }")).contains("2:30: wrong type"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/mptcp-pm.toml")).expect_err("is not there");
    assert!(error.to_string().starts_with("cannot read the configuration /nonexistent/mptcp-pm.toml: "));
}

/// Pieces of which half-right files are made.
const PIECES: [&str; 30] = [
    "[[uplink]]",
    "[uplink]",
    "[[application]]",
    "process",
    "port",
    "\"1-2\"",
    "service = \"single\"",
    "cgroup = \"/a\"",
    "[limits]",
    "[control]",
    "[metrics]",
    "listen = \"127.0.0.1:9101\"",
    "\n",
    "\n",
    "match",
    "name",
    "mac",
    "kind",
    " = ",
    " = ",
    "{ ",
    " }",
    "[ ",
    " ]",
    ", ",
    "\"wl*\"",
    "\"signal\"",
    "flags",
    "role = \"off\"",
    "3",
];

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let _ = Config::parse(&text, "test.toml").map_err(|error| error.to_string());
    }

    #[test]
    fn half_right_text_is_read_or_refused_inside_the_text(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)
    ) {
        let text = pieces.concat();
        if let Err(Error::Refused { problems, .. }) = Config::parse(&text, "test.toml") {
            prop_assert!(!problems.is_empty());
            for Problem { line, column, .. } in problems {
                prop_assert!(line >= 1 && line <= text.matches('\n').count() + 1);
                prop_assert!(column >= 1 && column <= text.len() + 1);
            }
        }
    }
}
