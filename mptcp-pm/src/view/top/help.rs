//! The page that explains keys and columns.
use super::keys::{Entry, KEYS};
use super::wrapped;

const COLUMNS: &str = "\
Columns. out, in: payload that the peers acknowledged, and payload received, in bit/s. ms: the smoothed round-trip time and \
the least one, milliseconds. opener: \
who opened the connection. retr.: the share of the sent bytes that were retransmitted. paths: subflows. bytes: \
sent and received. \
A sparkline has one bar for each second while something flows, the newest at its right, and the peak before it. \
Whatever is not known is a dash: rates need eBPF.";

/// The page in lines of this width.
pub(super) fn page(width: u16) -> Vec<String> {
    let key = |entry: &Entry| wrapped(&format!("{:<10}{}", entry.name, entry.help), width, "", "          ");
    let columns = wrapped(COLUMNS, width, "", "");
    KEYS.iter().flat_map(key).chain([String::new()]).chain(columns).collect()
}

/// As many keys as fit on one line.
pub(super) fn line(width: u16) -> String {
    let mut line = String::new();
    for entry in KEYS {
        let gap = if line.is_empty() { "" } else { "  " };
        let next = format!("{line}{gap}{} {}", entry.name, entry.word);
        if next.chars().count() > usize::from(width) {
            break;
        }
        line = next;
    }
    line
}
