//! Which interfaces are uplinks: accesses to the Internet whose addresses MPTCP may use; and why the others are not.
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::hints::{Connectivity, Profile, Source, Sources};
use super::observed::World;
use super::world::{Address, Family, Hop, IfIndex, Link, MAIN_TABLE};
use crate::config::{Config, Role, UplinkRule};

/// What sort of interface this is, for the question who may share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Hardware, or what stands for it (VLAN, bond, macvlan, veth in a container).
    Access,
    /// A modem for a mobile network.
    Cellular,
    /// A VPN or tunnel: what goes through it must not go beside it.
    Vpn,
    /// Never an uplink by itself: loopback, bridges, a container's end on the host, ports of others.
    Internal,
}

/// One interface, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The interface.
    pub ifindex: IfIndex,
    /// Its name.
    pub name: String,
    /// What sort of interface it is.
    pub class: Class,
    /// Who provides the access, as the configuration names it.
    pub provider: Option<String>,
    /// What the owner wants of it; none where the profile decides.
    pub role: Option<Role>,
    /// Whether traffic costs money.
    pub metered: bool,
    /// Who says so.
    #[serde(default)]
    pub sources: Sources,
    /// NetworkManager's connection profile on it.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// Flags that the configuration gives its endpoints in place of the profile's.
    #[serde(skip)]
    pub flags: Option<super::world::EndpointFlags>,
    /// What each family has, IPv4 first.
    pub families: Vec<FamilyAccess>,
    /// It is a radio.
    #[serde(skip)]
    pub radio: bool,
    /// It is used, and gets no further subflows while another one carries, for this reason.
    #[serde(default)]
    pub rests: Option<String>,
    /// Nor keeps those that it has.
    #[serde(skip)]
    pub held: bool,
    /// Why it is not used at all; none when it is.
    pub unused: Option<Unused>,
}

/// Why an interface is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unused {
    /// In words, to follow the interface's name.
    pub reason: String,
    /// It is one by its nature and configuration, and only lacks something now: carrier, address, route.
    pub lost: bool,
}

impl Unused {
    /// Not meant to be used.
    pub fn deliberate(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lost: false }
    }

    fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lost: true }
    }
}

/// What one family of an uplink has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyAccess {
    /// The family.
    pub family: Family,
    /// The metric of its best default route; the greatest one where only a rule leads to that route.
    pub metric: u32,
    /// Where that route leads.
    pub hop: Hop,
    /// The addresses that are used: one of each network.
    pub addresses: Vec<IpAddr>,
    /// What NetworkManager says is reached over it.
    #[serde(default)]
    pub connectivity: Connectivity,
    /// It rests while another uplink has this family, since the Internet is not reached over it.
    #[serde(skip)]
    pub idle: bool,
}

impl Uplink {
    /// What it has of a family.
    pub fn access(&self, family: Family) -> Option<&FamilyAccess> {
        self.families.iter().find(|access| access.family == family)
    }

    /// Whether it rests in a family.
    pub fn rests_in(&self, family: Family) -> bool {
        self.held || self.access(family).is_some_and(|access| access.idle)
    }

    /// Whether the Internet is not reached over it at all.
    pub fn is_idle(&self) -> bool {
        !self.families.is_empty() && self.families.iter().all(|access| access.idle)
    }

    /// Its best metric over both families: how much the system prefers it.
    pub fn metric(&self) -> u32 {
        self.families.iter().map(|access| access.metric).min().unwrap_or(u32::MAX)
    }
}

/// Judges every interface.
pub fn find(world: &World, config: &Config) -> Vec<Uplink> {
    world.links.values().map(|link| judge(link, world, config)).collect()
}

/// What sort of interface a link is.
pub fn class(link: &Link) -> Class {
    if link.loopback {
        return Class::Internal;
    }
    match link.kind.as_deref() {
        Some(kind) => class_of_kind(kind, link),
        None => class_of_hardware(link.hardware),
    }
}

/// The kinds are `rtnl_link_ops.kind` in the kernel's drivers/net and net/.
fn class_of_kind(kind: &str, link: &Link) -> Class {
    const TUNNELS: [&str; 24] = [
        "amneziawg",
        "erspan",
        "fou",
        "geneve",
        "gre",
        "gretap",
        "gtp",
        "ip6_vti",
        "ip6erspan",
        "ip6gre",
        "ip6gretap",
        "ip6tnl",
        "ipip",
        "ipsec",
        "l2tp",
        "ovpn",
        "ovpn-dco",
        "sit",
        "tun",
        "vti",
        "vti6",
        "vxlan",
        "wireguard",
        "xfrm",
    ];
    const VIRTUAL: [&str; 12] = [
        "batadv",
        "bridge",
        "dummy",
        "hsr",
        "ifb",
        "netkit",
        "nlmon",
        "openvswitch",
        "vcan",
        "vrf",
        "vsockmon",
        "vxcan",
    ];
    match kind {
        "wwan" | "rmnet" => Class::Cellular,
        "veth" if is_host_end(link) => Class::Internal,
        kind if TUNNELS.contains(&kind) => Class::Vpn,
        kind if VIRTUAL.contains(&kind) => Class::Internal,
        _ => Class::Access,
    }
}

/// The host's end of a container's veth: container managers name it so. The other end, seen from within the
/// container, is the container's access and carries an interface's ordinary name.
fn is_host_end(link: &Link) -> bool {
    const PREFIXES: [&str; 7] = ["veth", "cali", "lxc", "vnet", "cilium", "docker", "tap"];
    PREFIXES.iter().any(|prefix| link.name.starts_with(prefix))
}

/// `ARPHRD_*` of include/uapi/linux/if_arp.h. Modems in raw IP mode say NONE or RAWIP and have no kind.
fn class_of_hardware(hardware: u16) -> Class {
    const NONE: u16 = 0xfffe;
    const RAWIP: u16 = 519;
    match hardware {
        NONE | RAWIP => Class::Cellular,
        768..=769 | 776..=778 | 823 => Class::Vpn,
        772 => Class::Internal,
        _ => Class::Access,
    }
}

fn judge(link: &Link, world: &World, config: &Config) -> Uplink {
    let rule = config.rule_for(link);
    let class = world.class(link);
    let said = said(link, class, rule, world);
    let families = Family::BOTH.into_iter().filter_map(|family| access(link, family, world)).collect();
    let mut uplink = Uplink {
        ifindex: link.index,
        name: link.name.clone(),
        class,
        provider: said.provider,
        role: said.role,
        metered: said.metered,
        sources: said.sources,
        profile: world.desktop.hint(&link.name).and_then(|hint| hint.profile.clone()),
        flags: rule.and_then(|rule| rule.flags),
        families,
        radio: is_radio(link, class, world),
        rests: None,
        held: false,
        unused: None,
    };
    uplink.unused = objection(link, &uplink, rule, world);
    uplink
}

/// What is said of an uplink, and by whom.
struct Said {
    provider: Option<String>,
    role: Option<Role>,
    metered: bool,
    sources: Sources,
}

/// What the configuration says goes before what the profile says, and that before what NetworkManager says.
fn said(link: &Link, class: Class, rule: Option<&UplinkRule>, world: &World) -> Said {
    let hint = world.desktop.hint(&link.name);
    let wishes = hint.map(|hint| &hint.wishes);
    let configured = rule.and_then(|rule| rule.role).map(|role| (role, Source::Configuration));
    let wished = || wishes.and_then(|wishes| wishes.role).map(|role| (role, Source::Profile));
    let role = configured.or_else(wished);
    let configured = rule.and_then(|rule| rule.provider.clone()).map(|name| (name, Source::Configuration));
    let wished = || wishes.and_then(|wishes| wishes.provider.clone()).map(|name| (name, Source::Profile));
    let provider = configured.or_else(wished);
    let configured = rule.and_then(|rule| rule.metered).map(|yes| (yes, Source::Configuration));
    let wished = || wishes.and_then(|wishes| wishes.metered).map(|yes| (yes, Source::Profile));
    let told = || hint.and_then(|hint| hint.metered).map(|told| (told.yes, told_by(told.guessed)));
    let by_kind = || (class == Class::Cellular).then_some((true, Source::Kind));
    let metered = configured.or_else(wished).or_else(told).or_else(by_kind);
    Said {
        sources: Sources {
            role: role.map(|(_, source)| source),
            provider: provider.as_ref().map(|(_, source)| *source),
            metered: metered.map(|(_, source)| source),
        },
        role: role.map(|(role, _)| role),
        provider: provider.map(|(name, _)| name),
        metered: metered.is_some_and(|(yes, _)| yes),
    }
}

const fn told_by(guessed: bool) -> Source {
    if guessed { Source::Guess } else { Source::NetworkManager }
}

/// Wi-Fi is told from Ethernet by nothing that routing netlink says: where NetworkManager does not say it, the name does
/// (systemd.net-naming-scheme(7)).
fn is_radio(link: &Link, class: Class, world: &World) -> bool {
    let named = ["wl", "ww"].iter().any(|prefix| link.name.starts_with(prefix));
    class == Class::Cellular || named || world.desktop.hint(&link.name).is_some_and(|hint| hint.radio)
}

/// Why an interface cannot be used, most fundamental first.
fn objection(link: &Link, uplink: &Uplink, rule: Option<&UplinkRule>, world: &World) -> Option<Unused> {
    let in_profile = uplink.sources.role == Some(Source::Profile);
    let named = rule.is_some_and(|rule| rule.is_explicit()) || in_profile;
    if link.loopback {
        return Some(Unused::deliberate("is the loopback interface"));
    }
    if uplink.role == Some(Role::Off) {
        return Some(Unused::deliberate(match in_profile {
            false => "is switched off in the configuration (role = \"off\")",
            true => "is switched off by its NetworkManager profile (mptcp-pm.role)",
        }));
    }
    if !named && let Some(reason) = excluded(link, uplink.class, world) {
        return Some(Unused::deliberate(reason));
    }
    if !link.up {
        return Some(Unused::lost("is down"));
    }
    if !link.carrier {
        return Some(Unused::lost("has no carrier"));
    }
    uplink.families.is_empty().then(|| Unused::lost(missing(link.index, world)))
}

fn excluded(link: &Link, class: Class, world: &World) -> Option<String> {
    let kind = link.kind.as_deref().unwrap_or("hardware");
    if let Some(master) = link.master {
        let master = world.links.get(&master).map_or("another interface", |link| link.name.as_str());
        return Some(format!("is a port of {master}"));
    }
    match class {
        Class::Internal => Some(format!("is internal ({kind}); name it in an [[uplink]] table to use it")),
        Class::Vpn => Some(format!("is a VPN or tunnel ({kind}); name it in an [[uplink]] table to use it")),
        Class::Access | Class::Cellular => None,
    }
}

/// What keeps an interface that is up from being used in any family.
fn missing(ifindex: IfIndex, world: &World) -> String {
    let all: Vec<&Address> =
        Family::BOTH.into_iter().flat_map(|family| world.addresses_of(ifindex, family)).collect();
    let usable = all.iter().any(|address| address.global && !address.tentative);
    let waiting = all.iter().any(|address| address.global && address.tentative);
    match (usable, waiting) {
        (true, _) => "has no default route".into(),
        (false, true) => "waits for duplicate address detection, or it failed".into(),
        (false, false) => "has no global address".into(),
    }
}

fn access(link: &Link, family: Family, world: &World) -> Option<FamilyAccess> {
    let route = *world.default_routes(link.index, family).first()?;
    let hop = route.hops.iter().find(|hop| hop.ifindex == link.index)?.clone();
    let addresses = choose(world.addresses_of(link.index, family));
    let metric = if route.table == MAIN_TABLE { route.metric } else { u32::MAX };
    let hint = world.desktop.hint(&link.name);
    let connectivity = hint.map_or(Connectivity::Unknown, |hint| hint.connectivity(family));
    let access = FamilyAccess { family, metric, hop, addresses, connectivity, idle: false };
    (!access.addresses.is_empty()).then_some(access)
}

/// One address of each network: the others would be further subflows over the same way. Among those of one network
/// the order is that of RFC 6724, section 5, rules 3 and 7, and of the kernel: a preferred one before a deprecated one,
/// the first one before further ones, a temporary one before a permanent one. Unique local addresses (RFC 4193) count
/// only where there is nothing better.
fn choose<'a>(addresses: impl Iterator<Item = &'a Address>) -> Vec<IpAddr> {
    let mut usable: Vec<&Address> =
        addresses.filter(|address| address.global && !address.tentative).collect();
    if usable.iter().any(|address| !is_unique_local(&address.addr)) {
        usable.retain(|address| !is_unique_local(&address.addr));
    }
    usable.sort_by_key(|address| (address.deprecated, address.secondary, !address.temporary, address.addr));
    let mut chosen: Vec<&Address> = Vec::new();
    for address in usable {
        if !chosen.iter().any(|other| share_network(address, other)) {
            chosen.push(address);
        }
    }
    chosen.into_iter().map(|address| address.addr).collect()
}

/// DHCPv6 gives an address without a network (/128) within the one that is on the link.
fn share_network(a: &Address, b: &Address) -> bool {
    let within = |a: &Address, b: &Address| a.network().is_some_and(|net| net.contains(&b.addr));
    within(a, b) || within(b, a)
}

fn is_unique_local(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unique_local())
}
