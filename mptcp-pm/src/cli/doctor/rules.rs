//! From what is seen to causes: one rule for each way in which a second subflow can fail to come.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Finding;
use super::facts::Facts;
use crate::core::world::EndpointFlags;

/// What makes subflows of its own accord.
const MAKES_SUBFLOWS: EndpointFlags =
    EndpointFlags::SUBFLOW.union(EndpointFlags::FULLMESH).union(EndpointFlags::LAMINAR);

/// All findings, the most fundamental first.
pub(super) fn apply(facts: &Facts) -> Vec<Finding> {
    if facts.sysctls.is_empty() {
        let remedy = "boot a kernel with CONFIG_MPTCP, as those of Debian, Fedora and Ubuntu are";
        return vec![Finding::new("kernel", "this kernel has no MPTCP", remedy)];
    }
    let rules = [switched_off, userspace_manager, other_managers, one_way_out, limits, endpoints];
    let more = [gone_addresses, reverse_path_filter, blackhole, not_asked_for, not_answered, joins];
    rules.into_iter().chain(more).flat_map(|rule| rule(facts)).collect()
}

fn switched_off(facts: &Facts) -> Vec<Finding> {
    let off = facts.sysctl("enabled") == Some("0");
    let remedy = "sysctl net.mptcp.enabled=1";
    found(off, || Finding::new("enabled", "MPTCP is switched off in this network namespace", remedy))
}

fn userspace_manager(facts: &Facts) -> Vec<Finding> {
    let userspace =
        facts.sysctl("path_manager").map_or(facts.sysctl("pm_type") == Some("1"), |name| name == "userspace");
    let nobody = !["mptcpd", "mptcp-pm"].iter().any(|name| facts.processes.contains(*name));
    let finding = "paths are left to a userspace path manager, and none is seen to run here";
    let remedy = "sysctl net.mptcp.path_manager=kernel (before Linux 6.15: net.mptcp.pm_type=0)";
    found(userspace && nobody, || Finding::new("path-manager", finding, remedy))
}

fn other_managers(facts: &Facts) -> Vec<Finding> {
    let mptcpd = facts.processes.contains("mptcpd");
    let manager = facts.processes.contains("NetworkManager") && !facts.network_manager_told;
    let mut findings = found(mptcpd, || {
        Finding::new("mptcpd", "mptcpd manages paths here, too", "systemctl disable --now mptcp")
    });
    findings.extend(found(manager, || {
        let finding = "NetworkManager makes endpoints of its own, and removes others at times";
        let remedy = "put connection.mptcp-flags=1 under [connection-mptcp-pm] in a file in \
                      /etc/NetworkManager/conf.d, and activate the connections again";
        Finding::new("network-manager", finding, remedy)
    }));
    findings
}

fn one_way_out(facts: &Facts) -> Vec<Finding> {
    let interfaces: BTreeSet<&str> = facts.default_routes.iter().map(|(_, name)| name.as_str()).collect();
    let Some(only) = interfaces.first() else {
        let remedy = "connect an access; `ip route` then shows a default route for it";
        return vec![Finding::new("routes", "no interface has a default route", remedy)];
    };
    let v4 = |(name, addr): &&(String, IpAddr)| name == only && addr.is_ipv4();
    // Several IPv4 addresses on one line may be several paths; several IPv6 ones are the rule.
    let one = interfaces.len() == 1 && facts.addresses.iter().filter(v4).count() < 2;
    let finding = format!("only {only} has a default route, so there is no second path");
    let remedy = "connect a second access; `ip route` then shows a default route for it";
    found(one, || Finding::new("routes", finding, remedy))
}

fn limits(facts: &Facts) -> Vec<Finding> {
    let none = facts.limits.is_some_and(|limits| limits.subflows == 0);
    let remedy = "mptcp-pm limits set --subflows 2";
    found(none, || Finding::new("limits", "the limits allow no subflow beside the initial one", remedy))
}

fn endpoints(facts: &Facts) -> Vec<Finding> {
    let Some(endpoints) = &facts.endpoints else { return Vec::new() };
    let none = !endpoints.iter().any(|endpoint| endpoint.flags.intersects(MAKES_SUBFLOWS));
    let remedy = "start the daemon, or `mptcp-pm endpoint add ADDR --dev IFACE --subflow`";
    found(none, || Finding::new("endpoints", "no endpoint makes subflows", remedy))
}

fn gone_addresses(facts: &Facts) -> Vec<Finding> {
    let gone = facts.endpoints.iter().flatten().filter(|endpoint| {
        let here = facts.addresses.iter().any(|(_, addr)| *addr == endpoint.addr);
        endpoint.flags.intersects(MAKES_SUBFLOWS) && !here
    });
    gone.map(|endpoint| {
        let finding =
            format!("endpoint {} is for {}, which this machine has not", endpoint.id, endpoint.addr);
        Finding::new("endpoint-address", finding, format!("mptcp-pm endpoint delete {}", endpoint.id))
    })
    .collect()
}

fn reverse_path_filter(facts: &Facts) -> Vec<Finding> {
    let several = facts.rp_filter.len() > 1;
    let strict = facts.rp_filter.iter().filter(|(_, filter)| several && **filter == 1);
    strict
        .map(|(name, _)| {
            let finding = format!("{name} drops packets whose way back is another interface (rp_filter 1)");
            Finding::new("rp-filter", finding, format!("sysctl net.ipv4.conf.{name}.rp_filter=2"))
        })
        .collect()
}

fn blackhole(facts: &Facts) -> Vec<Finding> {
    let seen = facts.counter("Blackhole");
    let finding = format!(
        "MPTCP was switched off for an hour or more because its SYNs got lost, {seen} times since the start"
    );
    let timeout = facts.sysctl("blackhole_timeout").unwrap_or("3600");
    let remedy = format!("sysctl net.mptcp.blackhole_timeout={timeout} switches it on again at once");
    found(seen > 0 && timeout != "0", || Finding::new("blackhole", finding, remedy))
}

fn not_asked_for(facts: &Facts) -> Vec<Finding> {
    let none = facts.counter("MPCapableSYNTX") == 0 && facts.counter("MPCapableSYNRX") == 0;
    let known = facts.counters.contains_key("MPCapableSYNTX");
    let finding = "no connection has asked for MPTCP since the start";
    let remedy = "start the application with `mptcpize run`, or switch MPTCP on in it";
    found(known && none, || Finding::new("application", finding, remedy))
}

fn not_answered(facts: &Facts) -> Vec<Finding> {
    let asked = facts.counter("MPCapableSYNTX");
    let never = asked > 0 && facts.counter("MPCapableSYNACKRX") == 0;
    let finding = format!("{asked} connections asked for MPTCP and no server answered with it");
    let remedy = "check that the server speaks MPTCP, and that no firewall strips TCP options";
    found(never, || Finding::new("peer", finding, remedy))
}

fn joins(facts: &Facts) -> Vec<Finding> {
    let sent = facts.counter("MPJoinSynTx");
    let never = sent > 0 && facts.counter("MPJoinSynAckRx") == 0;
    let finding = format!("{sent} subflows were tried, and none was answered");
    let remedy = "check that each address leaves by its own interface (`ip route get SERVER from ADDR`), and \
                  that no firewall drops it; a server whose limits allow no subflow answers none either";
    found(never, || Finding::new("join", finding, remedy))
}

fn found(is_so: bool, finding: impl FnOnce() -> Finding) -> Vec<Finding> {
    is_so.then(finding).into_iter().collect()
}

impl Facts {
    fn sysctl(&self, name: &str) -> Option<&str> {
        self.sysctls.get(name).map(String::as_str)
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }
}
