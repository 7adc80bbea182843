//! What the doctor looks at, read from `/proc` of this network namespace.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;

use crate::cli::check::Machine;
use crate::core::world::{Endpoint, Family, Limits};

/// A route is up (`RTF_UP`, `include/uapi/linux/route.h`).
const RTF_UP: u32 = 0x1;
/// A route refuses (`RTF_REJECT`).
const RTF_REJECT: u32 = 0x200;

/// All that is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// `net.mptcp.*` by name; empty where the kernel has no MPTCP.
    pub(super) sysctls: BTreeMap<String, String>,
    /// `MPTcpExt` counters by name.
    pub(super) counters: BTreeMap<String, u64>,
    /// The interfaces with a default route, by family.
    pub(super) default_routes: BTreeSet<(Family, String)>,
    /// The effective `rp_filter` of the interfaces with an IPv4 default route.
    pub(super) rp_filter: BTreeMap<String, u32>,
    /// All addresses of this machine with their interfaces.
    pub(super) addresses: Vec<(String, IpAddr)>,
    /// The names of the processes in this network namespace.
    pub(super) processes: BTreeSet<String>,
    /// The configuration of NetworkManager mentions `connection.mptcp-flags`.
    pub(super) network_manager_told: bool,
    /// The limits, where they can be read.
    pub(super) limits: Option<Limits>,
    /// The endpoints, where they can be read.
    pub(super) endpoints: Option<Vec<Endpoint>>,
}

impl Facts {
    /// Reads everything. What cannot be read is left empty: no finding comes of it.
    pub(super) fn gather() -> Result<Self> {
        let default_routes: BTreeSet<_> = ipv4_default_routes(&read("/proc/net/route"))
            .map(|interface| (Family::V4, interface))
            .chain(
                ipv6_default_routes(&read("/proc/net/ipv6_route")).map(|interface| (Family::V6, interface)),
            )
            .collect();
        let v4 = default_routes.iter().filter(|(family, _)| *family == Family::V4);
        Ok(Self {
            sysctls: sysctls(Path::new("/proc/sys/net/mptcp")),
            counters: counters(&read("/proc/net/netstat"), "MPTcpExt:"),
            rp_filter: v4.map(|(_, interface)| (interface.clone(), rp_filter(interface))).collect(),
            default_routes,
            addresses: Machine::look()?.addresses(),
            processes: processes(),
            network_manager_told: network_manager_told(),
            limits: None,
            endpoints: None,
        })
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

fn sysctls(folder: &Path) -> BTreeMap<String, String> {
    let sysctl = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), read(entry.path()).trim().to_owned())
    };
    entries(folder).map(sysctl).collect()
}

/// The counters of one group: a line of names, then a line of values.
pub(super) fn counters(text: &str, group: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let values = values.split_whitespace().map(|value| value.parse().unwrap_or_default());
    names.split_whitespace().map(str::to_owned).zip(values).collect()
}

/// The interfaces of default routes (`fib_route_seq_show`, `net/ipv4/fib_trie.c`).
pub(super) fn ipv4_default_routes(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        (is_default && is_usable(fields.get(3)?)).then(|| fields[0].to_owned())
    })
}

/// The interfaces of default routes (`rt6_info_route`, `net/ipv6/ip6_fib.c`).
pub(super) fn ipv6_default_routes(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00") && is_usable(fields.get(8)?))
            .then(|| fields.get(9).map(|name| (*name).to_owned()))?
    })
}

fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

/// The stricter of the interface's setting and that of all (`ip-sysctl.rst`).
fn rp_filter(interface: &str) -> u32 {
    let setting =
        |name| read(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).trim().parse().unwrap_or(0);
    setting("all").max(setting(interface))
}

/// The processes whose network namespace is ours; of others nothing is known without privilege.
fn processes() -> BTreeSet<String> {
    let ours = fs::read_link("/proc/self/ns/net").ok();
    entries(Path::new("/proc"))
        .filter(|process| ours.is_some() && fs::read_link(process.path().join("ns/net")).ok() == ours)
        .map(|process| read(process.path().join("comm")).trim().to_owned())
        .collect()
}

fn network_manager_told() -> bool {
    let folders = ["/etc", "/run", "/usr/lib"].map(|root| format!("{root}/NetworkManager/conf.d"));
    let files = folders.iter().flat_map(|folder| entries(Path::new(folder))).map(|file| file.path());
    files
        .chain(["/etc/NetworkManager/NetworkManager.conf".into()])
        .any(|file| read(file).lines().any(|line| line.trim_start().starts_with("connection.mptcp-flags")))
}
