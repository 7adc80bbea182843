//! What is switched off, missing or in somebody else's hands on this machine.
use super::{Facts, Finding, Rule, found};
use crate::cli::doctor::facts::Unit;
use crate::core::world::Sysctl;

pub(super) const RULES: &[Rule] =
    &[configuration, switched_off, not_started, userspace_manager, mptcpd, network_manager, blackhole];
pub(super) const NOTES: &[Rule] = &[no_daemon, not_enabled, privilege, read_only, no_btf];

fn configuration(facts: &Facts) -> Vec<Finding> {
    let finding = |error: &String| {
        let remedy = "correct it; `mptcp-pm config check FILE` says when it is right. The defaults hold here";
        Finding::problem("configuration", format!("the configuration is wrong: {error}"), remedy)
    };
    facts.misconfigured.iter().map(finding).collect()
}

fn switched_off(facts: &Facts) -> Vec<Finding> {
    let off = facts.world.sysctl(&Sysctl::Enabled) == Some("0");
    let finding = "MPTCP is switched off in this network namespace";
    found(off, || Finding::problem("enabled", finding, "sysctl net.mptcp.enabled=1"))
}

fn userspace_manager(facts: &Facts) -> Vec<Finding> {
    let named = facts.world.sysctl(&Sysctl::PathManager);
    let numbered = facts.world.sysctl(&Sysctl::PathManagerType);
    let userspace = named.map_or(numbered == Some("1"), |name| name == "userspace");
    let nobody = facts.programs.mptcpd.is_none() && !facts.programs.daemon;
    let finding = "paths are left to a userspace path manager, and none is seen to run here";
    let remedy = "sysctl net.mptcp.path_manager=kernel (before Linux 6.15: net.mptcp.pm_type=0)";
    found(userspace && nobody, || Finding::problem("path-manager", finding, remedy))
}

fn mptcpd(facts: &Facts) -> Vec<Finding> {
    let finding = |process: u32| {
        let finding = format!("mptcpd (process {process}) manages paths here, too");
        Finding::problem("mptcpd", finding, "systemctl disable --now mptcp")
    };
    facts.programs.mptcpd.map(finding).into_iter().collect()
}

fn network_manager(facts: &Facts) -> Vec<Finding> {
    let finding = "NetworkManager makes endpoints of its own, and removes others at times";
    let remedy = "put connection.mptcp-flags=1 under [connection-mptcp-pm] in a file in \
                  /etc/NetworkManager/conf.d, and activate the connections again";
    found(facts.programs.network_manager, || Finding::problem("network-manager", finding, remedy))
}

fn blackhole(facts: &Facts) -> Vec<Finding> {
    let times = facts.counter("Blackhole");
    let timeout = facts.blackhole_timeout.unwrap_or(3600);
    let finding = format!(
        "MPTCP is switched off for an hour or more, because SYNs that ask for it got lost ({times} times so far)"
    );
    let remedy = format!("sysctl net.mptcp.blackhole_timeout={timeout} switches it on again at once");
    found(facts.in_blackhole, || Finding::problem("blackhole", finding, remedy))
}

/// Who has installed it as a service wants it to run.
fn not_started(facts: &Facts) -> Vec<Finding> {
    let installed = facts.programs.unit.is_some() && !facts.programs.daemon;
    let finding = "the daemon is installed and does not run here: nobody follows what comes and goes";
    let remedy = "systemctl start mptcp-pm; if it ends at once, `journalctl -u mptcp-pm` says why";
    found(installed, || Finding::problem("daemon", finding, remedy))
}

fn no_daemon(facts: &Facts) -> Vec<Finding> {
    let by_hand = facts.programs.unit.is_none() && !facts.programs.daemon;
    let finding = "the daemon does not run here: nobody follows what comes and goes";
    found(by_hand, || Finding::note("daemon", finding, "mptcp-pm run"))
}

fn not_enabled(facts: &Facts) -> Vec<Finding> {
    let disabled = facts.programs.unit == Some(Unit::Disabled);
    let finding = "the daemon will not be started when the machine boots";
    found(disabled, || Finding::note("enabled-at-boot", finding, "systemctl enable mptcp-pm"))
}

fn privilege(facts: &Facts) -> Vec<Finding> {
    let finding = "without CAP_NET_ADMIN neither subflows nor the processes of others can be seen";
    found(!facts.rights.net_admin, || Finding::note("privilege", finding, "run it as root"))
}

fn read_only(facts: &Facts) -> Vec<Finding> {
    let finding =
        "/proc/sys is mounted read-only, as in most containers: no setting can be changed from here";
    let remedy = "set on the host what is found here, or start the container with these sysctls";
    found(facts.rights.sysctls_read_only, || Finding::note("read-only", finding, remedy))
}

fn no_btf(facts: &Facts) -> Vec<Finding> {
    let finding = "the kernel tells no types (BTF): eBPF cannot watch the paths, all else works";
    let remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF, as those of the distributions are";
    found(!facts.rights.btf, || Finding::note("ebpf", finding, remedy))
}
