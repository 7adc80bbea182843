//! What the doctor looks at: the kernel as the daemon sees it, judged by the daemon's own code, and what else is known.
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{self, Config, Endpoints};
use crate::core::observed::World;
use crate::core::owned::Owned;
use crate::core::policy::{self, Capacity, Desired};
use crate::core::world::{Observation, Sysctl};
use crate::netlink::mptcp::Mptcp;
use crate::netlink::watch::Watch;
use crate::stats::Lookup;
use crate::view::connections::Connections;
use crate::{instance, rivals, sysctl};

/// The place of CAP_NET_ADMIN in a set of capabilities (`include/uapi/linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;

/// How often the kernel has switched MPTCP off for some time, because SYNs with its option got lost (6.12).
const BLACKHOLES: &str = "Blackhole";

/// For a connection within this machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// All that is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Links, addresses, routes, rules; endpoints, limits and sysctls.
    pub(super) world: World,
    /// What the daemon would make of it, were there no endpoints yet.
    pub(super) desired: Desired,
    /// What is wrong with the configuration.
    pub(super) misconfigured: Option<String>,
    /// `net.mptcp.blackhole_timeout`, seconds.
    pub(super) blackhole_timeout: Option<u64>,
    /// The kernel refuses to ask for MPTCP for some time.
    pub(super) in_blackhole: bool,
    /// `MPTcpExt` counters by name.
    pub(super) counters: BTreeMap<String, u64>,
    /// The connections that there are.
    pub(super) connections: Connections,
    /// Who else manages paths.
    pub(super) programs: Programs,
    /// What this process may do.
    pub(super) rights: Rights,
}

/// Who manages paths here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Programs {
    /// This project's daemon runs.
    pub(super) daemon: bool,
    /// Its systemd unit, where one is installed for this network namespace.
    pub(super) unit: Option<Unit>,
    /// The process of mptcpd.
    pub(super) mptcpd: Option<u32>,
    /// NetworkManager runs, and nobody told it what to do about MPTCP, which is not to be its business.
    pub(super) network_manager: bool,
}

/// An installed systemd unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A boot starts it.
    Enabled,
    /// It is started by hand.
    Disabled,
}

/// What this process may do, and what the kernel offers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// CAP_NET_ADMIN.
    pub(super) net_admin: bool,
    /// `/proc/sys` is mounted read-only.
    pub(super) sysctls_read_only: bool,
    /// The kernel's types are there (BTF), which eBPF programs need.
    pub(super) btf: bool,
}

impl Default for Rights {
    fn default() -> Self {
        Self { net_admin: true, sysctls_read_only: false, btf: true }
    }
}

impl Facts {
    /// Reads everything. What cannot be read without privilege is left empty: no finding comes of it.
    pub(super) async fn gather(file: Option<&Path>) -> Result<Self> {
        let (config, misconfigured) = configuration(file);
        let mut world = World::default();
        world.replace(Watch::open()?.snapshot().await?);
        world.observation = Some(observe(&world).await?);
        let desired = wish(&world, &config);
        let endpoints: Vec<_> = world.observation.iter().flat_map(|seen| &seen.endpoints).collect();
        let counters = counters();
        let timeout = fs::read_to_string("/proc/sys/net/mptcp/blackhole_timeout");
        Ok(Self {
            blackhole_timeout: timeout.ok().and_then(|text| text.trim().parse().ok()),
            in_blackhole: counters.get(BLACKHOLES).is_some_and(|times| *times > 0) && is_in_blackhole(),
            connections: Connections::read(&desired.uplinks, &endpoints, &Lookup::default(), BTreeMap::new())
                .await,
            counters,
            programs: Programs {
                daemon: instance::is_claimed(),
                unit: unit(),
                mptcpd: rivals::mptcpd(),
                network_manager: config.endpoints == Endpoints::Ours
                    && rivals::network_manager().is_some()
                    && !rivals::network_manager_is_told(),
            },
            rights: rights(),
            misconfigured,
            desired,
            world,
        })
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }
}

/// The configuration that the daemon would read; the defaults where it is wrong.
fn configuration(file: Option<&Path>) -> (Config, Option<String>) {
    let default = Path::new(config::DEFAULT_FILE);
    let file = file.or_else(|| default.exists().then_some(default));
    match file.map(Config::load) {
        None => (Config::default(), None),
        Some(Ok(config)) => (config, None),
        Some(Err(error)) => (Config::default(), Some(error.to_string())),
    }
}

/// What the daemon wants here. It leaves out endpoints that others have made already: so there are none.
pub(super) fn wish(world: &World, config: &Config) -> Desired {
    let mut world = world.clone();
    world.observation.iter_mut().for_each(|seen| seen.endpoints.clear());
    policy::desire(&world, config, &Owned::default(), Capacity::default())
}

/// What the daemon asks of the kernel, beside routing netlink. A kernel without MPTCP has none of it.
async fn observe(world: &World) -> Result<Observation> {
    let mut observation = Observation::default();
    for key in policy::relevant_sysctls(world) {
        if let Some(value) = sysctl::read(&key)? {
            observation.sysctls.insert(key, value);
        }
    }
    if observation.sysctls.contains_key(&Sysctl::Enabled) {
        let mut mptcp = Mptcp::open().await?;
        observation.endpoints = mptcp.endpoints().await?;
        observation.limits = Some(mptcp.limits().await?);
    }
    Ok(observation)
}

fn counters() -> BTreeMap<String, u64> {
    mptcp_counters(&fs::read_to_string("/proc/self/net/netstat").unwrap_or_default())
}

/// Nothing but trying tells whether the timer runs: a connection to a port of this machine where nobody listens.
fn is_in_blackhole() -> bool {
    let refused = || counters().get("MPCapableSYNTXDisabled").copied().unwrap_or_default();
    let before = refused();
    let discard = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    if let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)) {
        // It is refused; that the kernel has to think about the SYN is all it is for.
        let _ = socket.connect_timeout(&discard.into(), PATIENCE);
    }
    refused() > before
}

/// The counters of MPTCP: a line of names, then a line of values. Each kernel has more of them.
pub(super) fn mptcp_counters(text: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("MPTcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let values = values.split_whitespace().map(|value| value.parse().unwrap_or_default());
    names.split_whitespace().map(str::to_owned).zip(values).collect()
}

/// What systemd starts, it starts in its own network namespace. Its folders are those of systemd.unit(5).
fn unit() -> Option<Unit> {
    const NAME: &str = "mptcp-pm.service";
    let [its, ours] = ["1", "self"].map(|process| fs::read_link(format!("/proc/{process}/ns/net")));
    if its.is_ok_and(|its| ours.is_ok_and(|ours| its != ours)) {
        return None;
    }
    let folders = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    folders.iter().find(|folder| Path::new(folder).join(NAME).is_file())?;
    let entries = fs::read_dir(folders[0]).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut wants = entries.filter(|path| path.extension().is_some_and(|end| end == "wants"));
    let is_wanted = wants.any(|folder| folder.join(NAME).is_symlink());
    Some(if is_wanted { Unit::Enabled } else { Unit::Disabled })
}

fn rights() -> Rights {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    Rights {
        net_admin: effective & 1 << CAP_NET_ADMIN != 0,
        sysctls_read_only: access("/proc/sys/net/mptcp/enabled", AccessFlags::W_OK) == Err(Errno::EROFS),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
    }
}
