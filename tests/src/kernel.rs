//! What the kernel of a host says, read with iproute2: not through the code under test.
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};

use crate::Host;

/// A subflow of one of the host's connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subflow {
    /// The host's address and port.
    pub local: SocketAddr,
    /// The interface that it is bound to.
    pub interface: Option<String>,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// The host has asked for it to stand by.
    pub backup: bool,
}

/// The established subflows of a host, in order of their local addresses.
///
/// # Errors
/// When `ss` fails or prints something else.
pub fn subflows(host: &Host) -> Result<Vec<Subflow>> {
    let lines = lines(host)?;
    let read = lines.iter().map(|line| subflow(line).with_context(|| format!("read {line:?}")));
    let mut subflows = read.collect::<Result<Vec<_>>>()?;
    subflows.sort();
    Ok(subflows)
}

/// How many bytes the subflow from an address has taken and not sent; none where there is no such subflow.
///
/// # Errors
/// When `ss` fails.
pub fn unsent(host: &Host, from: IpAddr) -> Result<Option<u64>> {
    Ok(line(host, from)?.map(|line| figure(&line, "notsent:").unwrap_or(0)))
}

/// What a subflow may send.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Segments under way.
    pub window: u64,
    /// Bytes in its socket.
    pub send_buffer: u64,
    /// Bits per second.
    pub pace: u64,
}

/// What the subflow from an address may send; none where there is no such subflow.
///
/// # Errors
/// When `ss` fails.
pub fn allowance(host: &Host, from: IpAddr) -> Result<Option<Allowance>> {
    let read = |line: String| {
        let (_, pace) = line.split_once("pacing_rate ")?;
        Some(Allowance {
            window: figure(&line, "cwnd:")?,
            send_buffer: figure(&line, "tb")?,
            pace: pace.split_once("bps")?.0.parse().ok()?,
        })
    };
    Ok(line(host, from)?.and_then(read))
}

fn line(host: &Host, from: IpAddr) -> Result<Option<String>> {
    let is_from = |line: &String| subflow(line).is_some_and(|subflow| subflow.local.ip() == from);
    Ok(lines(host)?.into_iter().find(is_from))
}

/// What `ss` prints of the established subflows.
fn lines(host: &Host) -> Result<Vec<String>> {
    let output = host.command("ss").args(["-tnimHO", "state", "established"]).output()?;
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter(|line| line.contains("tcp-ulp-mptcp")).map(str::to_owned).collect())
}

/// `notsent:1420`, or `tb46080` of `skmem:(r0,rb131072,t0,tb46080,…)`.
fn figure(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split(|between: char| between.is_whitespace() || between == ',');
    words.find_map(|word| word.strip_prefix(name)?.parse().ok())
}

/// `0 0 10.1.0.2%wifi0:4711 10.9.0.2:80 cubic … tcp-ulp-mptcp flags:Jjecv token:…`
fn subflow(line: &str) -> Option<Subflow> {
    let mut words = line.split_whitespace().skip(2);
    let (local, interface) = socket(words.next()?)?;
    let (remote, _) = socket(words.next()?)?;
    let flags = words.find_map(|word| word.strip_prefix("flags:"))?;
    Some(Subflow { local, interface, remote, backup: flags.contains('b') })
}

/// `10.1.0.2%wifi0:4711`, `[2001:db8::1]%wifi0:4711`
fn socket(word: &str) -> Option<(SocketAddr, Option<String>)> {
    let (host, port) = word.rsplit_once(':')?;
    let (address, interface) = host.split_once('%').map_or((host, None), |(a, i)| (a, Some(i.to_owned())));
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    Some((SocketAddr::new(address, port.parse().ok()?), interface))
}

/// The endpoints of a host without their ids, sorted: `10.1.0.2 subflow dev wifi0`.
///
/// # Errors
/// When `ip` fails.
pub fn endpoints(host: &Host) -> Result<Vec<String>> {
    let mut lines: Vec<String> = host.ip("mptcp endpoint")?.lines().map(without_id).collect();
    lines.sort();
    Ok(lines)
}

fn without_id(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "id").unwrap_or(words.len());
    let kept = words.iter().enumerate().filter(|(at, _)| *at != place && *at != place + 1);
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// The MPTCP counters of a host (`MPTcpExt` of `/proc/net/netstat`).
///
/// # Errors
/// When they cannot be read.
pub fn counters(host: &Host) -> Result<Vec<(String, u64)>> {
    section(host, "MPTcpExt:")
}

/// The value of one of the MPTCP counters.
///
/// # Errors
/// When the kernel has none of this name.
pub fn counter(host: &Host, name: &str) -> Result<u64> {
    value(counters(host)?, name)
}

/// The value of one of the TCP counters (`TcpExt` of `/proc/net/netstat`).
///
/// # Errors
/// When the kernel has none of this name.
pub fn tcp_counter(host: &Host, name: &str) -> Result<u64> {
    value(section(host, "TcpExt:")?, name)
}

/// How many TCP connections the host has accepted, subflows included (`Tcp` of `/proc/net/snmp`).
///
/// # Errors
/// When the kernel's counters cannot be read.
pub fn accepted(host: &Host) -> Result<u64> {
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    value(pairs(&text, "Tcp:")?, "PassiveOpens")
}

/// How many ICMP echo requests have come to the host (`Icmp` of `/proc/net/snmp`).
///
/// # Errors
/// When the kernel's counters cannot be read.
pub fn echo_requests(host: &Host) -> Result<u64> {
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    value(pairs(&text, "Icmp:")?, "InEchos")
}

fn section(host: &Host, title: &str) -> Result<Vec<(String, u64)>> {
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/netstat"))?;
    pairs(&text, title)
}

fn pairs(text: &str, title: &str) -> Result<Vec<(String, u64)>> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(title));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.map(|(name, value)| Ok((name.to_owned(), number(value)?))).collect()
}

/// One of the counters, which means no limit, is negative.
fn number(text: &str) -> Result<u64> {
    Ok(text.parse::<i64>()?.max(0).unsigned_abs())
}

fn value(counters: Vec<(String, u64)>, name: &str) -> Result<u64> {
    let found = counters.into_iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value).with_context(|| format!("no counter {name}"))
}

/// All that a path manager could leave behind: rules, routes, endpoints, limits, sysctls; one section for each.
///
/// # Errors
/// When something cannot be read.
pub fn dump(host: &Host) -> Result<BTreeMap<String, Vec<String>>> {
    const LISTS: [&str; 6] = [
        "-4 rule",
        "-6 rule",
        "-4 route show table all",
        "-6 route show table all",
        "mptcp endpoint",
        "mptcp limits",
    ];
    let mut sections = BTreeMap::new();
    for list in LISTS {
        let mut lines: Vec<String> = host.ip(list)?.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        sections.insert(list.to_owned(), lines);
    }
    sections.insert("sysctls".to_owned(), host.run(sysctls)?);
    Ok(sections)
}

fn sysctls() -> Result<Vec<String>> {
    let mut files: Vec<_> = fs::read_dir("/proc/sys/net/mptcp")?.flatten().map(|file| file.path()).collect();
    let interfaces = fs::read_dir("/proc/sys/net/ipv4/conf")?.flatten();
    files.extend(interfaces.map(|folder| folder.path().join("rp_filter")));
    files.sort();
    let read =
        |file: &std::path::PathBuf| Ok(format!("{} = {}", file.display(), fs::read_to_string(file)?.trim()));
    files.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ss_are_read() {
        let line =
            "0 0 [2001:db8:1::2]%wifi0:4711 [2001:db8:9::2]:80 cubic tcp-ulp-mptcp flags:Jjbec token:1";
        let subflow = subflow(line).unwrap();
        assert_eq!(subflow.local, "[2001:db8:1::2]:4711".parse().unwrap());
        assert_eq!((subflow.interface.as_deref(), subflow.backup), (Some("wifi0"), true));
    }

    #[test]
    fn ids_are_left_out() {
        assert_eq!(
            without_id("10.1.0.2 id 3 subflow backup dev wifi0 "),
            "10.1.0.2 subflow backup dev wifi0"
        );
    }
}
