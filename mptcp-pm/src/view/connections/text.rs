//! Connections as paragraphs for people.
use super::{Connection, Connections, Kind, Opener, Subflow};

/// One paragraph for each connection, one for each subflow; a leading indent is kept when it is wrapped.
pub(in crate::view) fn text(connections: &Connections) -> Vec<String> {
    let mut lines: Vec<String> = connections.listed.iter().flat_map(connection).collect();
    match connections.total - connections.listed.len().min(connections.total) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    lines.extend(connections.note.iter().map(|note| format!("not known: {note}")));
    lines
}

/// A connection, its subflows, and why there are not more.
pub(in crate::view) fn connection(connection: &Connection) -> Vec<String> {
    let opened = match connection.opened_by {
        Some(Opener::Us) => ", opened by us",
        Some(Opener::Peer) => ", opened by the peer",
        None => "",
    };
    let traffic = traffic(connection.bytes_sent, connection.bytes_received);
    let state = if connection.state == "established" { "" } else { &format!(", {}", connection.state) };
    let head = format!(
        "{:#010x} {} > {}{opened}{state}{traffic}",
        connection.token, connection.local, connection.remote
    );
    let reason = connection.reason.iter().map(|reason| format!("  {reason}"));
    [head].into_iter().chain(connection.subflows.iter().map(subflow)).chain(reason).collect()
}

fn subflow(subflow: &Subflow) -> String {
    let kind = match subflow.kind {
        Kind::Initial => "initial",
        Kind::Join => "join",
    };
    let part = match (subflow.backup_by_us, subflow.backup_by_peer) {
        (false, false) => "carrying",
        (true, false) => "backup",
        (false, true) => "backup by the peer",
        (true, true) => "backup by both",
    };
    let ends = match subflow.kind {
        Kind::Initial => String::new(),
        Kind::Join => format!(" {} > {}", subflow.local, subflow.remote),
    };
    let state = if subflow.is_established() { "" } else { &format!(", {}", subflow.state) };
    let rtt = subflow.rtt_ms.map(|rtt| format!(", rtt {rtt:.1} ms")).unwrap_or_default();
    let rate = subflow.delivery_bps.map(|rate| format!(", {}bit/s", scaled(rate))).unwrap_or_default();
    let interface = subflow.interface.as_deref().unwrap_or("?");
    let traffic = traffic(subflow.bytes_sent, subflow.bytes_received);
    format!("  {interface} {kind}{ends}: {part}{state}{rtt}{rate}{traffic}")
}

fn traffic(sent: Option<u64>, received: Option<u64>) -> String {
    let sent = sent.map(|bytes| format!(", {}B out", scaled(bytes))).unwrap_or_default();
    let received = received.map(|bytes| format!(", {}B in", scaled(bytes))).unwrap_or_default();
    sent + &received
}

/// A number with three digits or so and the prefix of its unit, as in `12.3 M`.
pub(in crate::view) fn scaled(number: u64) -> String {
    const PREFIXES: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if number < 1000 {
        return format!("{number} ");
    }
    let mut value = number as f64 / 1e3;
    let mut prefixes = PREFIXES.iter();
    let mut prefix = prefixes.next();
    while value >= 999.5
        && let Some(next) = prefixes.next()
    {
        (value, prefix) = (value / 1e3, Some(next));
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {}", prefix.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0, "0 "),
            (999, "999 "),
            (1000, "1.00 k"),
            (12_345, "12.3 k"),
            (999_499, "999 k"),
            (999_999, "1.00 M"),
            (123_456_789, "123 M"),
            (u64::MAX, "18.4 E"),
        ];
        for (number, expected) in cases {
            assert_eq!(scaled(number), expected, "{number}");
        }
    }
}
