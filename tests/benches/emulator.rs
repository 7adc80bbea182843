//! What the link emulator can carry, and how far its delays are from those of its model.

use anyhow::{Context, Result, ensure};
use std::thread;
use std::time::{Duration, Instant};
use tests::bench::{Report, milliseconds, percentile};
use tests::queue::Queue;
use tests::traffic::udp::{Flow, Sink, overhead};
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Direction, Family, Host, Lab, Scenario};

const FAST: u64 = 500_000_000;
const PAYLOAD: usize = 1472;
const DURATION: Duration = Duration::from_secs(5);
const SERVER: &str = "10.9.0.2";

fn main() -> Result<()> {
    let mut report = Report::new("emulator", "see each case");
    for (case, rate) in [
        ("one 500 Mbit/s link, UDP, delivered Mbit/s", udp_rate(&["wifi"])?),
        ("two 500 Mbit/s links at once, UDP, Mbit/s", udp_rate(&["wifi", "lte"])?),
        ("one 500 Mbit/s link, TCP upload, Mbit/s", tcp_rate(Job::BulkUp)?),
        ("one 500 Mbit/s link, TCP download, Mbit/s", tcp_rate(Job::BulkDown)?),
    ] {
        report.row(case, rate, None);
    }
    let errors = delay_errors(50e6)?;
    for (name, share) in [("median", 0.5), ("99th", 0.99), ("99.9th", 0.999), ("worst", 1.0)] {
        let error = percentile(&errors, share).context("nothing arrived")?;
        report.row(format!("delay error at 50 Mbit/s, {name}, ms"), milliseconds(error), None);
    }
    report.finish()
}

fn fast_lab() -> Result<Lab> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    for link in lab.links() {
        link.set(|settings| {
            settings.rate = FAST;
            settings.delay = Duration::from_millis(5);
            settings.queue = 2_000_000;
        });
    }
    Ok(lab)
}

/// Offers a little more than the rate to each link at once; what arrives, in Mbit/s per link, the slowest one.
fn udp_rate(links: &[&str]) -> Result<f64> {
    let lab = fast_lab()?;
    let rates: Result<Vec<f64>> = thread::scope(|scope| {
        let tasks: Vec<_> = links.iter().map(|link| scope.spawn(|| udp_flow(&lab, link))).collect();
        tasks.into_iter().map(|task| task.join().expect("the flow ends")).collect()
    });
    ensure!(lab.missed()? == 0, "the emulator has missed packets");
    Ok(rates?.into_iter().fold(f64::INFINITY, f64::min))
}

fn udp_flow(lab: &Lab, link: &str) -> Result<f64> {
    let sink = Sink::start(lab.host("server"), false)?;
    flow(lab.host("client"), &format!("{link}0"), &sink)?.pace(FAST as f64 * 1.05, PAYLOAD, DURATION)?;
    let arrivals = sink.arrivals();
    let [first, .., last] = arrivals.as_slice() else { anyhow::bail!("nothing arrived over {link}") };
    let bits = ((arrivals.len() - 1) * (PAYLOAD + overhead(SERVER.parse()?)) * 8) as f64;
    Ok(bits / (last.at - first.at).as_secs_f64() / 1e6)
}

fn tcp_rate(job: Job) -> Result<f64> {
    let lab = fast_lab()?;
    let server = Server::start(lab.host("server"), Protocol::Tcp)?;
    let report = traffic::start(lab.host("client"), &server, job, Options::duration(DURATION))?.join()?;
    // The first second is that of slow start.
    Ok(report.progress.rate(Duration::from_secs(1), DURATION) / 1e6)
}

/// The model is fed with the times at which datagrams were sent; the error is how far the arrival of each, at
/// an application, is from the model's.
fn delay_errors(rate: f64) -> Result<Vec<Duration>> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    // A full link would remember each moment in which the machine held up the sender, as a queue of that length.
    lab.link("wifi").set(|settings| settings.rate = (rate * 2.0) as u64);
    let sink = Sink::start(lab.host("server"), false)?;
    tests::keep_time();
    let mut flow = flow(lab.host("client"), "wifi0", &sink)?;
    // Neighbour discovery is not the link's delay.
    flow.send(PAYLOAD)?;
    sink.wait_for(1, DURATION)?;
    let start = Instant::now();
    let sent = flow.pace(rate, PAYLOAD, DURATION)?;
    sink.wait_for(sent.len() + 1, DURATION)?;
    let mut model = Queue::new(lab.link("wifi").settings(Direction::Up), 0);
    let size = PAYLOAD + overhead(SERVER.parse()?);
    let mut expected = Vec::new();
    for at in sent {
        let now = at - start;
        while let Some(due) = model.deadline().filter(|due| *due <= now) {
            expected.extend(model.pop(due).map(|_| due));
        }
        model.offer(now, size, ());
    }
    while let Some(due) = model.deadline() {
        expected.extend(model.pop(due).map(|_| due));
    }
    let arrivals = sink.arrivals();
    let pairs = arrivals[1..].iter().zip(expected);
    Ok(pairs.map(|(arrival, due)| (arrival.at - start).abs_diff(due)).collect())
}

fn flow(client: &Host, interface: &str, sink: &Sink) -> Result<Flow> {
    Flow::open(client, Some(interface), None, (SERVER.parse::<std::net::IpAddr>()?, sink.port()).into())
}
