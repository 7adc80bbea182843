//! Responsiveness. One of two ways falls to a quarter of its rate, and comes back: how long a connection takes
//! to follow, beside a Reno flow alone on that way.
use crate::chart::{self, Point};
use crate::flows::{Flow, end};
use crate::model::{Connection, Model};
use crate::network::{Way, join, two_ways};
use crate::record::Record;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use tests::Lab;
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

/// What a packet of the model's carries, as the kernel counts it, bytes.
const PAYLOAD: u64 = 1440;

/// The address by which the client uses the way that changes.
const CHANGING: &str = "10.1.0.2";

pub fn measure(controls: &[&'static str], rounds: usize, record: &mut Record) -> Result<()> {
    for round in 0..rounds {
        let peer = adaptations(&run("reno", false)?)?;
        for control in controls {
            let run = run(control, true)?;
            chart::draw(control, &run, &TIMES[..2])?;
            let (ours, formula) = (adaptations(&run)?, modelled(control, round as u64));
            for (index, way) in ["down", "up"].into_iter().enumerate() {
                let case = format!("response: {control} follows {way}, RTTs");
                record.add_beside(case, ours[index], ("one Reno flow", peer[index]));
                if let Some(formula) = &formula {
                    let case = format!("response: {control} follows {way}, RTTs, by its formula");
                    record.add_beside(case, ours[index], ("model", adaptations(formula)?[index]));
                }
            }
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

/// What the formula gives.
fn modelled(control: &'static str, seed: u64) -> Option<Run> {
    let ways = [WAY.settings(true), WAY.settings(true)];
    let mut model = Model::new(&ways, vec![Connection::new(control, &[0, 1])?], seed);
    let mut points = Vec::new();
    for (end, part) in TIMES.into_iter().zip([1.0, PART, 1.0]) {
        model.set(0, Way { mbit: WAY.mbit * part, ..WAY }.settings(true));
        while model.now.as_secs_f64() < end {
            model.run(model.now + EACH);
            let subflow = &model.connections[0].subflows[0];
            note(&mut points, model.now.as_secs_f64(), subflow.window, subflow.arrived * PAYLOAD);
        }
    }
    Some(Run::from([(CHANGING.to_owned(), points)]))
}

fn set_rate(lab: &Lab, part: f64) {
    lab.link("wifi").set(|settings| settings.rate = (WAY.mbit * 1e6 * part) as u64);
}

fn look(observer: &Observer, at: f64, run: &mut Run) -> Result<()> {
    for sample in observer.living()? {
        let points = run.entry(addresses(&sample)[0].to_string()).or_default();
        note(points, at, sample.live.cwnd.into(), sample.live.bytes_acked);
    }
    Ok(())
}

/// Adds what is seen of a subflow, with its rate of late.
fn note(points: &mut Vec<Point>, at: f64, window: f64, bytes: u64) {
    let since = points.len().checked_sub(LOOKS).and_then(|first| points.get(first));
    let rate = |since: &Point| bytes.saturating_sub(since.bytes) as f64 * 8.0 / (at - since.at);
    points.push(Point { at, window, rate: since.map_or(0.0, rate), bytes });
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
