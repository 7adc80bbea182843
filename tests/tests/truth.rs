//! The figures of `path_stats`, at both ends of a transfer over two paths, against what the emulated links counted.
//!
//! The links count whole IP packets, TCP counts payload. What a sender's figures make of the packets on the wire:
//!
//! ```text
//! bytes = bytes_sent + data_segments_out * (IP + TCP + timestamps + DSS with mapping)
//!                    + (segments_out - data_segments_out) * (IP + TCP + timestamps + DSS without)
//! ```
//!
//! with 20 (IPv4) or 40 bytes (IPv6), 20, and 12. The data sequence signal (RFC 8684 section 3.3) of Linux maps with 14
//! bytes and acknowledges with 4, or with 8 as soon as the sender has received data itself, behind a head of 4 bytes;
//! options are filled up to a multiple of 4. Handshake and end of a connection have other options, in a handful of
//! packets. A receiver counts segments that came twice, but not their payload: as many as the sender retransmitted
//! beyond what was lost.
//!
//! What the kernel retransmitted is what the link dropped, and what it believed to be dropped: the receiver reports a
//! segment that came twice (DSACK, RFC 2883), which the kernel counts.

mod common;

use anyhow::{Context, Result, ensure};
use common::{PATHS, Path, TIMEOUT, first_address, undisturbed};
use mptcp_common::path_stats::{Live, Sample};
use mptcp_pm::view::paths::Losses;
use std::sync::Arc;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::kernel;
use tests::observer::{Observer, addresses};
use tests::queue::{Counters, Tally};
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Direction, Family, Host, Lab, LinkCounters, Scenario};

/// A full packet of every lab.
const MTU: u64 = 1500;
/// How long each transfer sends.
const LENGTH: Duration = Duration::from_millis(1600);
/// How long it goes on between two looks at its rate, if all links are busy.
const WINDOW: Duration = Duration::from_millis(120);

#[test]
fn figures_are_those_of_two_providers() -> Result<()> {
    figures_are_those_of_the_links("two-providers")
}

#[test]
fn figures_are_those_of_two_lines() -> Result<()> {
    figures_are_those_of_the_links("two-lines-one-provider")
}

#[test]
fn figures_are_those_of_two_transits() -> Result<()> {
    figures_are_those_of_the_links("one-line-two-addresses")
}

#[test]
fn figures_are_those_of_a_site() -> Result<()> {
    figures_are_those_of_the_links("site")
}

/// Both ways, with CUBIC over one family and BBR over the other.
fn figures_are_those_of_the_links(scenario: &str) -> Result<()> {
    for (congestion, family) in [("cubic", Family::V4), ("bbr", Family::V6)] {
        let mut network = Network::start(scenario, family)?;
        for direction in [Direction::Up, Direction::Down] {
            let what = || format!("{scenario}, {congestion}, {family:?}, {direction:?}");
            let measure = || {
                let transfer = network.transfer(direction, congestion)?;
                transfer.check_counts()?;
                Ok(transfer)
            };
            let transfer = undisturbed(measure, |transfer| transfer.check_times().is_ok());
            transfer.and_then(|transfer| transfer.check_times()).with_context(what)?;
        }
    }
    Ok(())
}

#[test]
fn what_is_retransmitted_is_what_the_links_lost_at_random() -> Result<()> {
    for (scenario, congestion, family, direction, loss) in [
        // CUBIC sends little over links that lose much: more of them are lost so that there are enough.
        ("two-providers", "cubic", Family::V6, Direction::Up, 0.03),
        ("two-lines-one-provider", "bbr", Family::V4, Direction::Down, 0.01),
        ("one-line-two-addresses", "bbr", Family::V4, Direction::Up, 0.01),
        ("site", "cubic", Family::V6, Direction::Down, 0.03),
    ] {
        let mut network = Network::start(scenario, family)?;
        for path in &network.paths {
            network.lab.link(path.link).set_one(direction, |settings| settings.loss = loss);
        }
        let what = || format!("{scenario}, {congestion}, {family:?}, {direction:?}");
        // After a pause of the machine all that was under way comes twice, and not all of it is reported.
        let measure = || network.transfer(direction, congestion);
        let transfer = undisturbed(measure, |transfer| transfer.check_retransmissions().is_ok())?;
        transfer.check_retransmissions().with_context(what)?;
        let lost: u64 = transfer.ways.iter().map(|way| way.there.lost.packets).sum();
        ensure!(lost >= 20, "{}: only {lost} packets were lost", what());
    }
    Ok(())
}

/// A scenario with a daemon at the host with two paths, and the programs at both ends.
struct Network {
    // The order is that of Drop.
    ends: [Observer; 2],
    _daemon: Daemon,
    lab: Lab,
    paths: Vec<&'static Path>,
    family: Family,
}

/// A transfer that has ended.
struct Transfer {
    ways: Vec<Way>,
    /// Segments that the sender's host retransmitted for nothing.
    spurious: u64,
    family: Family,
    /// Whether the sender had received data before.
    answers: bool,
}

/// What went through one direction of a link meanwhile.
struct Passed {
    entered: Tally,
    left: Tally,
    lost: Tally,
}

/// One of its paths.
struct Way {
    path: &'static Path,
    /// Bits per second that the link was set to.
    rate: f64,
    sender: Live,
    receiver: Live,
    /// What its link counted of the data.
    there: Passed,
    /// And of the acknowledgements.
    back: Passed,
    /// In each window of time: payload and segments that have arrived per second, and the sender's delivery rate.
    arrived: Vec<[f64; 2]>,
    delivery: Vec<f64>,
}

impl Network {
    fn start(scenario: &str, family: Family) -> Result<Self> {
        let mut described = Scenario::load(scenario)?;
        let paths: Vec<_> = PATHS.iter().filter(|path| path.scenario == scenario).collect();
        let profile = if scenario == "site" {
            // What is lost here is not lost by the path's own link.
            let access = described.link("access")?;
            (access.up.queue_kb, access.down.queue_kb) = (10_000.0, 10_000.0);
            "site"
        } else {
            "heavy"
        };
        let lab = Lab::start(&described, family)?;
        let [near, far] = [paths[0].host, paths[0].peer].map(|name| lab.host(name));
        lab.host("client").ip("mptcp limits set subflows 2 add_addr_accepted 2")?;
        let ends = [Observer::attach(near)?, Observer::attach(far)?];
        let daemon = Daemon::start(near, &format!("profile = \"{profile}\"\n"))?;
        Ok(Self { ends, _daemon: daemon, lab, paths, family })
    }

    /// The end that sends, then the end that receives.
    fn hosts(&self, direction: Direction) -> [&Arc<Host>; 2] {
        let path = self.paths[0];
        in_order([path.host, path.peer], direction).map(|name| self.lab.host(name))
    }

    fn transfer(&mut self, direction: Direction, congestion: &str) -> Result<Transfer> {
        let [sender, receiver] = self.hosts(direction);
        let job = if sender.name() == "client" { Job::BulkUp } else { Job::BulkDown };
        let spurious = kernel::tcp_counter(sender, "TCPDSACKRecvSegs")?;
        let before = self.counters();
        let server = Server::start(self.lab.host("server"), Protocol::Mptcp)?;
        let to = first_address(self.lab.host("server"), self.family)?;
        let options =
            Options { congestion: Some(congestion.to_owned()), to: Some(to), ..Options::duration(LENGTH) };
        let transfer = traffic::start(self.lab.host("client"), &server, job, options)?;
        let looks = self.watch(&transfer, direction)?;
        ensure!(transfer.join()?.intact(), "other content arrived than was sent");
        drop(server);
        let spurious = kernel::tcp_counter(sender, "TCPDSACKRecvSegs")? - spurious;
        ensure!(receiver.name() != sender.name() && self.lab.missed()? == 0, "the lab did not keep up");
        let [sent, received] = in_order([0, 1], direction).map(|end| {
            let last = self.ends[end].await_end(self.paths.len())?;
            ensure!(self.ends[end].stats().losses()? == Losses::default(), "something was not told");
            anyhow::Ok(last)
        });
        let (sent, received) = (sent?, received?);
        let mut ways = Vec::new();
        for ((path, before), after) in self.paths.iter().zip(before).zip(self.counters()) {
            let [there, back] =
                in_order([Passed::of(before.up, after.up), Passed::of(before.down, after.down)], direction);
            let mut way = Way {
                path,
                rate: self.lab.link(path.link).settings(direction).rate as f64,
                sender: only(&sent, path, self.family)?.live,
                receiver: only(&received, path, self.family)?.live,
                there,
                back,
                arrived: Vec::new(),
                delivery: Vec::new(),
            };
            way.rates(&looks, self.family);
            ways.push(way);
        }
        Ok(Transfer { ways, spurious, family: self.family, answers: job == Job::BulkDown })
    }

    fn counters(&self) -> Vec<LinkCounters> {
        self.paths.iter().map(|path| self.lab.link(path.link).counters()).collect()
    }

    /// Reads the living subflows of the sender and of the receiver again and again.
    fn watch(&self, transfer: &traffic::Transfer, direction: Direction) -> Result<Vec<[Vec<Sample>; 2]>> {
        let rate = |path: &&Path| self.lab.link(path.link).settings(direction).rate;
        let bits: u64 = self.paths.iter().map(rate).sum();
        let step = (bits as f64 / 8.0 * WINDOW.as_secs_f64()) as u64;
        let [sender, receiver] = in_order([0, 1], direction);
        let mut looks = Vec::new();
        let mut mark = step;
        // It fails at the end of the transfer, whose own result tells more.
        while transfer.wait_for(mark, TIMEOUT).is_ok() {
            looks.push([self.ends[sender].living()?, self.ends[receiver].living()?]);
            mark = transfer.bytes() + step;
        }
        Ok(looks)
    }
}

impl Passed {
    fn of(before: Counters, after: Counters) -> Self {
        Self {
            entered: after.received - before.received,
            left: after.delivered - before.delivered,
            lost: after.dropped() - before.dropped(),
        }
    }
}

impl Way {
    fn rates(&mut self, looks: &[[Vec<Sample>; 2]], family: Family) {
        for pair in looks.windows(2) {
            let [sender, before, after] = [&pair[1][0], &pair[0][1], &pair[1][1]]
                .map(|living| only(living, self.path, family).map(|sample| sample.live));
            let (Ok(sender), Ok(before), Ok(after)) = (sender, before, after) else { continue };
            let seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
            let bytes = (after.bytes_received - before.bytes_received) as f64;
            let segments = f64::from(after.data_segments_in - before.data_segments_in);
            self.arrived.push([bytes / seconds, segments / seconds]);
            // The kernel counts segments, each as one of `mss` bytes; on the wire it fills a packet.
            self.delivery.push(sender.delivery_rate as f64 / f64::from(sender.mss) * MTU as f64 * 8.0);
        }
    }
}

impl Transfer {
    /// What is counted needs no quiet machine.
    fn check_counts(&self) -> Result<()> {
        let sizes = self.sizes();
        for Way { path, sender, receiver, there, back, .. } in &self.ways {
            let twice = u64::from(sender.segments_retransmitted).saturating_sub(there.lost.packets);
            for (what, ours, link) in [
                ("packets sent", u64::from(sender.segments_out), there.entered.packets),
                ("packets received", u64::from(receiver.segments_in), there.left.packets),
                ("acknowledgements sent", u64::from(receiver.segments_out), back.entered.packets),
                ("acknowledgements received", u64::from(sender.segments_in), back.left.packets),
                ("bytes sent", bytes_out(sender, sizes), there.entered.bytes),
                ("bytes received", bytes_in(receiver, sizes) + twice * (MTU - sizes[0]), there.left.bytes),
            ] {
                let ratio = ours as f64 / link as f64;
                ensure!(near(ratio, 1.0, 0.01), "{}: {what}: {ours}, the link counted {link}", path.link);
            }
            ensure!(sender.bytes_sent >= sender.bytes_acked + sender.bytes_retransmitted, "{sender:?}");
            ensure!(sender.bytes_acked >= receiver.bytes_received, "{sender:?} {receiver:?}");
        }
        Ok(())
    }

    fn check_retransmissions(&self) -> Result<()> {
        for Way { path, sender, receiver, there, .. } in &self.ways {
            let retransmitted = u64::from(sender.segments_retransmitted);
            let lost = there.lost.packets;
            let explained = lost + self.spurious;
            // Of few, one that had no data or that was the last of all may be a tenth.
            let slack = |of: u64| (of / 10).max(3);
            let told = format!("{}: {retransmitted} segments retransmitted, {lost} lost", path.link);
            ensure!(retransmitted + slack(lost) >= lost, "{told}");
            ensure!(retransmitted <= explained + slack(explained), "{told}, {} spurious", self.spurious);
            ensure!(receiver.segments_retransmitted <= 2, "{}: who only received", path.link);
        }
        Ok(())
    }

    /// What is measured, a machine that is busy with other things can disturb: an acknowledgement that is late makes the
    /// sender retransmit, too.
    fn check_times(&self) -> Result<()> {
        self.check_retransmissions()?;
        let [data, _] = self.sizes();
        for way in &self.ways {
            let name = way.path.link;
            for (end, live) in [("sender", &way.sender), ("receiver", &way.receiver)] {
                let measured = Duration::from_micros(u64::from(live.rtt_min_us));
                let off = measured.abs_diff(way.path.round_trip);
                ensure!(off <= Duration::from_millis(1), "{name}: the {end}'s least RTT is {measured:?}");
            }
            let on_the_wire = |[bytes, segments]: &[f64; 2]| (bytes + segments * data as f64) * 8.0;
            let arrived = median(way.arrived.iter().map(on_the_wire).collect()).context("no time to look")?;
            let delivery = median(way.delivery.clone()).context("no time to look")?;
            for (what, rate) in [("arrived", arrived), ("delivery", delivery)] {
                ensure!(near(rate, way.rate, 0.05), "{name}: {what} {rate:.0} bit/s, not {:.0}", way.rate);
            }
        }
        Ok(())
    }

    /// The bytes of a packet beside its payload, with data and without; see the top of this file.
    fn sizes(&self) -> [u64; 2] {
        let basic = if self.family == Family::V4 { 20 } else { 40 } + 20 + 12;
        let signal = 4 + if self.answers { 8 } else { 4 };
        // Only who has received data acknowledges it with 64 bits; who acknowledges only, has.
        [basic + (signal + 14_u64).next_multiple_of(4), basic + 4 + 8]
    }
}

fn bytes_out(live: &Live, [data, bare]: [u64; 2]) -> u64 {
    let (all, with_data) = (u64::from(live.segments_out), u64::from(live.data_segments_out));
    live.bytes_sent + with_data * data + (all - with_data) * bare
}

fn bytes_in(live: &Live, [data, bare]: [u64; 2]) -> u64 {
    let (all, with_data) = (u64::from(live.segments_in), u64::from(live.data_segments_in));
    live.bytes_received + with_data * data + (all - with_data) * bare
}

/// The only subflow on a path, seen from either end.
fn only(samples: &[Sample], path: &Path, family: Family) -> Result<Sample> {
    let address = path.address(family)?;
    let mut found = samples.iter().filter(|sample| addresses(sample).contains(&address));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(*one),
        (one, _) => {
            anyhow::bail!("{} subflow over {}", if one.is_some() { "more than one" } else { "no" }, path.link)
        }
    }
}

/// What concerns the host with two paths, and its peer: the sender's first.
fn in_order<T>([host, peer]: [T; 2], direction: Direction) -> [T; 2] {
    if direction == Direction::Up { [host, peer] } else { [peer, host] }
}

fn near(value: f64, right: f64, share: f64) -> bool {
    (value / right - 1.0).abs() <= share
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
