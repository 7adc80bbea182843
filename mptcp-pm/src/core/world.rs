//! The kernel objects that the core reasons about, in the kernel's own terms.
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use bitflags::bitflags;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The index of a network interface.
pub type IfIndex = u32;

/// The protocol number that marks the routes and rules of this project (`rtm_protocol`, `FRA_PROTOCOL`);
/// free in the kernel's `include/uapi/linux/rtnetlink.h`.
pub const OUR_PROTOCOL: u8 = 77;

/// The main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// An address family of the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    /// Both families, in the order in which they are reported.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address.
    pub const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its index: the identity; a name may change.
    pub index: IfIndex,
    /// Its present name.
    pub name: String,
    /// What the driver calls its kind (`IFLA_INFO_KIND`: `veth`, `wireguard`, `tun`, …); hardware has none.
    pub kind: Option<String>,
    /// The hardware type (`ARPHRD_*` of `include/uapi/linux/if_arp.h`).
    pub hardware: u16,
    /// The hardware address, empty where there is none.
    pub mac: Vec<u8>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Has carrier (`IFF_LOWER_UP`) and is not dormant.
    pub carrier: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// The bridge, bond or VRF that it is a port of (`IFLA_MASTER`).
    pub master: Option<IfIndex>,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface.
    pub ifindex: IfIndex,
    /// The address (`IFA_LOCAL`, or `IFA_ADDRESS` where there is no local one).
    pub addr: IpAddr,
    /// The prefix length of its network.
    pub prefix_len: u8,
    /// Valid everywhere (`RT_SCOPE_UNIVERSE`), not only on the link or the host.
    pub global: bool,
    /// Duplicate address detection is not finished, or has failed (`IFA_F_TENTATIVE`, `IFA_F_DADFAILED`).
    pub tentative: bool,
    /// Past its preferred lifetime (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
    /// A privacy address (IPv6 `IFA_F_TEMPORARY`).
    pub temporary: bool,
    /// A further address of its network (IPv4 `IFA_F_SECONDARY`, the same bit): the kernel prefers the first one.
    #[serde(default)]
    pub secondary: bool,
}

impl Address {
    /// The network that the address belongs to.
    pub fn network(&self) -> Option<IpNet> {
        IpNet::new(self.addr, self.prefix_len).ok().map(|net| net.trunc())
    }
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hop {
    /// The interface that packets leave by.
    pub ifindex: IfIndex,
    /// The gateway (`RTA_GATEWAY`, `RTA_VIA`); none for a network that is on the link.
    pub gateway: Option<IpAddr>,
    /// The gateway counts as on the link without an address in its network (`RTNH_F_ONLINK`).
    pub onlink: bool,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteKind {
    /// Sends it to the next hop (`RTN_UNICAST`).
    Unicast,
    /// Refuses it (`RTN_UNREACHABLE`): seen, never made, because it does not stop sockets that are bound to an
    /// interface.
    Unreachable,
    /// Sends it to all on the link (`RTN_BROADCAST`).
    Broadcast,
    /// Takes it for this machine (`RTN_LOCAL`).
    Local,
    /// Anything else (`RTN_BLACKHOLE`, `RTN_PROHIBIT`, …): seen, never made.
    Other,
}

/// A route of a routing table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// The table, from `RTA_TABLE` where the header's byte is too small.
    pub table: u32,
    /// The destination; a default route has a prefix length of 0.
    pub dst: IpNet,
    /// The metric (`RTA_PRIORITY`); lower is preferred.
    pub metric: u32,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Its next hops: more than one for a multipath route, none for one that refuses.
    pub hops: Vec<Hop>,
    /// The source address that it suggests (`RTA_PREFSRC`).
    pub source: Option<IpAddr>,
    /// How many segments connections over it begin with (`RTAX_INITCWND`); none leaves that to the kernel.
    #[serde(default)]
    pub initial_window: Option<u32>,
}

impl Route {
    /// Whether this is a default route.
    pub fn is_default(&self) -> bool {
        self.dst.prefix_len() == 0
    }

    /// Whether it differs from another one in nothing but the window that connections over it begin with.
    pub fn is_way_of(&self, other: &Self) -> bool {
        *self == Self { initial_window: self.initial_window, ..other.clone() }
    }

    /// The family that it routes.
    pub fn family(&self) -> Family {
        Family::of(&self.dst.addr())
    }
}

/// A routing policy rule that looks at the source address only; see [`Rule::foreign_selectors`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// The family whose packets it matches.
    pub family: Family,
    /// Its place among the rules (`FRA_PRIORITY`); lower comes first.
    pub priority: u32,
    /// The source that it matches; none matches all.
    pub src: Option<IpNet>,
    /// The table that it looks up.
    pub table: u32,
    /// `FRA_SUPPRESS_PREFIXLEN`: routes whose prefix is no longer than this are passed over.
    pub suppress_prefix_len: Option<u32>,
    /// Who made it (`FRA_PROTOCOL`).
    pub protocol: u8,
    /// It has selectors or an action that this type does not express (marks, ports, interfaces, `prohibit`, …):
    /// such a rule is never ours.
    pub foreign_selectors: bool,
}

bitflags! {
    /// The flags of an endpoint (`MPTCP_PM_ADDR_FLAG_*`, `include/uapi/linux/mptcp_pm.h`).
    /// Bits that have no name here are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct EndpointFlags: u32 {
        /// The address is announced to the peer (ADD_ADDR).
        const SIGNAL = 1 << 0;
        /// A subflow is made from the address.
        const SUBFLOW = 1 << 1;
        /// The subflow stands by (RFC 8684, section 3.3.8).
        const BACKUP = 1 << 2;
        /// A subflow from the address to every address of the peer.
        const FULLMESH = 1 << 3;
        /// Made by the kernel for a subflow whose address is no endpoint.
        const IMPLICIT = 1 << 4;
        /// Used only to answer the peer's ADD_ADDR (6.18).
        const LAMINAR = 1 << 5;
        /// Bits that a later kernel may name.
        const _ = !0;
    }
}

impl fmt::Display for EndpointFlags {
    /// The names as `ip mptcp` knows them, with commas; bits without a name as one number; `-` for no flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
        let nameless = self.iter_names().fold(self.bits(), |bits, (_, flag)| bits & !flag.bits());
        if nameless != 0 {
            words.push(format!("{nameless:#x}"));
        }
        if words.is_empty() {
            words.push("-".to_owned());
        }
        f.write_str(&words.join(","))
    }
}

impl Serialize for EndpointFlags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter_names().map(|(name, _)| name.to_ascii_lowercase()))
    }
}

impl<'de> Deserialize<'de> for EndpointFlags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer)?.iter().try_fold(Self::empty(), |flags, name| {
            let flag = Self::from_name(&name.to_ascii_uppercase()).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "unknown endpoint flag {name:?}: use signal, subflow, backup, fullmesh or laminar"
                ))
            })?;
            Ok(flags | flag)
        })
    }
}

/// An endpoint of the kernel's path manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The id that the kernel assigned, 1 to 255.
    pub id: u8,
    /// The local address.
    pub addr: IpAddr,
    /// The port that is announced with it; 0 for none.
    pub port: u16,
    /// The interface that its subflows are bound to.
    pub ifindex: Option<IfIndex>,
    /// Its flags.
    pub flags: EndpointFlags,
}

/// The limits of the kernel's path manager, per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// How many subflows beside the initial one.
    pub subflows: u32,
    /// How many of the peer's announced addresses are accepted.
    pub add_addr_accepted: u32,
}

/// One change that the kernel reports over routing netlink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A link is there, or is different.
    Link(Link),
    /// A link is gone, and all that was on it.
    LinkGone(IfIndex),
    /// An address is there, or is different.
    Address(Address),
    /// An address is gone from an interface.
    AddressGone(IfIndex, IpAddr),
    /// A route is there.
    Route(Route),
    /// A route is gone.
    RouteGone(Route),
    /// A rule is there.
    Rule(Rule),
    /// A rule is gone.
    RuleGone(Rule),
}

/// All that routing netlink knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The links.
    pub links: Vec<Link>,
    /// The addresses of all links.
    pub addresses: Vec<Address>,
    /// The routes of all tables but `local`, of both families; of routing daemons only the default routes.
    pub routes: Vec<Route>,
    /// The rules of both families.
    pub rules: Vec<Rule>,
}

/// A sysctl that MPTCP depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Sysctl {
    /// `net.mptcp.enabled`: 1 lets sockets speak MPTCP.
    Enabled,
    /// `net.mptcp.path_manager` (6.15): `kernel` or `userspace`.
    PathManager,
    /// `net.mptcp.pm_type`, its older form: 0 is the kernel's path manager.
    PathManagerType,
    /// `net.ipv4.tcp_rmem`: the least receive buffer of a TCP socket, the one that it begins with, and the greatest; bytes.
    ReceiveBuffer,
    /// `net.ipv4.conf.NAME.rp_filter`: 1 drops what comes in by another interface than the best one out.
    /// The kernel uses the greater one of the interface's and of `all`.
    ReversePathFilter(String),
}

impl Sysctl {
    /// Those that there is one of.
    pub const SINGLE: [Self; 4] =
        [Self::Enabled, Self::PathManager, Self::PathManagerType, Self::ReceiveBuffer];
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled => f.write_str("net.mptcp.enabled"),
            Self::PathManager => f.write_str("net.mptcp.path_manager"),
            Self::PathManagerType => f.write_str("net.mptcp.pm_type"),
            Self::ReceiveBuffer => f.write_str("net.ipv4.tcp_rmem"),
            Self::ReversePathFilter(interface) => write!(f, "net.ipv4.conf.{interface}.rp_filter"),
        }
    }
}

impl From<Sysctl> for String {
    fn from(sysctl: Sysctl) -> Self {
        sysctl.to_string()
    }
}

impl TryFrom<String> for Sysctl {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if let Some(single) = Self::SINGLE.into_iter().find(|single| single.to_string() == name) {
            return Ok(single);
        }
        let interface = name.strip_prefix("net.ipv4.conf.").and_then(|rest| rest.strip_suffix(".rp_filter"));
        interface
            .map(|interface| Self::ReversePathFilter(interface.to_owned()))
            .ok_or_else(|| format!("unknown sysctl {name:?}"))
    }
}

/// What the core asks the kernel for, beside routing netlink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The endpoints of the kernel's path manager.
    pub endpoints: Vec<Endpoint>,
    /// Its limits.
    pub limits: Option<Limits>,
    /// The sysctls that exist, as text without the line's end.
    pub sysctls: BTreeMap<Sysctl, String>,
}
