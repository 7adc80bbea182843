//! The status: one model, from which the JSON and the text are derived.
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::connections::{self, Connections};
use crate::core::report::{EndpointReport, Owner, Report};
use crate::core::uplink::{FamilyAccess, Uplink};

/// All that `mptcp-pm status` shows. Its JSON is what serde makes of it; fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Uplinks, endpoints, limits and what is not as wanted, as the core sees it.
    #[serde(flatten)]
    pub report: Report,
    /// The connections with their subflows.
    #[serde(default)]
    pub connections: Connections,
    /// What the eBPF objects do, or why they do not.
    pub ebpf: Vec<Feature>,
}

/// An eBPF object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Why it does not work; none when it does.
    pub absent: Option<String>,
}

/// The widest line of text.
const COLUMNS: usize = 80;

/// The status as text, in lines of at most 80 columns where names allow it.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    let report = &status.report;
    let state = if report.settled { "as wanted" } else { "at work" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "mptcp-pm {}, profile {}, {state}", status.version, report.profile);
    let uplinks = sorted(&report.uplinks);
    section(
        &mut out,
        "uplinks",
        uplinks.iter().filter(|uplink| uplink.unused.is_none()).map(|uplink| used(uplink)),
    );
    section(&mut out, "not used", uplinks.iter().filter_map(|uplink| unused(uplink)));
    section(&mut out, "endpoints", report.endpoints.iter().map(endpoint));
    if let Some(limits) = report.limits {
        let _ = writeln!(
            out,
            "limits: {} subflows beside the first, {} announced addresses",
            limits.subflows, limits.add_addr_accepted
        );
    }
    let title = format!("connections ({})", status.connections.total);
    section(&mut out, &title, connections::text(&status.connections).into_iter());
    section(
        &mut out,
        "not as wanted",
        report.findings.iter().map(|finding| {
            let end = if finding.given_up { " (given up until something changes)" } else { "" };
            format!("{}: {}{end}", finding.object, finding.reason)
        }),
    );
    section(
        &mut out,
        "ebpf",
        status.ebpf.iter().map(|feature| match &feature.absent {
            None => format!("{} at work", feature.name),
            Some(reason) => format!("{} absent: {reason}", feature.name),
        }),
    );
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(out, "{title}:");
    }
    lines.for_each(|line| out.push_str(&paragraph(&format!("  {line}"))));
}

/// A paragraph in lines of 80 columns, with an end of line: those after the first are indented by four more.
pub fn paragraph(text: &str) -> String {
    let words = text.trim_start();
    let first = " ".repeat(text.len() - words.len());
    let next = format!("{first}    ");
    let options = textwrap::Options::new(COLUMNS).initial_indent(&first).subsequent_indent(&next);
    textwrap::fill(words, options.break_words(false)) + "\n"
}

/// The best first, as the routing table prefers them, then by name: `eth2` comes before `eth10`.
fn sorted(uplinks: &[Uplink]) -> Vec<&Uplink> {
    let mut sorted: Vec<&Uplink> = uplinks.iter().collect();
    sorted.sort_by_key(|uplink| {
        let stem = uplink.name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = uplink.name[stem.len()..].parse::<u64>().ok();
        (uplink.metric(), stem.to_owned(), number)
    });
    sorted
}

fn used(uplink: &Uplink) -> String {
    let provider = uplink.provider.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    let role = uplink.role.map(|role| format!(", {}", role.name())).unwrap_or_default();
    let metered = if uplink.metered { ", metered" } else { "" };
    let families: Vec<String> = uplink.families.iter().map(family).collect();
    format!("{}{provider}{role}{metered}: {}", uplink.name, families.join("; "))
}

fn family(access: &FamilyAccess) -> String {
    let addresses: Vec<String> = access.addresses.iter().map(ToString::to_string).collect();
    let gateway = access.hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    format!("{}{gateway}", addresses.join(" "))
}

fn unused(uplink: &Uplink) -> Option<String> {
    uplink.unused.as_ref().map(|unused| format!("{} {}", uplink.name, unused.reason))
}

fn endpoint(report: &EndpointReport) -> String {
    let endpoint = &report.endpoint;
    let flags: Vec<String> = endpoint.flags.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let interface = report.interface.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let owner = match report.owner {
        Owner::Ours => "",
        Owner::Stranded => " (its uplink is lost; kept, since there is no other)",
        Owner::Foreign => " (somebody else's)",
        Owner::Kernel => " (the kernel's own)",
    };
    format!("{:>3} {}{interface} {}{owner}", endpoint.id, endpoint.addr, flags.join(","))
}
