//! Single cases, each with what it stands for.
use std::net::SocketAddr;

use super::*;
use crate::view::paths::Losses;

#[test]
fn counters_count_the_living_and_the_ended() {
    let mut stats = stats();
    let [a, b] = [subflow(1, 1, START), subflow(2, 1, START)];
    stats.opened(&a);
    stats.opened(&b);
    let a = later(&a, START + SECOND, 1000, 50, &[]);
    let b = later(&b, START + SECOND, 300, 0, &[]);
    read_all(&mut stats, START + SECOND, &[a, b]);
    stats.closed(&later(&b, START + 2 * SECOND, 20, 0, &[]));
    let found = figures(&stats, "wlan0");
    assert_eq!((found.acknowledged_bytes, found.received_bytes), (1320, 50));
    assert_eq!((found.opened_subflows, found.closed_subflows, found.subflows), (2, 1, 1));
}

#[test]
fn what_is_told_twice_counts_once() {
    let mut stats = stats();
    let sample = later(&subflow(1, 1, START), START + 5, 1000, 0, &[]);
    for _ in 0..2 {
        stats.opened(&sample);
        read_all(&mut stats, START + 10, &[sample]);
    }
    for _ in 0..2 {
        stats.closed(&later(&sample, START + 20, 1, 0, &[]));
    }
    let found = figures(&stats, "wlan0");
    assert_eq!((found.acknowledged_bytes, found.opened_subflows, found.closed_subflows), (1001, 1, 1));
}

#[test]
fn old_news_from_the_ring_buffer_do_not_undo_a_reading() {
    let mut stats = stats();
    let sample = subflow(1, 1, START);
    let read = later(&sample, START + SECOND, 1000, 0, &[]);
    read_all(&mut stats, START + SECOND, &[read]);
    stats.opened(&sample);
    read_all(&mut stats, START + 2 * SECOND, &[later(&read, START + 2 * SECOND, 1, 0, &[])]);
    let found = figures(&stats, "wlan0");
    assert_eq!((found.acknowledged_bytes, found.opened_subflows), (1001, 1));
}

#[test]
fn one_that_nobody_knew_counts_when_it_ends() {
    let mut stats = stats();
    stats.closed(&later(&subflow(1, 2, START), START + 5, 1000, 0, &[100]));
    read_all(&mut stats, START + SECOND, &[]);
    let found = figures(&stats, "wwan0");
    assert_eq!((found.acknowledged_bytes, found.opened_subflows, found.closed_subflows), (1000, 1, 1));
    assert_eq!(found.windows.second.acknowledged_bytes_per_second, Some(1000.0));
    assert!(found.windows.second.rtt_p50_seconds.is_some());
}

#[test]
fn a_late_reading_does_not_bring_back_one_that_has_ended() {
    let mut stats = stats();
    let sample = later(&subflow(1, 1, START), START + 5, 1000, 0, &[]);
    stats.begin();
    stats.closed(&sample);
    stats.read(&sample);
    stats.end(START + SECOND);
    // One that lingers in the kernel is not read anew either.
    for second in 2..6 {
        read_all(&mut stats, START + second * SECOND, &[sample]);
    }
    let found = figures(&stats, "wlan0");
    assert_eq!((found.acknowledged_bytes, found.opened_subflows, found.subflows), (1000, 1, 0));
    read_all(&mut stats, START + 6 * SECOND, &[]);
    assert!(stats.ended.is_empty() && stats.living.is_empty());
}

#[test]
fn a_socket_that_is_connected_again_is_another_subflow() {
    let mut stats = stats();
    stats.closed(&later(&subflow(1, 1, START), START + 5, 1000, 0, &[]));
    stats.opened(&subflow(1, 1, START + 10));
    assert_eq!((figures(&stats, "wlan0").opened_subflows, figures(&stats, "wlan0").subflows), (2, 1));
}

#[test]
fn a_byte_that_one_reading_leaves_out_counts_once() {
    let mut stats = stats();
    let whole = later(&subflow(1, 1, START), START + SECOND, 0, 100, &[]);
    let mut short = later(&whole, START + 2 * SECOND, 0, 0, &[]);
    short.live.bytes_received -= 1;
    for (second, sample) in (1..).zip([whole, short, later(&whole, START + 3 * SECOND, 0, 0, &[])]) {
        read_all(&mut stats, START + second * SECOND, &[sample]);
        assert_eq!(figures(&stats, "wlan0").received_bytes, 100, "after {second} s");
    }
}

#[test]
fn an_end_that_nobody_told_is_noticed() {
    let mut stats = stats();
    let sample = later(&subflow(1, 1, START), START + 5, 1000, 0, &[]);
    stats.opened(&sample);
    read_all(&mut stats, START + SECOND, &[sample]);
    read_all(&mut stats, START + 2 * SECOND, &[]);
    assert_eq!(figures(&stats, "wlan0").subflows, 1, "the ring buffer may have the news");
    read_all(&mut stats, START + 3 * SECOND, &[]);
    let found = figures(&stats, "wlan0");
    assert_eq!((found.subflows, found.closed_subflows, found.acknowledged_bytes), (0, 1, 1000));
}

#[test]
fn what_was_before_the_program_is_no_news() {
    let mut stats = stats();
    let mut old = later(&subflow(1, 1, 0), START, 1_000_000, 0, &[100; 50]);
    old.kept.adopted = 1;
    read_all(&mut stats, START + SECOND, &[old]);
    let new = later(&old, START + 2 * SECOND, 500, 0, &[]);
    read_all(&mut stats, START + 2 * SECOND, &[new]);
    let found = figures(&stats, "wlan0");
    assert_eq!(found.acknowledged_bytes, 1_000_500);
    assert_eq!(found.windows.second.acknowledged_bytes_per_second, Some(500.0));
    assert_eq!(found.windows.ten_minutes.rtt_p50_seconds, None);
}

#[test]
fn a_subflow_stays_where_it_was_first_seen() {
    let mut stats = stats();
    let sample = subflow(1, 2, START);
    stats.opened(&sample);
    stats.uplinks(&[uplink(1, "wlan0", Some("ACME"))], &[]);
    read_all(&mut stats, START + SECOND, &[later(&sample, START + SECOND, 70, 0, &[])]);
    assert_eq!(figures(&stats, "wwan0").acknowledged_bytes, 70);
    // What begins now, from the address that has gone, belongs nowhere.
    stats.opened(&later(&subflow(3, 2, START), START + SECOND, 5, 0, &[]));
    assert_eq!((figures(&stats, "wwan0").opened_subflows, figures(&stats, "other").opened_subflows), (1, 1));
}

#[test]
fn the_bound_interface_comes_before_the_address() {
    let mut stats = stats();
    let bound = Sample {
        kept: mptcp_common::path_stats::Kept { ifindex: 2, ..subflow(1, 1, START).kept },
        ..subflow(1, 1, START)
    };
    stats.opened(&bound);
    let mut free = subflow(2, 1, START);
    free.kept.ifindex = 0;
    stats.opened(&free);
    assert_eq!((figures(&stats, "wwan0").opened_subflows, figures(&stats, "wlan0").opened_subflows), (1, 1));
}

#[test]
fn addresses_that_the_daemon_did_not_choose_are_known() {
    let mut stats = Stats::new(START);
    let others = [("wlan0".to_owned(), Some("2001:db8::7".parse().expect("parses")))];
    stats.uplinks(&[uplink(1, "wlan0", None), unused(Unused::deliberate("is a VPN"))], &others);
    let mut sample = subflow(1, 0, START);
    sample.kept.family = 10;
    sample.kept.local = "2001:db8::7".parse::<std::net::Ipv6Addr>().expect("parses").octets();
    stats.opened(&sample);
    // An IPv4 address that an IPv6 socket uses.
    let mut mapped = subflow(2, 0, START);
    mapped.kept.family = 10;
    mapped.kept.local = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
    stats.opened(&mapped);
    stats.opened(&subflow(3, 9, START));
    assert_eq!((figures(&stats, "wlan0").subflows, figures(&stats, "other").subflows), (2, 1));
}

#[test]
fn another_provider_gets_another_account() {
    let mut stats = stats();
    stats.opened(&later(&subflow(1, 1, START), START + 1, 10, 0, &[]));
    stats.opened(&later(&subflow(2, 2, START), START + 1, 100, 0, &[]));
    stats.uplinks(&[uplink(1, "wlan0", Some("Other Ltd"))], &[]);
    stats.opened(&later(&subflow(3, 1, START), START + 1, 1000, 0, &[]));
    let paths = stats.paths();
    let names: Vec<_> =
        paths.uplinks.iter().map(|uplink| (&*uplink.name, uplink.provider.as_deref())).collect();
    assert_eq!(names, [("wlan0", Some("ACME")), ("wlan0", Some("Other Ltd")), ("wwan0", Some("ACME"))]);
    let bytes: Vec<_> = paths
        .providers
        .iter()
        .map(|provider| (&*provider.name, provider.figures.acknowledged_bytes))
        .collect();
    assert_eq!(bytes, [("ACME", 110), ("Other Ltd", 1000)]);
}

#[test]
fn rates_are_over_real_time_after_a_sleep() {
    let mut stats = stats();
    let sample = subflow(1, 1, START);
    read_all(&mut stats, START + SECOND, &[sample]);
    let woken = later(&sample, START + 3600 * SECOND, 3599, 0, &[]);
    read_all(&mut stats, START + 3600 * SECOND, &[woken]);
    let second = figures(&stats, "wlan0").windows.second;
    assert_eq!((second.seconds, second.acknowledged_bytes_per_second), (3599.0, Some(1.0)));
    read_all(&mut stats, START + 3601 * SECOND, &[later(&woken, START + 3601 * SECOND, 5000, 0, &[])]);
    for (name, _, window) in figures(&stats, "wlan0").windows.each() {
        assert_eq!((window.seconds, window.acknowledged_bytes_per_second), (1.0, Some(5000.0)), "{name}");
    }
}

#[test]
fn it_is_told_whether_something_flows() {
    let mut stats = stats();
    assert!(!stats.is_flowing());
    let sample = subflow(1, 1, START);
    stats.opened(&sample);
    assert!(stats.is_flowing());
    read_all(&mut stats, START + SECOND, &[sample]);
    assert!(stats.is_flowing(), "it began within the last second");
    read_all(&mut stats, START + 2 * SECOND, &[later(&sample, START + 2 * SECOND, 0, 0, &[])]);
    assert!(!stats.is_flowing());
    let sample = later(&sample, START + 3 * SECOND, 0, 1, &[]);
    read_all(&mut stats, START + 3 * SECOND, &[sample]);
    // Somebody looks a moment later.
    read_all(&mut stats, START + 3 * SECOND + 1000, &[sample]);
    assert!(stats.is_flowing());
    read_all(&mut stats, START + 4 * SECOND, &[sample]);
    assert!(!stats.is_flowing());
    stats.closed(&later(&sample, START + 4 * SECOND, 7, 0, &[]));
    assert!(stats.is_flowing());
}

#[test]
fn gauges_are_of_the_living() {
    let mut stats = stats();
    let mut a = later(&subflow(1, 1, START), START + 1, 1, 0, &[10_000; 99]);
    a.live =
        mptcp_common::path_stats::Live { mss: 1000, cwnd: 10, in_flight: 4, delivery_rate: 500, ..a.live };
    a.kept.delivery_rate_max = 900;
    let mut b = later(&subflow(2, 1, START), START + 1, 0, 0, &[]);
    b.live = mptcp_common::path_stats::Live { mss: 500, cwnd: 2, rtt_us: 20_000, rtt_min_us: 5000, ..b.live };
    b.live.backup_by_peer = 1;
    b.live.received_ns = START + 500;
    read_all(&mut stats, START + SECOND, &[a, b]);
    let found = figures(&stats, "wlan0");
    assert_eq!((found.subflows, found.backup_subflows), (2, 1));
    // Ninety-nine samples of late weigh a hundred, none weigh one.
    assert_eq!(found.rtt_seconds, Some((100.0 * 10_000.0 + 20_000.0) / 101.0 / 1e6));
    assert_eq!(found.rtt_min_seconds, Some(0.005));
    assert_eq!((found.congestion_window_bytes, found.in_flight_bytes), (Some(11_000.0), Some(4000.0)));
    assert_eq!(found.delivery_rate_bytes_per_second, Some(500.0));
    assert_eq!(found.delivery_rate_max_bytes_per_second, Some(900.0));
    assert_eq!(found.idle_seconds, Some(1.0 - 500e-9));
    stats.closed(&a);
    stats.closed(&b);
    let found = figures(&stats, "wlan0");
    assert_eq!((found.subflows, found.rtt_seconds, found.congestion_window_bytes), (0, None, None));
    assert_eq!(found.delivery_rate_max_bytes_per_second, Some(900.0));
    assert_eq!(found.idle_seconds, Some(1.0 - 500e-9));
}

#[test]
fn connections_and_subflows_are_found() {
    let mut stats = stats();
    let [a, b, c] = [(2, 1), (3, 2), (4, 1)].map(|(cookie, at)| subflow(cookie, at, START));
    let [a, b, c] = [(a, 10), (b, 200), (c, 3000)].map(|(s, bytes)| later(&s, START + SECOND, bytes, 0, &[]));
    read_all(&mut stats, START + SECOND, &[a, b, c]);
    let lookup = stats.connections();
    let connection = lookup.connection(0x1001).expect("it is known");
    assert_eq!((connection.subflows, connection.acknowledged_bytes), (2, 210));
    assert_eq!(connection.windows.second.acknowledged_bytes_per_second, Some(210.0));
    let end = |text: &str| -> SocketAddr { text.parse().expect("parses") };
    let found = lookup.subflow(0x1001, end("192.0.2.2:3"), end("198.51.100.1:443")).expect("it is known");
    assert_eq!((found.subflows, found.acknowledged_bytes), (1, 200));
    let mapped = lookup.subflow(0x1001, end("[::ffff:192.0.2.2]:3"), end("[::ffff:198.51.100.1]:443"));
    assert_eq!(mapped, Some(found));
    assert_eq!(lookup.subflow(0x1001, end("192.0.2.2:9"), end("198.51.100.1:443")), None);
    assert_eq!(lookup.connection(1), None);
}

#[test]
fn an_uplink_remembers_its_last_two_minutes() {
    let mut stats = stats();
    let mut sample = subflow(1, 1, START);
    for second in 1..=200 {
        sample = later(&sample, START + second * SECOND, second, 0, &[20_000]);
        read_all(&mut stats, START + second * SECOND, &[sample]);
    }
    // A second look within the same second is no moment.
    read_all(&mut stats, START + 200 * SECOND + 1000, &[sample]);
    let history = stats.paths().uplinks.remove(0).history;
    assert_eq!(history.len(), 120);
    let rates: Vec<u64> = history.iter().map(|moment| moment.acknowledged_bytes_per_second as u64).collect();
    assert_eq!(rates, (81..=200).collect::<Vec<_>>());
    assert_eq!(history[0].rtt_seconds, Some(0.02));
}

#[test]
fn what_the_program_left_out_is_shown() {
    let mut stats = stats();
    let lost = Losses { closings: 3, ..Losses::default() };
    stats.lost(lost);
    assert_eq!(stats.paths().lost, lost);
}

#[test]
fn what_is_being_closed_counts_but_does_not_live() {
    let (mut stats, opened) = (stats(), subflow(1, 1, START));
    stats.opened(&opened);
    let mut closing = later(&opened, START + SECOND, 500, 0, &[20_000]);
    closing.live.state = 4;
    read_all(&mut stats, START + SECOND, &[closing]);
    let figures = figures(&stats, "wlan0");
    assert_eq!((figures.subflows, figures.opened_subflows, figures.closed_subflows), (0, 1, 0));
    assert_eq!((figures.acknowledged_bytes, figures.rtt_seconds), (500, None));
}
