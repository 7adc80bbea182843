//! Why a connection has no subflow over an uplink that could carry one: what sock_diag and the endpoints tell of it.
use std::net::IpAddr;

use super::{Connection, Opener, Surroundings};
use crate::core::uplink::Uplink;
use crate::core::world::{EndpointFlags, Family};
use crate::netlink::diag_wire::MptcpInfo;

/// What makes subflows of its own accord, without being told of an address of the peer.
const MAKES_SUBFLOWS: EndpointFlags = EndpointFlags::SUBFLOW.union(EndpointFlags::FULLMESH);

/// The reason in words; none where every uplink of its family is used.
pub(super) fn find(connection: &Connection, info: &MptcpInfo, around: &Surroundings<'_>) -> Option<String> {
    if connection.subflows.is_empty() && !connection.fallback {
        // It has none, or we lack the privilege to see them.
        return None;
    }
    let family = Family::of(&connection.remote.ip());
    let usable: Vec<&Uplink> = around.uplinks.iter().filter(|uplink| serves(uplink, family)).collect();
    let missing: Vec<&Uplink> =
        usable.iter().filter(|uplink| !is_used(connection, uplink)).copied().collect();
    let first = missing.first()?;
    let names: Vec<&str> = missing.iter().map(|uplink| uplink.name.as_str()).collect();
    let here = around.addresses.iter().any(|(_, addr)| *addr == Some(connection.remote.ip()));
    if here {
        return Some("its peer is this machine".into());
    }
    let why = of_connection(connection, info).or_else(|| of_uplink(connection, info, first, family, around));
    Some(format!("not over {}: {}", names.join(", "), why?))
}

fn serves(uplink: &Uplink, family: Family) -> bool {
    uplink.unused.is_none() && uplink.families.iter().any(|access| access.family == family)
}

fn is_used(connection: &Connection, uplink: &Uplink) -> bool {
    let over = |name: &Option<String>| name.as_ref() == Some(&uplink.name);
    connection.subflows.iter().any(|subflow| subflow.is_established() && over(&subflow.interface))
}

/// What keeps a connection from any further subflow.
fn of_connection(connection: &Connection, info: &MptcpInfo) -> Option<String> {
    if connection.fallback {
        return Some("it has fallen back to TCP: the peer, or a box on the way, does not speak MPTCP".into());
    }
    if connection.state != "established" {
        return Some(format!("its state is {}", connection.state));
    }
    if connection.opened_by == Some(Opener::Peer) {
        return Some("the peer opened it, and it is for the peer to add subflows".into());
    }
    let limit = info.limit_extra_subflows;
    (info.extra_subflows >= limit)
        .then(|| format!("the limits allow {limit} subflows beside the initial one (`mptcp-pm limits`)"))
}

/// What keeps it from a subflow over one uplink.
fn of_uplink(
    connection: &Connection,
    info: &MptcpInfo,
    uplink: &Uplink,
    family: Family,
    around: &Surroundings<'_>,
) -> Option<String> {
    let addresses = || uplink.families.iter().filter(|access| access.family == family);
    let is_of = |addr: &IpAddr| addresses().any(|access| access.addresses.contains(addr));
    let Some(endpoint) = around.endpoints.iter().find(|endpoint| is_of(&endpoint.addr)) else {
        return Some(format!("{} has no endpoint", uplink.name));
    };
    if !endpoint.flags.intersects(MAKES_SUBFLOWS) {
        return Some(format!("endpoint {} waits for the peer's announcements or joins", endpoint.id));
    }
    let tried = connection.subflows.iter().find(|subflow| subflow.local.ip() == endpoint.addr);
    Some(match tried {
        Some(subflow) => format!("its subflow is in state {}", subflow.state),
        None if is_fresh(info) => "it is new: the peer has to acknowledge data first".into(),
        None => "nothing here forbids it, so the peer takes no more, or packets do not get through".into(),
    })
}

/// Neither data nor its acknowledgement has come yet: the kernel then makes no further subflow (RFC 8684, section
/// 3.1). Kernels that do not count do not tell.
fn is_fresh(info: &MptcpInfo) -> bool {
    info.bytes_acked == Some(0) && info.bytes_received == Some(0)
}
