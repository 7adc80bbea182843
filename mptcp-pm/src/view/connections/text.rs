//! Connections as paragraphs for people.
use super::{Connection, Connections, Decided, Kind, Opener, Subflow};
use crate::core::service::Why;
use crate::core::steering::Part;
use crate::view::figures::{live, scaled, short};

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
    let coupling = coupling(connection);
    let head = format!(
        "{:#010x} {} > {}{opened}{state}{traffic}{coupling}",
        connection.token, connection.local, connection.remote
    );
    let reason = connection.reason.iter().map(|reason| format!("  {reason}"));
    [head]
        .into_iter()
        .chain(belongs(connection))
        .chain(connection.subflows.iter().map(subflow))
        .chain(reason)
        .collect()
}

/// What the connection is for and whose it is; none where its service type does not act.
fn belongs(connection: &Connection) -> Option<String> {
    let Decided { service, why } = connection.service?;
    let why = match why {
        Why::Hand => "set by hand".to_owned(),
        Why::Rule { rule, line } => format!("by rule {rule}, line {line}"),
        Why::Slice => "by its slice".to_owned(),
        Why::Configuration => "by default".to_owned(),
        Why::Profile => "by profile".to_owned(),
    };
    let owner = &connection.owner;
    let process = owner.process.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    let pid = owner.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let uid = owner.uid.map(|uid| format!(", user {uid}")).unwrap_or_default();
    let cgroup = owner.cgroup.as_ref().map(|path| format!(", in {path}")).unwrap_or_default();
    Some(format!("  {} {why}{process}{pid}{uid}{cgroup}", service.name()))
}

/// `, lia: grows at 0.25 of uncoupled`
fn coupling(connection: &Connection) -> String {
    let ratio = connection.figures.as_ref().and_then(|figures| figures.coupled_growth_ratio);
    let control = connection.subflows.iter().find_map(|subflow| subflow.congestion_control.as_deref());
    let (Some(ratio), Some(control)) = (ratio, control) else { return String::new() };
    format!(", {control}: grows at {} of uncoupled", short(ratio))
}

fn subflow(subflow: &Subflow) -> String {
    let kind = match subflow.kind {
        Kind::Initial => "initial",
        Kind::Join => "join",
    };
    let part = match (subflow.role, subflow.backup_by_us, subflow.backup_by_peer) {
        (Some(Part::SetAside), ..) => "set aside",
        (_, false, false) => "carrying",
        (_, true, false) => "backup",
        (_, false, true) => "backup by the peer",
        (_, true, true) => "backup by both",
    };
    let why = subflow.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let ends = match subflow.kind {
        Kind::Initial => String::new(),
        Kind::Join => format!(" {} > {}", subflow.local, subflow.remote),
    };
    let state = if subflow.is_established() { "" } else { &format!(", {}", subflow.state) };
    let pace =
        subflow.figures.as_ref().map_or_else(|| pace(subflow), |figures| format!(", {}", live(figures)));
    let interface = subflow.interface.as_deref().unwrap_or("?");
    let traffic = traffic(subflow.bytes_sent, subflow.bytes_received);
    format!("  {interface} {kind}{ends}: {part}{why}{state}{pace}{traffic}")
}

/// What the kernel tells of itself, where nothing is measured.
fn pace(subflow: &Subflow) -> String {
    let rtt = subflow.rtt_ms.map(|rtt| format!(", rtt {rtt:.1} ms")).unwrap_or_default();
    let rate = subflow.delivery_bps.map(|rate| format!(", {}bit/s", scaled(rate))).unwrap_or_default();
    rtt + &rate
}

fn traffic(sent: Option<u64>, received: Option<u64>) -> String {
    let sent = sent.map(|bytes| format!(", {}B out", scaled(bytes))).unwrap_or_default();
    let received = received.map(|bytes| format!(", {}B in", scaled(bytes))).unwrap_or_default();
    sent + &received
}
