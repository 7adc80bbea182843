//! Scenario 4: responsiveness. One of two ways falls to a quarter of its rate, and comes back: how long a connection takes
//! to follow, beside a Reno flow alone on that way.
use crate::chart::{self, Point};
use crate::controls;
use crate::flows::{Flow, end};
use crate::network::{Way, join, two_ways};
use crate::spread::Spread;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use tests::Lab;
use tests::bench::Report;
use tests::observer::{Observer, addresses};
use tests::traffic::{Protocol, Server};

const WAY: Way = Way { mbit: 20.0, round_trip_ms: 20.0 };
/// What part of its rate the way falls to.
const PART: f64 = 0.25;
/// When it falls, when it comes back, when all ends: seconds.
const TIMES: [f64; 3] = [4.0, 8.0, 14.0];
const EACH: Duration = Duration::from_millis(20);
/// Over how many looks a rate is taken.
const LOOKS: usize = 10;

/// The address by which the client uses the way that changes.
const CHANGING: &str = "10.1.0.2";

pub fn measure(report: &mut Report, times: usize) -> Result<()> {
    let mut peers = [Spread::default(), Spread::default()];
    for _ in 0..times {
        let run = run("reno", false)?;
        peers.iter_mut().zip(adaptations(&run)?).for_each(|(peer, time)| peer.add(time));
    }
    for control in controls() {
        let mut ours = [Spread::default(), Spread::default()];
        for _ in 0..times {
            let run = run(control, true)?;
            ours.iter_mut().zip(adaptations(&run)?).for_each(|(ours, time)| ours.add(time));
            chart::draw(control, &run, &TIMES[..2])?;
        }
        for ((ours, peer), way) in ours.iter().zip(&peers).zip(["down", "up"]) {
            let case = format!("4: {control} follows {way}, RTTs");
            ours.report(report, &case, Some(("one Reno flow", peer.median())));
        }
    }
    Ok(())
}

/// What was seen of each subflow, by its local address.
pub type Run = BTreeMap<String, Vec<Point>>;

fn run(control: &'static str, on_both: bool) -> Result<Run> {
    let lab = two_ways([WAY; 2], true)?;
    if on_both {
        join(&lab)?;
    }
    let observer = Observer::attach(lab.host("client"))?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let begin = Instant::now();
    let upload = Flow::mptcp(control).start(&lab, &server)?;
    let mut run = Run::new();
    for (end, part) in TIMES.into_iter().zip([1.0, PART, 1.0]) {
        set_rate(&lab, part);
        while begin.elapsed().as_secs_f64() < end {
            thread::sleep(EACH);
            look(&observer, begin.elapsed().as_secs_f64(), &mut run)?;
        }
    }
    end(&lab, server, vec![upload])?;
    Ok(run)
}

fn set_rate(lab: &Lab, part: f64) {
    lab.link("wifi").set(|settings| settings.rate = (WAY.mbit * 1e6 * part) as u64);
}

fn look(observer: &Observer, at: f64, run: &mut Run) -> Result<()> {
    for sample in observer.living()? {
        let points = run.entry(addresses(&sample)[0].to_string()).or_default();
        let bytes = sample.live.bytes_acked;
        let since = points.len().checked_sub(LOOKS).and_then(|first| points.get(first));
        let rate = since
            .map_or(0.0, |since: &Point| bytes.saturating_sub(since.bytes) as f64 * 8.0 / (at - since.at));
        points.push(Point { at, window: sample.live.cwnd.into(), rate, bytes });
    }
    Ok(())
}

/// Round-trip times from a change until the window is down to what the way holds with its queue, and until the rate is up
/// to four fifths of what the way has.
fn adaptations(run: &Run) -> Result<[f64; 2]> {
    let points = run.get(CHANGING).context("nothing goes over the way that changes")?;
    let round_trips = |since: f64, holds: &dyn Fn(&Point) -> bool| {
        let found = points.iter().find(|point| point.at > since && holds(point));
        (found.map_or(TIMES[2], |point| point.at) - since) * 1e3 / WAY.round_trip_ms
    };
    // 1500 bytes for each packet; half as much again for the queue.
    let holds = WAY.mbit * 1e6 * PART * WAY.round_trip_ms / 1e3 / 8.0 / 1500.0 * 1.5;
    let down = round_trips(TIMES[0], &|point| point.window <= holds);
    let up = round_trips(TIMES[1], &|point| point.rate >= 0.8 * WAY.mbit * 1e6);
    Ok([down, up])
}
