//! What the keys of `[[application]]` mean.
use std::net::IpAddr;

use ipnet::IpNet;
use nix::unistd::User;
use toml::de::DeValue;

use super::super::error::{Problems, Refusal, refuse};
use super::super::values::{Fields, choice, count, string, words, wrong_type};
use super::super::{ApplicationMatch, ApplicationRule, CgroupGlob, NameGlob, Ports};
use crate::core::service::Service;

/// `TASK_COMM_LEN - 1` (`include/linux/sched.h`).
const MAX_PROCESS: usize = 15;
/// The greatest user id; the one after it stands for none (chown(2)).
const MAX_UID: u32 = u32::MAX - 1;

const PORT_EXAMPLE: &str = "443 or \"8000-8099\"";

pub(super) fn applications(fields: Fields, problems: &mut Problems) -> Vec<ApplicationRule> {
    let tables = fields.tables("application", problems);
    let rules: Vec<_> = tables.into_iter().map(|table| (table.at, application(table, problems))).collect();
    for (position, (at, matching, _)) in
        rules.iter().map(|(at, (matching, service))| (at, matching, service)).enumerate()
    {
        let wider = |earlier: &ApplicationMatch| !earlier.is_empty() && earlier.covers(matching);
        let earlier = rules[..position].iter().position(|(_, (earlier, _))| wider(earlier));
        if let Some(earlier) = earlier.filter(|_| !matching.is_empty()) {
            let what =
                format!("never applies: [[application]] number {} matches all of it first", earlier + 1);
            problems.add(*at, refuse(what, "put the narrower match first, or remove one of the two"));
        }
    }
    let line = |at| problems.line(at);
    let whole = |(at, (matching, service)): (usize, (ApplicationMatch, Option<Service>))| {
        Some(ApplicationRule { line: line(at), matching, service: service? })
    };
    rules.into_iter().filter_map(whole).collect()
}

fn application(fields: Fields, problems: &mut Problems) -> (ApplicationMatch, Option<Service>) {
    fields.expect(&["match", "service"], problems);
    if !fields.has("service") {
        let remedy = "add service = \"interactive\", or another service type";
        problems.add(fields.at, refuse("[[application]] without service", remedy));
    }
    (matching(fields, problems), fields.read("service", problems, service))
}

pub(super) fn service(value: &DeValue) -> Result<Service, Refusal> {
    choice(value, &Service::ALL.map(|service| (service.name(), service)))
}

fn matching(fields: Fields, problems: &mut Problems) -> ApplicationMatch {
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
