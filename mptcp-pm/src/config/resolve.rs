//! From the parsed TOML to the configuration: what each key means, and which keys contradict each other.
mod application;

use std::net::SocketAddr;
use std::path::PathBuf;

use mptcp_common::coupled::Algorithm;
use toml::de::{DeTable, DeValue};

use super::error::{Problems, Refusal, refuse};
use super::values::{Fields, boolean, choice, count, string, words, wrong_type};
use super::{
    Buffers, Config, Congestion, Control, DEFAULT_GROUP, Desktop, Endpoints, LimitsSetting, Listen, Manager,
    Match, Metrics, NameGlob, OnBattery, Problem, Profile, Role, UplinkRule,
};
use crate::core::service::Service;
use crate::core::world::EndpointFlags;

/// The most that any kernel accepts as a limit (7.2; 8 before).
const MAX_LIMIT: u32 = 64;
/// `IFNAMSIZ - 1` (`include/uapi/linux/if.h`).
const MAX_NAME: usize = 15;
/// `sizeof(sun_path) - 1` (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;

/// What `listen` may say.
const LISTEN_EXAMPLE: &str = "\"127.0.0.1:9101\", \"[::1]:9101\" or \"unix:/run/mptcp-pm/metrics.sock\"";

/// Resolves a text, or says all that is wrong with it.
pub(super) fn config(text: &str) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::new(text);
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let at = error.span().map_or(0, |span| span.start);
        problems.add(at, refuse(format!("not TOML: {}", one_line(error.message())), "see https://toml.io"));
    }
    // What follows a syntax error is a guess: nothing is said about it.
    let config = match syntax_errors.is_empty() {
        true => file(Fields::new(root.get_ref(), 0), &mut problems),
        false => Config::default(),
    };
    let problems = problems.finish();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn file(fields: Fields, problems: &mut Problems) -> Config {
    fields.expect(
        &[
            "profile",
            "manager",
            "service",
            "congestion",
            "share-with-vpn",
            "buffers",
            "endpoints",
            "on-battery",
            "desktop",
            "uplink",
            "application",
            "limits",
            "control",
            "metrics",
        ],
        problems,
    );
    let control = fields.table("control", problems).map(|table| control(table, problems)).unwrap_or_default();
    Config {
        profile: fields.read("profile", problems, profile).unwrap_or_default(),
        manager: fields.read("manager", problems, manager),
        service: fields.read("service", problems, application::service),
        congestion: congestion(fields, problems),
        uplinks: uplinks(fields, problems),
        buffers: fields.read("buffers", problems, buffers).unwrap_or_default(),
        applications: application::applications(fields, problems),
        vpn: fields.read("share-with-vpn", problems, boolean).unwrap_or_default(),
        endpoints: fields.read("endpoints", problems, endpoints).unwrap_or_default(),
        on_battery: fields.read("on-battery", problems, on_battery),
        desktop: fields.table("desktop", problems).map(|table| desktop(table, problems)).unwrap_or_default(),
        limits: fields.table("limits", problems).map(|table| limits(table, problems)).unwrap_or_default(),
        metrics: fields.table("metrics", problems).and_then(|table| metrics(table, &control, problems)),
        control,
    }
}

fn profile(value: &DeValue) -> Result<Profile, Refusal> {
    choice(value, &[Profile::Light, Profile::Heavy, Profile::Site].map(|profile| (profile.name(), profile)))
}

fn buffers(value: &DeValue) -> Result<Buffers, Refusal> {
    choice(value, &[("fit", Buffers::Fit), ("keep", Buffers::Keep)])
}

fn endpoints(value: &DeValue) -> Result<Endpoints, Refusal> {
    choice(value, &[("ours", Endpoints::Ours), ("networkmanager", Endpoints::NetworkManager)])
}

fn on_battery(value: &DeValue) -> Result<OnBattery, Refusal> {
    choice(value, &[("hold-back", OnBattery::HoldBack), ("keep", OnBattery::Keep)])
}

fn desktop(fields: Fields, problems: &mut Problems) -> Desktop {
    fields.expect(&["network-manager"], problems);
    let heard = |value: &DeValue| choice(value, &[("auto", true), ("off", false)]);
    let default = Desktop::default();
    Desktop {
        network_manager: fields.read("network-manager", problems, heard).unwrap_or(default.network_manager),
    }
}

fn manager(value: &DeValue) -> Result<Manager, Refusal> {
    choice(value, &[Manager::Kernel, Manager::Daemon].map(|manager| (manager.name(), manager)))
}

/// A word for all, or a table with one for each service type.
fn congestion(fields: Fields, problems: &mut Problems) -> Congestion {
    if !fields.has_table("congestion") {
        return Congestion::all(fields.read("congestion", problems, control_name).unwrap_or_default());
    }
    let Some(table) = fields.table("congestion", problems) else { return Congestion::default() };
    table.expect(&Service::ALL.map(Service::name), problems);
    Congestion::each(|service| table.read(service.name(), problems, control_name).unwrap_or_default())
}

fn control_name(value: &DeValue) -> Result<Option<Algorithm>, Refusal> {
    let [lia, olia, balia] = Algorithm::ALL.map(|algorithm| (algorithm.name(), Some(algorithm)));
    choice(value, &[("keep", None), lia, olia, balia])
}

fn limits(fields: Fields, problems: &mut Problems) -> LimitsSetting {
    fields.expect(&["subflows", "add-addr-accepted"], problems);
    let mut limit = |key| fields.read(key, problems, |value| count(value, MAX_LIMIT));
    LimitsSetting { subflows: limit("subflows"), add_addr_accepted: limit("add-addr-accepted") }
}

fn control(fields: Fields, problems: &mut Problems) -> Control {
    fields.expect(&["socket", "group"], problems);
    let default = Control::default();
    Control {
        socket: fields.read("socket", problems, socket_path).unwrap_or(default.socket),
        group: fields.read("group", problems, words).unwrap_or(default.group),
    }
}

fn metrics(fields: Fields, control: &Control, problems: &mut Problems) -> Option<Metrics> {
    fields.expect(&["listen", "group", "subflows"], problems);
    if !fields.has("listen") {
        problems.add(fields.at, refuse("[metrics] without listen", format!("add listen = {LISTEN_EXAMPLE}")));
    }
    let listen = fields.read("listen", problems, listen);
    let group = fields.read("group", problems, words);
    let subflows = fields.read("subflows", problems, boolean).unwrap_or_default();
    match &listen {
        Some(Listen::Loopback(_)) if group.is_some() => {
            let what = "group for a network address, which has none";
            problems.add(fields.place("group"), refuse(what, "remove group, or listen on a Unix socket"));
        }
        Some(Listen::Unix(path)) if *path == control.socket => {
            let what = "this is the control socket";
            problems.add(fields.place("listen"), refuse(what, "use another path"));
        }
        _ => {}
    }
    Some(Metrics { listen: listen?, group: group.unwrap_or(DEFAULT_GROUP.into()), subflows })
}

fn listen(value: &DeValue) -> Result<Listen, Refusal> {
    let text = words(value)?;
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_file(path).map(Listen::Unix);
    }
    let addr = text.parse::<SocketAddr>();
    let addr = addr.map_err(|_| {
        refuse(
            format!("no address and port, and no Unix socket: {text:?}"),
            format!("write {LISTEN_EXAMPLE}"),
        )
    })?;
    if !addr.ip().is_loopback() {
        let what = format!("{addr} can be reached from other machines, and the metrics have no password");
        return Err(refuse(what, format!("use {LISTEN_EXAMPLE}, and a proxy for other machines")));
    }
    if addr.port() == 0 {
        return Err(refuse("port 0 is no port", "use one from 1 to 65535"));
    }
    Ok(Listen::Loopback(addr))
}

fn socket_path(value: &DeValue) -> Result<PathBuf, Refusal> {
    socket_file(&words(value)?)
}

fn socket_file(path: &str) -> Result<PathBuf, Refusal> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(refuse(format!("no absolute path of a file: {path:?}"), "begin with / and name a file"));
    }
    if path.len() > MAX_SOCKET_PATH {
        let what = format!("{} bytes are too long for the path of a socket", path.len());
        return Err(refuse(what, format!("use {MAX_SOCKET_PATH} bytes at most")));
    }
    Ok(path.into())
}

fn uplinks(fields: Fields, problems: &mut Problems) -> Vec<UplinkRule> {
    let tables = fields.tables("uplink", problems);
    let rules: Vec<_> = tables.into_iter().map(|table| (table.at, uplink(table, problems))).collect();
    for (position, (at, rule)) in rules.iter().enumerate() {
        let earlier = rules[..position]
            .iter()
            .position(|(_, earlier)| !earlier.matching.is_empty() && earlier.matching.covers(&rule.matching));
        if let Some(earlier) = earlier.filter(|_| !rule.matching.is_empty()) {
            let what = format!("never applies: [[uplink]] number {} matches all of it first", earlier + 1);
            problems.add(*at, refuse(what, "put the narrower match first, or remove one of the two"));
        }
    }
    rules.into_iter().map(|(_, rule)| rule).collect()
}

fn uplink(fields: Fields, problems: &mut Problems) -> UplinkRule {
    fields.expect(&["match", "provider", "role", "metered", "flags"], problems);
    let rule = UplinkRule {
        matching: matching(fields, problems),
        provider: fields.read("provider", problems, words),
        role: fields.read("role", problems, role),
        metered: fields.read("metered", problems, boolean),
        flags: fields.read("flags", problems, flags),
    };
    if let Err(refusal) = agrees(&rule) {
        problems.add(fields.place("flags"), refusal);
    }
    rule
}

/// Whether the flags of a table say the same as its role.
fn agrees(rule: &UplinkRule) -> Result<(), Refusal> {
    let Some(flags) = rule.flags else { return Ok(()) };
    match rule.role {
        Some(Role::Off) => Err(refuse("flags for an uplink that is off", "remove flags, or change role")),
        Some(role @ (Role::Primary | Role::Secondary)) if flags.contains(EndpointFlags::BACKUP) => {
            let what = format!("flag \"backup\" for a {} uplink", role.name());
            Err(refuse(what, "use role = \"backup\", or remove the flag"))
        }
        _ => Ok(()),
    }
}

fn matching(fields: Fields, problems: &mut Problems) -> Match {
    if !fields.has("match") {
        problems.add(fields.at, refuse("[[uplink]] without match", "add match = { name = \"…\" }"));
        return Match::default();
    }
    let Some(table) = fields.table("match", problems) else { return Match::default() };
    table.expect(&["name", "mac", "kind"], problems);
    let matching = Match {
        name: table.read("name", problems, name_glob),
        mac: table.read("mac", problems, mac),
        kind: table.read("kind", problems, words),
    };
    if table.is_empty() {
        problems.add(table.at, refuse("match without a condition", "give it name, mac or kind"));
    }
    matching
}

fn name_glob(value: &DeValue) -> Result<NameGlob, Refusal> {
    let pattern = words(value)?;
    let glob = NameGlob::new(&pattern).map_err(|error| {
        refuse(format!("bad pattern {pattern:?}: {}", error.kind()), "write for example \"wl*\"")
    })?;
    if glob.is_plain() && (pattern.len() > MAX_NAME || pattern.contains([' ', '/', ':'])) {
        let remedy = format!("a name has at most {MAX_NAME} bytes and no space, '/' or ':'");
        return Err(refuse(format!("no interface can be called {pattern:?}"), remedy));
    }
    Ok(glob)
}

fn mac(value: &DeValue) -> Result<[u8; 6], Refusal> {
    let text = string(value)?;
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    let mac = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok());
    // The lowest bit of the first octet marks a group of stations (IEEE 802), which no interface is.
    mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]).ok_or_else(|| {
        refuse(
            format!("no hardware address of an interface: {text:?}"),
            "write six octets like \"02:00:5e:10:00:01\"",
        )
    })
}

fn octet(digits: &str) -> Option<u8> {
    let two_digits = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    two_digits.then(|| u8::from_str_radix(digits, 16).ok())?
}

fn role(value: &DeValue) -> Result<Role, Refusal> {
    choice(value, &Role::ALL.map(|role| (role.name(), role)))
}

fn flags(value: &DeValue) -> Result<EndpointFlags, Refusal> {
    let list = value.as_array().ok_or_else(|| wrong_type(value, "a list like [\"subflow\"]"))?;
    let flags = list.iter().map(|flag| self::flag(flag.get_ref())).collect::<Result<EndpointFlags, _>>()?;
    let uses =
        EndpointFlags::SIGNAL | EndpointFlags::SUBFLOW | EndpointFlags::FULLMESH | EndpointFlags::LAMINAR;
    if !flags.intersects(uses) {
        let remedy = "add \"subflow\" or \"signal\"; leave flags out for the usual ones";
        return Err(refuse("these flags put the uplink to no use", remedy));
    }
    if flags.contains(EndpointFlags::FULLMESH | EndpointFlags::SIGNAL) {
        return Err(refuse("the kernel refuses signal with fullmesh", "remove one of the two"));
    }
    if flags.contains(EndpointFlags::FULLMESH | EndpointFlags::LAMINAR) {
        return Err(refuse("fullmesh overrides laminar in the kernel", "remove one of the two"));
    }
    Ok(flags)
}

fn flag(value: &DeValue) -> Result<EndpointFlags, Refusal> {
    let choices = [
        ("signal", EndpointFlags::SIGNAL),
        ("subflow", EndpointFlags::SUBFLOW),
        ("backup", EndpointFlags::BACKUP),
        ("fullmesh", EndpointFlags::FULLMESH),
        ("laminar", EndpointFlags::LAMINAR),
    ];
    if value.as_str() == Some("implicit") {
        return Err(refuse("only the kernel makes implicit endpoints", "remove \"implicit\""));
    }
    choice(value, &choices)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
