//! What the keys of `[[application]]` mean.
use std::net::IpAddr;

use ipnet::IpNet;
use mptcp_common::applications::{MOST_TABLES, NAMES_KNOWN};
use nix::unistd::User;
use toml::de::DeValue;

use super::super::error::{Problems, Refusal, refuse};
use super::super::values::{Fields, boolean, choice, count, string, words, wrong_type};
use super::super::{ApplicationMatch, ApplicationRule, CgroupGlob, MAX_PROCESS, NameGlob, Names, Ports};
use crate::core::service::Service;

/// The greatest user id; the one after it stands for none (chown(2)).
const MAX_UID: u32 = u32::MAX - 1;

const PORT_EXAMPLE: &str = "443 or \"8000-8099\"";

pub(super) fn applications(fields: Fields, problems: &mut Problems) -> Vec<ApplicationRule> {
    let tables = fields.tables("application", problems);
    let mut rules: Vec<ApplicationRule> = Vec::new();
    for table in tables {
        let rule = application(table, problems);
        let earlier = rules.iter().position(|earlier| has_said_all(earlier, &rule));
        if let Some(earlier) = earlier.filter(|_| !rule.matching.is_empty()) {
            let what =
                format!("never applies: [[application]] number {} matches all of it first", earlier + 1);
            problems.add(table.at, refuse(what, "put the narrower match first, or remove one of the two"));
        }
        if rule.mptcp.is_some() {
            within_bounds(&rules, &rule, table, problems);
        }
        rules.push(rule);
    }
    rules
}

/// Whether an earlier table leaves nothing to say to a later one.
fn has_said_all(earlier: &ApplicationRule, later: &ApplicationRule) -> bool {
    let says_something = later.service.is_some() || later.mptcp.is_some();
    says_something
        && !earlier.matching.is_empty()
        && earlier.matching.covers(&later.matching)
        && (later.service.is_none() || earlier.service.is_some())
        && (later.mptcp.is_none() || earlier.mptcp.is_some())
}

/// Refuses more than the kernel's tables have room for.
fn within_bounds(
    earlier: &[ApplicationRule],
    rule: &ApplicationRule,
    table: Fields,
    problems: &mut Problems,
) {
    let deciding = || earlier.iter().chain([rule]).filter(|rule| rule.mptcp.is_some());
    let names = |rule: &ApplicationRule| {
        rule.matching.process.as_ref().and_then(Names::of).map_or(0, |all| all.count())
    };
    if deciding().count() > MOST_TABLES {
        let what = format!("more than {MOST_TABLES} [[application]] tables with mptcp");
        problems.add(table.at, refuse(what, "put several names into one: process = \"{curl,wget}\""));
    }
    if deciding().map(names).sum::<usize>() > NAMES_KNOWN as usize {
        let what = format!("more than {NAMES_KNOWN} names of processes in tables with mptcp");
        problems.add(table.at, refuse(what, "use beginnings of names, as in \"python3*\", or cgroups"));
    }
}

fn application(fields: Fields, problems: &mut Problems) -> ApplicationRule {
    fields.expect(&["match", "service", "mptcp"], problems);
    if !fields.has("service") && !fields.has("mptcp") {
        let remedy = "add service = \"interactive\", or another service type, or mptcp = true";
        problems.add(fields.at, refuse("[[application]] without service and mptcp", remedy));
    }
    let mptcp = fields.read("mptcp", problems, boolean);
    ApplicationRule {
        line: problems.line(fields.at),
        matching: matching(fields, mptcp.is_some(), problems),
        service: fields.read("service", problems, service),
        mptcp,
    }
}

pub(super) fn service(value: &DeValue) -> Result<Service, Refusal> {
    choice(value, &Service::ALL.map(|service| (service.name(), service)))
}

/// With `mptcp` only what is known when a socket is made.
fn matching(fields: Fields, with_mptcp: bool, problems: &mut Problems) -> ApplicationMatch {
    if !fields.has("match") {
        let remedy = "add match = { process = \"…\" }";
        problems.add(fields.at, refuse("[[application]] without match", remedy));
        return ApplicationMatch::default();
    }
    let Some(table) = fields.table("match", problems) else { return ApplicationMatch::default() };
    table.expect(&["process", "uid", "user", "cgroup", "remote", "port"], problems);
    if table.is_empty() {
        let remedy = "give it process, uid, user, cgroup, remote or port";
        problems.add(table.at, refuse("match without a condition", remedy));
    }
    let uid = table.read("uid", problems, |value| count(value, MAX_UID));
    let user = table.read("user", problems, user);
    if table.has("uid") && table.has("user") {
        let refusal = refuse("uid and user both say who", "remove one of the two");
        problems.add(table.place("user"), refusal);
    }
    for key in ["remote", "port"].into_iter().filter(|key| with_mptcp && table.has(key)) {
        let what =
            format!("{key} cannot decide on mptcp: a socket is made before it is known where it leads");
        problems.add(
            table.place(key),
            refuse(what, format!("remove {key}, or put service and mptcp into a table each")),
        );
    }
    let process = |value| if with_mptcp { known_to_kernel(value) } else { process(value) };
    ApplicationMatch {
        process: table.read("process", problems, process),
        uid: uid.or(user),
        cgroup: table.read("cgroup", problems, cgroup),
        remote: table.read("remote", problems, remote),
        port: table.read("port", problems, ports),
    }
}

fn process(value: &DeValue) -> Result<NameGlob, Refusal> {
    let pattern = words(value)?;
    let glob = NameGlob::new(&pattern).map_err(|error| {
        refuse(format!("bad pattern {pattern:?}: {}", error.kind()), "write for example \"rsync\"")
    })?;
    if glob.is_plain() && pattern.contains('/') {
        let what = format!("a path is no name of a process: {pattern:?}");
        return Err(refuse(what, "write the name of the program's file alone"));
    }
    if glob.is_plain() && pattern.len() > MAX_PROCESS {
        let short = &pattern[..pattern.floor_char_boundary(MAX_PROCESS)];
        let what =
            format!("no process is called {pattern:?}: the kernel keeps {MAX_PROCESS} bytes of a name");
        return Err(refuse(what, format!("write {short:?}")));
    }
    Ok(glob)
}

/// The kernel decides on `mptcp`, by tables of names.
fn known_to_kernel(value: &DeValue) -> Result<NameGlob, Refusal> {
    let glob = process(value)?;
    if Names::of(&glob).is_none() {
        let what =
            format!("{:?} cannot decide on mptcp: it needs whole names or how they begin", glob.pattern());
        let remedy = format!(
            "write for example \"{{curl,python3*}}\", with at most {MAX_PROCESS} bytes for each name"
        );
        return Err(refuse(what, remedy));
    }
    Ok(glob)
}

fn user(value: &DeValue) -> Result<u32, Refusal> {
    let name = words(value)?;
    match User::from_name(&name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(refuse(format!("no user is called {name:?}"), "see `getent passwd`, or use uid")),
        Err(error) => Err(refuse(format!("cannot look up the user {name:?}: {error}"), "use uid")),
    }
}

fn cgroup(value: &DeValue) -> Result<CgroupGlob, Refusal> {
    let pattern = words(value)?;
    if !pattern.starts_with('/') || (pattern.ends_with('/') && pattern.len() > 1) {
        let remedy = "begin with / and end with a name, as in \"/system.slice/rsync.service\"";
        return Err(refuse(format!("no path of a cgroup: {pattern:?}"), remedy));
    }
    CgroupGlob::new(&pattern).map_err(|error| {
        let remedy = "write for example \"/user.slice/user-*.slice\"";
        refuse(format!("bad pattern {pattern:?}: {}", error.kind()), remedy)
    })
}

fn remote(value: &DeValue) -> Result<IpNet, Refusal> {
    let text = string(value)?;
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        let remedy = "write for example \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\"";
        refuse(format!("no address and no prefix: {text:?}"), remedy)
    })?;
    if net != net.trunc() {
        let what = format!("{net} has bits beyond its prefix");
        return Err(refuse(what, format!("write {:?}", net.trunc().to_string())));
    }
    Ok(net)
}

fn ports(value: &DeValue) -> Result<Ports, Refusal> {
    let (first, last) = match value {
        DeValue::Integer(_) => {
            let port = count(value, u32::from(u16::MAX))?;
            (port as u16, port as u16)
        }
        DeValue::String(text) => range(text).ok_or_else(|| {
            refuse(format!("no port and no range of ports: {text:?}"), format!("write {PORT_EXAMPLE}"))
        })?,
        _ => return Err(wrong_type(value, &format!("a port: {PORT_EXAMPLE}"))),
    };
    if first == 0 {
        return Err(refuse("port 0 is no port", "use 1 to 65535"));
    }
    if first > last {
        let what = format!("no port is from {first} to {last}");
        return Err(refuse(what, format!("write \"{last}-{first}\"")));
    }
    Ok(Ports { first, last })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // A sign would be taken for a part of the number.
    let number =
        |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?;
    Some((number(first)?, number(last)?))
}
