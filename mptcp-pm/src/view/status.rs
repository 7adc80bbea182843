//! The status: one model, from which the JSON and the text are derived.
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::connections::{self, Connection, Connections};
use super::figures::live;
use super::paths::{Paths, UplinkFigures};
use crate::config::Manager;
use crate::core::hints::Source;
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
    /// What each uplink and each provider delivers; nothing where nothing is measured.
    #[serde(default)]
    pub paths: Paths,
    /// Who is heard beside the kernel.
    #[serde(default)]
    pub desktop: Desktop,
    /// What the eBPF objects do, or why they do not.
    pub ebpf: Vec<Feature>,
    /// What the object `silence` had to leave out; none where it is not at work.
    #[serde(default)]
    pub silence: Option<Unnoticed>,
    /// How many windows the object `coupled` has put right that cannot have been; none where it is not at work.
    #[serde(default)]
    pub windows_mended: Option<u64>,
}

/// What the detector of silence could not do, since it was loaded; all zeros when all is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unnoticed {
    /// Subflows that are not watched: there was no room for them, or no memory.
    pub not_watched: u64,
    /// Alarms that were not told: the ring buffer was full.
    pub untold: u64,
}

/// The services of a desktop that are heard over D-Bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desktop {
    /// NetworkManager is there, and what it says of interfaces is heard.
    pub network_manager: bool,
    /// The machine runs on its battery; none where nobody says, or nobody has to know.
    pub on_battery: Option<bool>,
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
    let manager = report.manager.name();
    let _ =
        writeln!(out, "mptcp-pm {}, profile {}, {manager} manages, {state}", status.version, report.profile);
    let uplinks = sorted(&report.uplinks);
    section(
        &mut out,
        "uplinks",
        uplinks
            .iter()
            .filter(|uplink| uplink.unused.is_none())
            .flat_map(|uplink| used(uplink, &status.paths)),
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
    let unserved = unserved(status).into_iter();
    section(&mut out, &title, connections::text(&status.connections).into_iter().chain(unserved));
    section(
        &mut out,
        "not as wanted",
        report.findings.iter().map(|finding| {
            let end = if finding.given_up { " (given up until something changes)" } else { "" };
            format!("{}: {}{end}", finding.object, finding.reason)
        }),
    );
    section(&mut out, "ebpf", status.ebpf.iter().map(feature).chain(left_out(status)));
    out
}

/// Connections that service types do not act on although the daemon is to manage them; none when there are none.
fn unserved(status: &Status) -> Option<String> {
    let is_unserved = |connection: &&Connection| {
        connection.service.is_none() && !connection.fallback && connection.state == "established"
    };
    let count = match status.report.manager {
        Manager::Daemon => status.connections.listed.iter().filter(is_unserved).count(),
        Manager::Kernel => 0,
    };
    let why = "service types do not act where the kernel manages the paths";
    (count > 0).then(|| format!("{why}: {count} of these, which are older"))
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
pub(super) fn sorted(uplinks: &[Uplink]) -> Vec<&Uplink> {
    let mut sorted: Vec<&Uplink> = uplinks.iter().collect();
    sorted.sort_by_key(|uplink| {
        let stem = uplink.name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = uplink.name[stem.len()..].parse::<u64>().ok();
        (uplink.metric(), stem.to_owned(), number)
    });
    sorted
}

/// An uplink, and what it delivers where that is measured.
fn used(uplink: &Uplink, paths: &Paths) -> Vec<String> {
    let is_it = |found: &&UplinkFigures| (&found.name, &found.provider) == (&uplink.name, &uplink.provider);
    let figures = paths.uplinks.iter().find(is_it).map(|found| format!("  {}", live(&found.figures)));
    let rests = uplink.rests.as_ref().map(|reason| format!("  rests: {reason}"));
    [head(uplink)].into_iter().chain(rests).chain(figures).collect()
}

fn head(uplink: &Uplink) -> String {
    let provider = uplink.provider.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    let by = |source: Option<Source>| match source {
        None | Some(Source::Configuration | Source::Kind) => String::new(),
        Some(source) => format!(" ({})", source.words()),
    };
    let sources = &uplink.sources;
    let role = uplink.role.map(|role| format!(", {}{}", role.name(), by(sources.role))).unwrap_or_default();
    let metered = if uplink.metered { format!(", metered{}", by(sources.metered)) } else { String::new() };
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
    let interface = report.interface.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let owner = match report.owner {
        Owner::Ours => "",
        Owner::Stranded => " (its uplink is lost; kept, since there is no other)",
        Owner::Foreign => " (somebody else's)",
        Owner::Kernel => " (the kernel's own)",
    };
    format!("{:>3} {}{interface} {}{owner}", endpoint.id, endpoint.addr, endpoint.flags)
}

fn feature(feature: &Feature) -> String {
    match &feature.absent {
        None => format!("{} at work", feature.name),
        Some(reason) => format!("{} absent: {reason}", feature.name),
    }
}

/// What could not be counted or noticed; nothing when all is well.
fn left_out(status: &Status) -> impl Iterator<Item = String> + use<> {
    let (lost, silence) = (status.paths.lost, status.silence.unwrap_or_default());
    let lost = [
        (lost.subflows, "subflows (no memory)"),
        (lost.openings, "openings (ring buffer full)"),
        (lost.closings, "closings (no room)"),
        (lost.alarms, "alarms (ring buffer full)"),
    ];
    let unnoticed = [
        (silence.not_watched, "subflows not watched (no room)"),
        (silence.untold, "alarms not told (ring buffer full)"),
    ];
    let listed = |counts: &[(u64, &str)]| {
        let parts = counts.iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    };
    let mended = [(status.windows_mended.unwrap_or_default(), "windows put right")];
    let lines = [
        ("lost on the way from the kernel", listed(&lost)),
        ("silence", listed(&unnoticed)),
        ("coupled", listed(&mended)),
    ];
    lines.into_iter().filter(|(_, list)| !list.is_empty()).map(|(what, list)| format!("{what}: {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const DOCUMENTED: &str = include_str!("../../../docs/json.md");

    fn example() -> Value {
        let (_, example) = DOCUMENTED.split_once("```json").expect("docs/json.md has an example");
        serde_json::from_str(example.split("```").next().expect("it ends")).expect("is JSON")
    }

    /// The names of all fields in a value.
    fn fields(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(name, value)| {
                names.push(name.clone());
                fields(value, names);
            }),
            Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
            _ => {}
        }
    }

    #[test]
    fn the_documented_example_is_what_is_printed() {
        let status: Status = serde_json::from_value(example()).expect("is a status");
        assert_eq!(serde_json::to_value(&status).expect("serializes"), example());
    }

    #[test]
    fn every_field_is_documented() {
        let (words, _) = DOCUMENTED.split_once("```json").expect("docs/json.md has an example");
        let mut names = Vec::new();
        fields(&example(), &mut names);
        // Those of a next hop explain themselves.
        names.retain(|name| !["gateway", "onlink"].contains(&name.as_str()));
        for name in names {
            let is_there = words.split('`').any(|word| word.split(['.', '[', ']']).any(|part| part == name));
            assert!(is_there, "docs/json.md does not explain {name}");
        }
    }

    #[test]
    fn an_older_daemon_has_no_connections() {
        let mut older = example();
        older.as_object_mut().expect("an object").remove("connections");
        let status: Status = serde_json::from_value(older).expect("is a status");
        assert_eq!(status.connections.total, 0);
    }

    #[test]
    fn the_text_fits_eighty_columns_and_says_what_is_not_so() {
        let mut status: Status = serde_json::from_value(example()).expect("is a status");
        let connection = &mut status.connections.listed[0];
        connection.reason = Some("not over wwan0: ".to_owned() + &"the reason is long ".repeat(12));
        status.connections.total = 5;
        let text = text(&status);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let head =
            "connections (5):\n  0x12345678 192.0.2.7:40000 > 203.0.113.9:443, opened by us, 1.20 kB out,";
        assert!(text.contains(head), "{text}");
        assert!(
            text.contains("\n    wlan0 initial: carrying (the lowest delay), rtt 21.5 ms, 42.0 Mbit/s, "),
            "{text}"
        );
        let belongs =
            "    interactive by rule 2, line 14, firefox (process 4711), user 1000, in\n        /user.slice/";
        assert!(text.contains(belongs), "{text}");
        assert!(text.contains("\n  and 4 more\n"), "{text}");
        assert!(text.contains("\nnot used:\n  wwan0 has no carrier\n"), "{text}");
    }

    #[test]
    fn what_is_measured_is_shown() {
        let mut status: Status = serde_json::from_value(example()).expect("is a status");
        let figures = &mut status.paths.uplinks[0].figures;
        (figures.sent_bytes, figures.retransmitted_bytes) = (1_000_000, 5000);
        status.connections.listed[0].subflows[0].figures = Some(figures.clone());
        status.connections.listed[0].service = None;
        status.paths.lost.closings = 7;
        status.silence = Some(Unnoticed { not_watched: 904, untold: 0 });
        status.windows_mended = Some(3);
        let text = text(&status);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let expected = "\nuplinks:\n  wlan0: 192.0.2.7 via 192.0.2.1\n    \
            rtt 21.5 ms (min 20.1), 1.70 kbit/s out, 41.9 Mbit/s in, 0.50 % resent\n";
        assert!(text.contains(expected), "{text}");
        let expected = "\n    wlan0 initial: carrying (the lowest delay), rtt 21.5 ms (min 20.1), 1.70\n        \
            kbit/s out, 41.9 Mbit/s in, 0.50 % resent, 1.40 kB out, 34.6 MB in\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("where the kernel manages the paths: 1 of"), "{text}");
        assert!(text.contains("\n  lost on the way from the kernel: 7 closings (no room)\n"), "{text}");
        assert!(text.contains("\n  silence: 904 subflows not watched (no room)\n"), "{text}");
        assert!(text.contains("\n  coupled: 3 windows put right\n"), "{text}");
    }

    #[test]
    fn uplinks_are_in_the_order_that_people_expect() {
        let status: Status = serde_json::from_value(example()).expect("is a status");
        let named = |name: &str| Uplink { name: name.into(), ..status.report.uplinks[1].clone() };
        let mut uplinks: Vec<Uplink> = ["eth10", "eth2", "wlan0", "br0"].map(named).into();
        uplinks.push(Uplink { name: "zz".into(), ..status.report.uplinks[0].clone() });
        let names: Vec<&str> = sorted(&uplinks).iter().map(|uplink| uplink.name.as_str()).collect();
        assert_eq!(names, ["zz", "br0", "eth2", "eth10", "wlan0"]);
    }
}
