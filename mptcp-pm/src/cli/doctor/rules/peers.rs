//! What the counters and the present connections tell of applications and peers.
use std::collections::BTreeMap;

use super::{Facts, Finding, Rule, found};

pub(super) const RULES: &[Rule] = &[not_asked_for, not_answered, joins, fallbacks, reasons];

/// How many peers are named.
const NAMED: usize = 3;

fn not_asked_for(facts: &Facts) -> Vec<Finding> {
    let none = facts.counter("MPCapableSYNTX") == 0 && facts.counter("MPCapableSYNRX") == 0;
    let known = facts.counters.contains_key("MPCapableSYNTX");
    let finding = "no connection has asked for MPTCP since the start";
    let remedy = "give it an [[application]] table with mptcp = true, or start it with `mptcp-pm exec`";
    found(known && none, || Finding::note("application", finding, remedy))
}

fn not_answered(facts: &Facts) -> Vec<Finding> {
    let asked = facts.counter("MPCapableSYNTX");
    let never = asked > 0 && facts.counter("MPCapableSYNACKRX") == 0;
    let finding = format!("{asked} SYNs asked for MPTCP, and no server answered with it");
    let remedy = "check that the server speaks MPTCP, and that no firewall strips TCP options";
    found(never, || Finding::problem("peer", finding, remedy))
}

fn joins(facts: &Facts) -> Vec<Finding> {
    let sent = facts.counter("MPJoinSynTx");
    let never = sent > 0 && facts.counter("MPJoinSynAckRx") == 0;
    let finding = format!("{sent} subflows were tried, and none was answered");
    let remedy = "check that each address leaves by its own interface (`ip route get SERVER from ADDR`), and \
                  that no firewall drops it; a server whose limits allow no subflow answers none either";
    found(never, || Finding::problem("join", finding, remedy))
}

/// Peers without MPTCP are common, and nothing is wrong with this machine. Each kernel has more counters for how a
/// connection has come to be TCP.
fn fallbacks(facts: &Facts) -> Vec<Finding> {
    let of_fallbacks = |name: &str| name.contains("Fallback") && name != "FallbackFailed";
    let times: u64 =
        facts.counters.iter().filter(|(name, _)| of_fallbacks(name)).map(|(_, times)| times).sum();
    let answered = facts.counter("MPCapableSYNACKRX") > 0 || facts.counter("MPCapableSYNRX") > 0;
    let finding = format!(
        "{times} connections fell back to TCP, because the peer or a box on the way has no MPTCP{}",
        peers(facts)
    );
    let remedy = "nothing, unless they should: then check the server, and firewalls that strip TCP options";
    found(answered && times > 0, || Finding::note("fallback", finding, remedy))
}

/// Some of the peers that there is TCP to at present.
fn peers(facts: &Facts) -> String {
    let mut peers: Vec<String> = facts
        .connections
        .listed
        .iter()
        .filter(|connection| connection.fallback)
        .map(|connection| connection.remote.to_string())
        .collect();
    peers.dedup();
    let more = if peers.len() > NAMED { ", …" } else { "" };
    peers.truncate(NAMED);
    if peers.is_empty() { String::new() } else { format!("; at present to {}{more}", peers.join(", ")) }
}

/// Why the connections that there are use fewer uplinks than there are.
fn reasons(facts: &Facts) -> Vec<Finding> {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in facts
        .connections
        .listed
        .iter()
        .filter(|seen| !seen.fallback)
        .filter_map(|seen| seen.reason.as_deref())
    {
        *counted.entry(reason).or_default() += 1;
    }
    let note = |(reason, count): (&str, usize)| {
        let noun = if count == 1 { "connection is" } else { "connections are" };
        let remedy = "`mptcp-pm status` shows each connection with its subflows";
        Finding::note("connections", format!("{count} {noun} {reason}"), remedy)
    };
    counted.into_iter().map(note).collect()
}
