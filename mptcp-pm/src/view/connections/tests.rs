//! What is measured belongs to what sock_diag lists.
use mptcp_common::path_stats::Sample;

use super::*;
use crate::core::world::Family;
use crate::netlink::diag_wire::{MptcpInfo, Socket, SubflowInfo};
use crate::stats::Stats;

const TOKEN: u32 = 0x1234;

fn socket(port: u16) -> Socket {
    Socket {
        family: Family::V4,
        state: State::Established,
        local: SocketAddr::new([192, 0, 2, 7].into(), port),
        remote: SocketAddr::new([203, 0, 113, 9].into(), 443),
        ifindex: None,
        cookie: 0,
        retransmits: 0,
        receive_queue: 0,
        send_queue: 0,
        uid: 0,
        inode: 0,
    }
}

fn seen() -> diag::Connection {
    let subflow = |port| diag::Subflow {
        socket: socket(port),
        info: SubflowInfo::default(),
        tcp: None,
        congestion: None,
    };
    let info = MptcpInfo { token: TOKEN, ..MptcpInfo::default() };
    diag::Connection { socket: socket(40_000), info, subflows: vec![subflow(40_000), subflow(40_001)] }
}

fn sample(port: u16, received: u64) -> Sample {
    let mut sample = Sample::default();
    sample.kept.cookie = port.into();
    sample.kept.token = TOKEN;
    sample.kept.family = 2;
    sample.kept.local[..4].copy_from_slice(&[192, 0, 2, 7]);
    sample.kept.remote[..4].copy_from_slice(&[203, 0, 113, 9]);
    (sample.kept.local_port, sample.kept.remote_port) = (port, 443);
    sample.live.bytes_received = received;
    sample
}

fn listed(stats: &Stats) -> Connection {
    let figures = &stats.connections();
    let surroundings = Surroundings {
        uplinks: &[],
        endpoints: &[],
        addresses: Vec::new(),
        figures,
        served: BTreeMap::new(),
    };
    Connections::of(&[seen()], &surroundings).listed.remove(0)
}

#[test]
fn connections_and_subflows_have_their_figures() {
    let mut stats = Stats::new(0);
    stats.opened(&sample(40_000, 5));
    stats.opened(&sample(40_001, 70));
    let connection = listed(&stats);
    let received = |figures: &Option<Figures>| figures.as_ref().map(|figures| figures.received_bytes);
    assert_eq!(received(&connection.figures), Some(75));
    let subflows: Vec<_> = connection.subflows.iter().map(|subflow| received(&subflow.figures)).collect();
    assert_eq!(subflows, [Some(5), Some(70)]);
}

#[test]
fn without_a_program_there_are_none() {
    let connection = listed(&Stats::new(0));
    assert_eq!((connection.figures, &connection.subflows[0].figures), (None, &None));
}
