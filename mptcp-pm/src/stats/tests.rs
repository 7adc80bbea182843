//! The collector: single cases, its memory, and properties over random histories of subflows, events and readings.
mod cases;
mod memory;
mod model;
mod properties;

use std::net::{IpAddr, Ipv4Addr};

use mptcp_common::path_stats::{RttHistogram, Sample};

use super::Stats;
use crate::core::hints::{Connectivity, Sources};
use crate::core::uplink::{Class, FamilyAccess, Unused, Uplink};
use crate::core::world::{Family, Hop, IfIndex};
use crate::view::figures::Figures;

const SECOND: u64 = 1_000_000_000;

/// The daemon starts when the machine is a thousand seconds old.
const START: u64 = 1000 * SECOND;

fn uplink(ifindex: IfIndex, name: &str, provider: Option<&str>) -> Uplink {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, ifindex as u8));
    Uplink {
        ifindex,
        name: name.into(),
        class: Class::Access,
        provider: provider.map(str::to_owned),
        role: None,
        metered: false,
        sources: Sources::default(),
        profile: None,
        radio: false,
        rests: None,
        held: false,
        flags: None,
        families: vec![FamilyAccess {
            family: Family::V4,
            metric: 100,
            hop: Hop { ifindex, gateway: None, onlink: false },
            addresses: vec![address],
            connectivity: Connectivity::Unknown,
            idle: false,
        }],
        unused: None,
    }
}

fn unused(reason: Unused) -> Uplink {
    Uplink { unused: Some(reason), ..uplink(9, "tun0", None) }
}

/// A collector that knows two uplinks, of one provider.
fn stats() -> Stats {
    let mut stats = Stats::new(START);
    stats.uplinks(&[uplink(1, "wlan0", Some("ACME")), uplink(2, "wwan0", Some("ACME"))], &[]);
    stats
}

/// A subflow that has just been established at a time, bound to an interface.
fn subflow(cookie: u64, ifindex: IfIndex, at_ns: u64) -> Sample {
    let mut sample = Sample::default();
    sample.kept.cookie = cookie;
    sample.kept.since_ns = at_ns;
    sample.live.at_ns = at_ns;
    sample.kept.ifindex = ifindex;
    sample.kept.family = 2;
    sample.kept.local[..4].copy_from_slice(&[192, 0, 2, ifindex as u8]);
    sample.kept.remote[..4].copy_from_slice(&[198, 51, 100, 1]);
    sample.kept.local_port = cookie as u16;
    sample.kept.remote_port = 443;
    sample.kept.token = 0x1000 + cookie as u32 / 2;
    sample.live.rtt_min_us = u32::MAX;
    sample
}

/// The same some time later, when data went through and round-trip times were measured.
fn later(before: &Sample, at_ns: u64, acknowledged: u64, received: u64, rtts_us: &[u32]) -> Sample {
    let mut after = *before;
    after.live.at_ns = at_ns;
    after.live.bytes_sent += acknowledged;
    after.live.bytes_acked += acknowledged;
    after.live.bytes_received += received;
    if acknowledged > 0 {
        after.live.delivered_ns = at_ns;
    }
    for rtt in rtts_us {
        after.kept.rtt.buckets[RttHistogram::bucket(*rtt)] += 1;
        after.live.rtt_us = *rtt;
        after.live.rtt_min_us = after.live.rtt_min_us.min(*rtt);
    }
    after
}

fn read_all(stats: &mut Stats, now_ns: u64, samples: &[Sample]) {
    stats.begin();
    samples.iter().for_each(|sample| stats.read(sample));
    stats.end(now_ns);
}

/// The figures of an uplink; those of nothing where it carried nothing.
fn figures(stats: &Stats, name: &str) -> Figures {
    let found = stats.paths().uplinks.into_iter().find(|uplink| uplink.name == name);
    found.map(|uplink| uplink.figures).unwrap_or_default()
}
