//! Tests of the screen: what is drawn at several sizes, and what keys do to it.
mod fixture;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::core::uplink::{Class, Unused, Uplink};
use crate::view::paths::Paths;
use fixture::{many, status};

/// The lines of the screen.
fn draw(top: &mut Top, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| top.draw(frame)).expect("draws");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect()
}

fn heard(status: Status) -> Top {
    let mut top = Top::default();
    top.hear(Ok(status));
    top
}

fn press(top: &mut Top, key: KeyCode) -> ControlFlow<()> {
    top.press(KeyEvent::new(key, KeyModifiers::NONE))
}

fn press_all(top: &mut Top, keys: &str) {
    keys.chars().for_each(|key| assert!(press(top, KeyCode::Char(key)).is_continue(), "{key} leaves"));
}

/// The peers in the order in which they are listed.
fn peers(screen: &[String]) -> Vec<&str> {
    let peer = |line: &'_ String| line.starts_with("203.0.113.") || line.starts_with("[2001:");
    let lines = screen.iter().filter(|line| peer(line));
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

/// The line under the cursor.
fn cursor(top: &Top, screen: &[String]) -> String {
    let titles = screen.iter().position(|line| line.contains("connection") && line.contains("out"));
    screen[titles.expect("there is a list") + 1 + top.cursor.line - top.first].clone()
}

const AT_80: &str = "\
mptcp-pm 0.1.0, profile heavy, as wanted                 by rate, rates over 10s
uplink    provider    state           out bit/s  in bit/s RTT/min ms retr. paths
wlan0     -           used               9.60 M     240 k  21.5/19.8  0.1%     2
  rate ≤ 9.60 Mbit/s ▁▂▃▄▅▆█ ▁▂▃▄▅▆█ ▁▂▃   RTT ≤ 21.5 ms      ██████ ███████ ███
wwan0     Example Mo… backup, metered    2.56 M    88.0 k  85.0/80.0  0.1%     2
  rate ≤ 2.56 Mbit/s ▅▆█ ▁▂▃▄▅▆█ ▁▂▃▄▅▆█   RTT ≤ 85.0 ms      ██ ███████ ███████
2 connections              opener out bit/s  in bit/s  RTT ms   bytes state
203.0.113.9:443            us        12.0 M     320 k    21.5  34.6 M
  wlan0 192.0.2.7:40000              12.0 M     320 k    21.5  34.6 M carrying
  wwan0 198.51.100.7:50000                -         -       -  34.6 M backup
[2001:db8:9::2]:40000      peer       160 k    8.00 k    85.0  2.43 k
  wlan0 192.0.2.7:40000               160 k    8.00 k    85.0  34.6 M carrying
  wwan0 198.51.100.7:50000                -         -       -  34.6 M backup
";

const AT_40: &str = "\
heavy, as wanted            by rate, 10s
uplink  state           out     in    ms
wlan0   used         9.60 M  240 k  21.5
wwan0   backup, met… 2.56 M 88.0 k  85.0
3 connections           out     in    ms
203.0.113.1:443      8.00 M 8.00 k  10.0
  wlan0 carrying     8.00 M 8.00 k  10.0
  wwan0 backup            -      -     -
203.0.113.2:443      4.00 M 8.00 k  20.0
q leave  ? keys  ↑↓ move  ⏎ detail";

#[test]
fn eighty_columns_hold_it_all() {
    let screen = draw(&mut heard(status()), 80, 24);
    assert_eq!(screen[..13].join("\n") + "\n", AT_80);
    assert!(screen[13..23].iter().all(String::is_empty), "{screen:#?}");
    let keys = "q leave  ? keys  ↑↓ move  ⏎ detail  r rate  t RTT  b bytes  p peer  R reverse";
    assert_eq!(screen[23], keys);
}

#[test]
fn the_least_screen_holds_the_most_important() {
    assert_eq!(draw(&mut heard(many(3)), 40, 10).join("\n"), AT_40);
}

#[test]
fn a_larger_screen_holds_more() {
    let mut status = many(12);
    status.connections.listed[0].remote =
        "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().expect("parses");
    let screen = draw(&mut heard(status), 120, 40);
    assert!(screen[4].contains(" Example Mobile  "), "{screen:#?}");
    assert!(screen[7].starts_with("[2001:db8:1111:2222:3333:4444:5555:6666]:65535 "), "{screen:#?}");
    assert_eq!(
        screen[3].chars().filter(|letter| "▁▂▃▄▅▆▇█".contains(*letter)).count(),
        34 + 33,
        "{screen:#?}"
    );
    assert_eq!(peers(&screen).len(), 11);
    assert!(screen[39].ends_with("PgUp PgDn page"));
}

#[test]
fn a_resized_screen_is_drawn_anew_and_one_too_small_says_so() {
    let mut top = heard(status());
    let before = draw(&mut top, 80, 24);
    assert_eq!(draw(&mut top, 39, 10)[0], "39x10 is too small: make it 40x10");
    assert_eq!(draw(&mut top, 80, 9)[0], "80x9 is too small: make it 40x10");
    draw(&mut top, 1, 1);
    assert_eq!(draw(&mut top, 80, 24), before);
}

#[test]
fn every_order_and_its_reverse() {
    let mut status = many(4);
    let idle = |figures: &mut Option<crate::view::figures::Figures>, seconds| {
        figures.as_mut().expect("has figures").idle_seconds = seconds;
    };
    for (connection, seconds) in
        status.connections.listed.iter_mut().zip([Some(5.0), None, Some(9.0), Some(0.0)])
    {
        idle(&mut connection.figures, seconds);
    }
    let mut top = heard(status);
    let mut order = |keys: &str| {
        press_all(&mut top, keys);
        let screen = draw(&mut top, 80, 40);
        let title = screen[0].split("wanted").last().and_then(|end| end.split(',').next()).map(str::trim);
        let peers = peers(&screen).into_iter().map(|peer| peer["203.0.113.".len()..].replace(":443", ""));
        format!("{}: {}", title.unwrap_or_default(), peers.collect::<Vec<_>>().join(" "))
    };
    let cases = [
        ("", "by rate: 1 2 3 4"),
        ("R", "by rate reversed: 4 3 2 1"),
        ("t", "by RTT: 4 3 2 1"),
        ("R", "by RTT reversed: 1 2 3 4"),
        ("b", "by bytes: 4 3 2 1"),
        // What is not known is last, and first only where it is alone.
        ("i", "by idle: 3 1 4 2"),
        ("R", "by idle reversed: 4 1 3 2"),
        ("p", "by peer: 1 2 3 4"),
        ("R", "by peer reversed: 4 3 2 1"),
    ];
    for (keys, expected) in cases {
        assert_eq!(order(keys), expected);
    }
}

#[test]
fn rates_are_over_the_window_that_is_asked_for() {
    let mut top = heard(status());
    let windows =
        [("", "10s", "12.0 M"), ("w", "1m", "6.00 M"), ("w", "10m", "1.20 M"), ("w", "1s", "24.0 M")];
    for (keys, window, rate) in windows {
        press_all(&mut top, keys);
        let screen = draw(&mut top, 80, 24);
        assert!(screen[0].ends_with(&format!("over {window}")), "{screen:#?}");
        assert!(screen[7].contains(&format!(" {rate} ")), "{screen:#?}");
    }
}

#[test]
fn the_cursor_moves_and_the_list_with_it() {
    let mut top = heard(many(20));
    let mut at = |key| {
        assert!(press(&mut top, key).is_continue());
        let screen = draw(&mut top, 80, 24);
        cursor(&top, &screen).split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    let (subflow, other) = ("wlan0 192.0.2.7:40000", "wwan0 198.51.100.7:50000");
    assert_eq!(at(KeyCode::Up), "203.0.113.1:443 us");
    assert_eq!(at(KeyCode::Down), subflow);
    assert_eq!(at(KeyCode::Char('j')), other);
    assert_eq!(at(KeyCode::Char('k')), subflow);
    // 16 lines, of which one stays: from line 1 to line 16.
    assert_eq!(at(KeyCode::PageDown), subflow);
    assert_eq!(at(KeyCode::Up), "203.0.113.6:443 peer");
    assert_eq!(at(KeyCode::End), other);
    assert_eq!(at(KeyCode::Down), other);
    assert_eq!(at(KeyCode::PageUp), other);
    assert_eq!(at(KeyCode::Home), "203.0.113.1:443 us");
}

#[test]
fn the_cursor_stays_with_its_connection() {
    let mut top = heard(many(9));
    draw(&mut top, 80, 24);
    (0..4).for_each(|_| assert!(press(&mut top, KeyCode::Down).is_continue()));
    let token = top.cursor.token;
    assert_eq!((token, top.cursor.within), (Some(2), 1));
    press_all(&mut top, "R");
    draw(&mut top, 80, 24);
    assert_eq!((top.cursor.token, top.cursor.within, top.cursor.line), (token, 1, 22));
    top.hear(Ok(many(1)));
    assert_eq!((top.cursor.token, top.cursor.line), (Some(1), 2));
    // At the top it is the place that counts: whoever is fastest.
    assert!(press(&mut top, KeyCode::Home).is_continue());
    top.hear(Ok(many(3)));
    assert_eq!((top.cursor.token, top.cursor.line), (Some(3), 0));
}

#[test]
fn one_connection_unfolds_and_folds() {
    let mut top = heard(status());
    let folded = draw(&mut top, 80, 50);
    assert!(press(&mut top, KeyCode::Enter).is_continue());
    let screen = draw(&mut top, 80, 50);
    assert_eq!(screen[10], "    0x00000001 192.0.2.7:40000 > 203.0.113.9:443, opened by us, 1.20 kB out,");
    let lines = [
        "    1s: 24.0 Mbit/s out, 640 kbit/s in, RTT p50 21.5, p95 43.0, p99 - ms",
        "        1.20 kB Payload bytes retransmitted.",
        "        21.5 ms The smoothed round-trip time.",
    ];
    lines.iter().for_each(|line| assert!(screen.iter().any(|seen| seen == line), "{line}: {screen:#?}"));
    for metric in crate::view::figures::METRICS {
        assert!(screen.iter().any(|line| line.ends_with(metric.help)), "{}: {screen:#?}", metric.name);
    }
    // From within its detail, too.
    (0..5).for_each(|_| assert!(press(&mut top, KeyCode::Down).is_continue()));
    press_all(&mut top, " ");
    let cursor = top.cursor.line;
    assert!(press(&mut top, KeyCode::Home).is_continue());
    assert_eq!((draw(&mut top, 80, 50), cursor), (folded, 2));
}

#[test]
fn the_page_of_keys_comes_goes_and_scrolls() {
    let mut top = heard(status());
    let before = draw(&mut top, 40, 10);
    press_all(&mut top, "?");
    let screen = draw(&mut top, 40, 10);
    assert_eq!(screen[1], "q         leave; so do Esc and Ctrl-C");
    let mut seen = screen.join("\n");
    for _ in 0..6 {
        assert!(press(&mut top, KeyCode::PageDown).is_continue());
        seen += &draw(&mut top, 40, 10).join("\n");
    }
    keys::KEYS
        .iter()
        .for_each(|entry| assert!(seen.contains(&format!("\n{:<10}", entry.name)), "{}", entry.name));
    assert!(seen.contains("dash: rates need eBPF."), "{seen}");
    press_all(&mut top, "?");
    assert_eq!(draw(&mut top, 40, 10), before);
}

#[test]
fn three_keys_leave_from_everywhere() {
    for keys in ["", "?"] {
        let mut top = heard(status());
        press_all(&mut top, keys);
        let chord = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(press(&mut top, KeyCode::Char('q')).is_break());
        assert!(press(&mut top, KeyCode::Esc).is_break());
        assert!(top.press(chord).is_break());
    }
}

#[test]
fn a_daemon_that_is_gone_is_told_with_its_remedy_until_it_is_back() {
    let mut top = Top::default();
    assert_eq!(draw(&mut top, 80, 24)[1], "waiting for the daemon's answer");
    let gone = "no mptcp-pm daemon at /run/mptcp-pm/control: start it with `mptcp-pm run` or `systemctl start mptcp-pm`";
    top.hear(Err(gone.into()));
    assert!(draw(&mut top, 80, 24)[2].ends_with("`systemctl start mptcp-pm`"));
    top.hear(Ok(status()));
    let before = draw(&mut top, 80, 24);
    top.hear(Err(gone.into()));
    for (width, height) in [(80, 24), (40, 10)] {
        let screen = draw(&mut top, width, height).join(" ");
        assert!(screen.contains(gone) && screen.contains("wwan0"), "{screen}");
    }
    top.hear(Ok(status()));
    assert_eq!(draw(&mut top, 80, 24), before);
}

#[test]
fn what_is_not_well_is_told() {
    let mut status = status();
    status.ebpf[0].absent = Some("no cgroup2".into());
    status.report.uplinks[1].unused = Some(Unused { reason: "has no carrier".into(), lost: true });
    status.paths = Paths { lost: Losses { subflows: 3, ..Losses::default() }, ..Paths::default() };
    status.connections.listed.iter_mut().for_each(|connection| {
        connection.figures = None;
        connection.subflows.iter_mut().for_each(|subflow| subflow.figures = None);
    });
    let screen = draw(&mut heard(status), 80, 24);
    assert_eq!(screen[1], "no rates, for lack of eBPF: no cgroup2");
    assert_eq!(screen[2], "figures lack 3 subflows, and the last moments of 0");
    let rest = [
        "wlan0     -           used                    -         -        -/-     -     2",
        "",
        "wwan0     Example Mo… no carrier              -         -        -/-     -     2",
        "",
        "2 connections              opener out bit/s  in bit/s  RTT ms   bytes state",
        // The kernel tells round-trip times without eBPF.
        "203.0.113.9:443            us             -         -    21.5  34.6 M",
    ];
    assert_eq!(screen[4..10], rest);
}

#[test]
fn figures_of_another_provider_are_another_uplink() {
    let mut status = status();
    status.paths.uplinks[1].provider = Some("Former".into());
    let screen = draw(&mut heard(status), 80, 24);
    assert!(screen[4].starts_with("wwan0     Example Mo… backup, metered         - "), "{screen:#?}");
    assert!(screen[6].starts_with("wwan0     Former      -                  2.56 M "), "{screen:#?}");
}

#[test]
fn uplinks_leave_room_for_connections() {
    let mut status = many(3);
    let uplink = status.report.uplinks[0].clone();
    let named = |number| Uplink { name: format!("eth{number}"), ..uplink.clone() };
    status.report.uplinks = (0..30).map(named).collect();
    status.paths.uplinks.truncate(1);
    // One that is gone, and interfaces that are no uplinks.
    status.paths.uplinks[0].name = "gone0".into();
    let bridge = Uplink { class: Class::Internal, name: "br0".into(), ..uplink };
    status.report.uplinks.push(bridge);
    let screen = draw(&mut heard(status), 80, 24);
    assert!(screen[2].starts_with("eth0 ") && screen[10].starts_with("eth8 "), "{screen:#?}");
    assert_eq!(screen[11], "and 22 more");
    assert!(screen[12].starts_with("3 connections"), "{screen:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is pressed and heard on screens of whatever size: no panic, and the cursor is to be seen.
    #[test]
    fn anything_may_happen(steps in prop::collection::vec((0..18_usize, 1..130_u16, 1..50_u16, 0..6_u32), 1..40)) {
        let keys = [KeyCode::Up, KeyCode::Down, KeyCode::PageUp, KeyCode::PageDown, KeyCode::Home, KeyCode::End];
        let mut top = Top::default();
        for (action, width, height, count) in steps {
            match action {
                0..6 => drop(press(&mut top, keys[action])),
                6..15 => drop(press(&mut top, KeyCode::Char(" rtbpiRw?".chars().nth(action - 6).expect("is there")))),
                15 => top.hear(Err("gone: bring it back".into())),
                _ => top.hear(Ok(many(count))),
            }
            let screen = draw(&mut top, width, height);
            let lines = top.lines().len();
            if top.help.is_none() && top.status.is_some() && width >= 40 && height >= 10 {
                prop_assert!(top.cursor.line < lines.max(1));
                let row = top.cursor.line - top.first;
                prop_assert!(row < usize::from(top.room.height.max(1)), "{screen:#?}");
            }
        }
    }
}
