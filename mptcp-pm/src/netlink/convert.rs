//! Routing netlink messages to and from the types of the core; pure.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NLA_HEADER_SIZE, NLM_F_REPLACE, NetlinkBuffer, NlasIterator, ParseableParametrized,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RouteScope, RouteType, RouteVia,
    },
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use crate::core::world::{Address, Family, Hop, Link, Route, RouteKind, Rule};

/// One thing of the kernel that a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A link.
    Link(Link),
    /// An address.
    Address(Address),
    /// A route.
    Route(Route),
    /// A rule.
    Rule(Rule),
}

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub object: Object,
    /// The object is gone (`RTM_DEL*`).
    pub gone: bool,
    /// The object took the place of another one, of which the kernel says nothing (`NLM_F_REPLACE`).
    pub replaces: bool,
}

/// Bytes that are not a routing netlink message.
#[derive(Debug, thiserror::Error)]
#[error("decode routing netlink message of type {kind}: {cause}")]
pub struct Malformed {
    kind: u16,
    cause: String,
}

/// Decodes one message with its netlink header; none where it is about nothing that the core reasons about
/// (see [`concerns_us`]).
pub fn decode(message: &[u8]) -> Result<Option<Message>, Malformed> {
    let buffer = NetlinkBuffer::new_checked(message)
        .map_err(|cause| Malformed { kind: 0, cause: cause.to_string() })?;
    let (kind, payload) = (buffer.message_type(), buffer.payload());
    if !concerns_us(kind, payload) {
        return Ok(None);
    }
    let parsed =
        parse(kind, payload).map_err(|cause: DecodeError| Malformed { kind, cause: cause.to_string() })?;
    let replaces = buffer.flags() & NLM_F_REPLACE != 0;
    Ok(object(&parsed).map(|(object, gone)| Message { object, gone, replaces: replaces && !gone }))
}

/// The link of a message; none for the messages about bridge ports that come as links of their own family.
pub fn link(message: &LinkMessage) -> Option<Link> {
    let LinkMessage { header, attributes, .. } = message;
    // A bridge reports its ports as links too, and RTM_DELLINK then means that the port has left the bridge.
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        index: header.index,
        name: String::new(),
        kind: None,
        hardware: header.link_layer_type.into(),
        mac: Vec::new(),
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp) && !header.flags.contains(LinkFlags::Dormant),
        loopback: header.flags.contains(LinkFlags::Loopback),
        master: None,
    };
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Controller(master) => link.master = Some(*master),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind_of),
            _ => {}
        }
    }
    Some(link)
}

/// The address of a message.
pub fn address(message: &AddressMessage) -> Option<Address> {
    let (header, attributes) = (&message.header, &message.attributes);
    let family = family(header.family)?;
    let local =
        attributes.iter().find_map(|a| if let AddressAttribute::Local(x) = a { Some(*x) } else { None });
    let addr =
        attributes.iter().find_map(|a| if let AddressAttribute::Address(x) = a { Some(*x) } else { None });
    // On a point-to-point link IFA_ADDRESS is the peer's; an IPv6 address without a peer has no IFA_LOCAL.
    let addr = local.or(addr).filter(|addr| Family::of(addr) == family)?;
    let flags = attributes
        .iter()
        .find_map(|a| if let AddressAttribute::Flags(flags) = a { Some(*flags) } else { None })
        .unwrap_or(AddressFlags::from_bits_retain(header.flags.bits().into()));
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    // An optimistic address is tentative too, and may be used nevertheless (RFC 4429).
    let optimistic = flags.contains(AddressFlags::Optimistic) && !flags.contains(AddressFlags::Dadfailed);
    Some(Address {
        ifindex: header.index,
        addr,
        prefix_len: header.prefix_len,
        global: header.scope == AddressScope::Universe,
        tentative: flags.intersects(unusable) && !optimistic,
        deprecated: flags.contains(AddressFlags::Deprecated),
        temporary: family == Family::V6 && flags.contains(AddressFlags::Secondary),
        secondary: family == Family::V4 && flags.contains(AddressFlags::Secondary),
    })
}

/// The route of a message. The next hops are sorted, because the kernel gives those of one IPv6 route in
/// another order in a dump than in a notification.
pub fn route(message: &RouteMessage) -> Option<Route> {
    let (header, attributes) = (&message.header, &message.attributes);
    let family = family(header.address_family)?;
    let mut dst = unspecified(family);
    let (mut table, mut metric, mut source, mut initial_window) = (header.table.into(), 0, None, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(addr) => dst = ip(addr)?,
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::PrefSource(addr) => source = ip(addr),
            RouteAttribute::Metrics(metrics) => {
                initial_window = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::InitCwnd(segments) => Some(*segments),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Local => RouteKind::Local,
        _ => RouteKind::Other,
    };
    let refuses = matches!(kind, RouteKind::Unreachable | RouteKind::Other);
    Some(Route {
        table,
        dst: IpNet::new(dst, header.destination_prefix_length).ok()?,
        metric,
        protocol: header.protocol.into(),
        kind,
        // IPv6 gives the loopback device as the next hop of a route that refuses.
        hops: if refuses { Vec::new() } else { hops(message) },
        source,
        initial_window,
    })
}

/// The rule of a message.
pub fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let family = family(header.family)?;
    let mut rule = Rule {
        family,
        priority: 0,
        src: (header.src_len > 0).then(|| IpNet::new(unspecified(family), header.src_len).ok()).flatten(),
        table: header.table.into(),
        suppress_prefix_len: None,
        protocol: 0,
        foreign_selectors: header.action != RuleAction::ToTable
            || header.flags.contains(RuleFlags::Invert)
            || header.dst_len > 0
            || header.tos > 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(addr) => rule.src = IpNet::new(*addr, header.src_len).ok(),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Protocol(protocol) => rule.protocol = (*protocol).into(),
            // The kernel always sends this one; all bits set means that there is none.
            RuleAttribute::SuppressPrefixLen(len) => {
                rule.suppress_prefix_len = (*len != u32::MAX).then_some(*len);
            }
            _ => rule.foreign_selectors = true,
        }
    }
    Some(rule)
}

/// The message that adds or deletes a route.
pub fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = route_header(route);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    if !route.is_default() {
        attributes.push(RouteAttribute::Destination(route.dst.network().into()));
    }
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    let initial = route.initial_window.map(|segments| vec![RouteMetric::InitCwnd(segments)]);
    attributes.extend(initial.map(RouteAttribute::Metrics));
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            attributes.push(RouteAttribute::Oif(hop.ifindex));
            attributes.extend(gateway_attribute(route.family(), hop));
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        several => attributes.push(RouteAttribute::MultiPath(
            several.iter().map(|hop| next_hop(route.family(), hop)).collect(),
        )),
    }
    message
}

/// The message that adds or deletes a rule. Selectors that the type does not express are left out.
pub fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = kernel_family(rule.family);
    message.header.action = RuleAction::ToTable;
    // As for routes: the byte is too small, FRA_TABLE counts.
    message.header.table = rule.table.try_into().unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Protocol(rule.protocol.into()));
    attributes.extend(rule.suppress_prefix_len.map(RuleAttribute::SuppressPrefixLen));
    if let Some(src) = rule.src {
        message.header.src_len = src.prefix_len();
        attributes.push(RuleAttribute::Source(src.network()));
    }
    message
}

/// `RTM_*` of `include/uapi/linux/rtnetlink.h`.
mod rtm {
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const NEWRULE: u16 = 32;
    pub const DELRULE: u16 = 33;
}

/// Whether the core reasons about the object of a message, judged by its first bytes, before anything is
/// allocated: a router may hold a million routes.
fn concerns_us(kind: u16, payload: &[u8]) -> bool {
    match kind {
        rtm::NEWLINK | rtm::DELLINK | rtm::NEWADDR | rtm::DELADDR | rtm::NEWRULE | rtm::DELRULE => true,
        rtm::NEWROUTE | rtm::DELROUTE => RouteHeader::parse(payload).is_ok_and(|header| wanted(&header)),
        _ => false,
    }
}

/// Left out: what the kernel keeps for its own addresses, what it caches, what routing daemons install beside
/// default routes, and routes for some sources or types of service only, which are no way for all packets.
fn wanted(header: &RouteHeader) -> bool {
    const LOCAL_TABLE: u8 = 255;
    header.table != LOCAL_TABLE
        && !header.flags.contains(RouteFlags::Cloned)
        && header.source_prefix_length == 0
        && header.tos == 0
        && (header.destination_prefix_length == 0 || !of_routing_daemon(header.protocol.into()))
}

/// The protocol numbers of routing daemons (`RTPROT_*`): gated, mrt, zebra, bird, dnrouted, xorp, ntk, mrouted,
/// babel, openr; from 186 on bgp, isis, ospf, rip, eigrp and the further ones of FRR.
fn of_routing_daemon(protocol: u8) -> bool {
    matches!(protocol, 8 | 10..=15 | 17 | 42 | 99 | 186..)
}

fn parse(kind: u16, payload: &[u8]) -> Result<RouteNetlinkMessage, DecodeError> {
    match kind {
        rtm::NEWLINK | rtm::DELLINK => RouteNetlinkMessage::parse_with_param(&essential_link(payload)?, kind),
        _ => RouteNetlinkMessage::parse_with_param(payload, kind),
    }
}

fn object(message: &RouteNetlinkMessage) -> Option<(Object, bool)> {
    use RouteNetlinkMessage as M;
    let gone = matches!(message, M::DelLink(_) | M::DelAddress(_) | M::DelRoute(_) | M::DelRule(_));
    let object = match message {
        M::NewLink(m) | M::DelLink(m) => Object::Link(link(m)?),
        M::NewAddress(m) | M::DelAddress(m) => Object::Address(address(m)?),
        M::NewRoute(m) | M::DelRoute(m) => Object::Route(route(m)?),
        M::NewRule(m) | M::DelRule(m) => Object::Rule(rule(m)?),
        _ => return None,
    };
    Some((object, gone))
}

/// A link message with only those attributes that [`link`] reads. Links carry the most of all messages
/// (statistics, settings of every driver), and one attribute of a later kernel that does not decode must not make
/// the link invisible.
fn essential_link(payload: &[u8]) -> Result<Vec<u8>, DecodeError> {
    const HEADER: usize = 16;
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let (header, attributes) = payload
        .split_at_checked(HEADER)
        .ok_or_else(|| DecodeError::buffer_too_small(payload.len(), HEADER))?;
    let mut essential = header.to_vec();
    for nla in NlasIterator::new(attributes) {
        let nla = nla?;
        match nla.kind() {
            IFLA_ADDRESS | IFLA_IFNAME | IFLA_MASTER => push(&mut essential, nla.kind(), nla.value()),
            IFLA_LINKINFO => {
                let mut kind = Vec::new();
                for info in NlasIterator::new(nla.value()).flatten().filter(|i| i.kind() == IFLA_INFO_KIND) {
                    push(&mut kind, info.kind(), info.value());
                }
                push(&mut essential, nla.kind(), &kind);
            }
            _ => {}
        }
    }
    Ok(essential)
}

/// Appends an attribute that came out of another message, so that its length fits.
fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = NLA_HEADER_SIZE + value.len();
    message.extend_from_slice(&(len as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn kind_of(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(InfoKind::to_string(kind)),
        _ => None,
    }
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

fn kernel_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

fn hops(message: &RouteMessage) -> Vec<Hop> {
    let attributes = &message.attributes;
    let several =
        attributes.iter().find_map(|a| if let RouteAttribute::MultiPath(x) = a { Some(x) } else { None });
    let ifindex =
        attributes.iter().find_map(|a| if let RouteAttribute::Oif(x) = a { Some(*x) } else { None });
    let mut hops: Vec<Hop> = match (several, ifindex) {
        (Some(several), _) => several
            .iter()
            .map(|hop| Hop {
                ifindex: hop.interface_index,
                gateway: gateway(&hop.attributes),
                onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
            })
            .collect(),
        (None, Some(ifindex)) => vec![Hop {
            ifindex,
            gateway: gateway(attributes),
            onlink: message.header.flags.contains(RouteFlags::Onlink),
        }],
        (None, None) => Vec::new(),
    };
    hops.sort_unstable_by_key(|hop| (hop.ifindex, hop.gateway));
    hops
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(addr) => ip(addr),
        RouteAttribute::Via(RouteVia::Inet(addr)) => Some((*addr).into()),
        RouteAttribute::Via(RouteVia::Inet6(addr)) => Some((*addr).into()),
        _ => None,
    })
}

fn route_header(route: &Route) -> RouteHeader {
    RouteHeader {
        address_family: kernel_family(route.family()),
        destination_prefix_length: route.dst.prefix_len(),
        // A table that does not fit the byte is told by RTA_TABLE alone.
        table: route.table.try_into().unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: route.protocol.into(),
        scope: scope(route),
        kind: match route.kind {
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Broadcast => RouteType::Broadcast,
            RouteKind::Local => RouteType::Local,
            RouteKind::Unicast | RouteKind::Other => RouteType::Unicast,
        },
        ..RouteHeader::default()
    }
}

/// IPv4 checks that a gateway is nearer than what it leads to; a route without one ends on the link.
fn scope(route: &Route) -> RouteScope {
    let leads = matches!(route.kind, RouteKind::Unicast | RouteKind::Broadcast);
    let direct = leads && route.hops.iter().all(|hop| hop.gateway.is_none());
    if direct && route.family() == Family::V4 { RouteScope::Link } else { RouteScope::Universe }
}

fn next_hop(family: Family, hop: &Hop) -> RouteNextHop {
    let mut next_hop = RouteNextHop::default();
    next_hop.interface_index = hop.ifindex;
    next_hop.attributes.extend(gateway_attribute(family, hop));
    if hop.onlink {
        next_hop.flags = RouteNextHopFlags::Onlink;
    }
    next_hop
}

/// A gateway of the other family has an attribute of its own (RFC 5549).
fn gateway_attribute(family: Family, hop: &Hop) -> Option<RouteAttribute> {
    hop.gateway.map(|gateway| {
        if Family::of(&gateway) == family {
            RouteAttribute::Gateway(gateway.into())
        } else {
            RouteAttribute::Via(gateway.into())
        }
    })
}

#[cfg(test)]
mod tests;
