//! What an MPTCP connection with a coupled congestion control takes, beside one TCP flow and one that is not coupled.
//!
//! Two ways with the same rate, delay and random loss stand for one bottleneck: the loss says how fast a flow may be, as
//! it does on a congested link, and nothing depends on how two flows happen to meet in a queue. A TCP Reno flow is the
//! measure: a coupled connection with a subflow on each way should take what it takes, an uncoupled one twice that. Flows
//! follow each other on an otherwise idle network, all in each round.

use anyhow::{Context, Result};
use mptcp_pm::bpf::coupled::{Algorithm, Coupled};
use std::time::Duration;
use tests::bench::Report;
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Direction, Family, Lab, Scenario};

/// Unless an argument says otherwise.
const ROUNDS: usize = 10;
const LENGTH: Duration = Duration::from_secs(20);
/// About 27 packets of window by the square root formula, far below what the rate allows.
const LOSS: f64 = 0.002;
const ONE_WAY: Duration = Duration::from_millis(15);
const RATE: u64 = 200_000_000;

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let rounds = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let rounds = rounds.map_or(Ok(ROUNDS), |rounds| rounds.parse()).context("read the number of rounds")?;
    tests::keep_time();
    let _coupled = Coupled::register().context("register the congestion controls")?;
    let lab = network()?;
    let names = Algorithm::ALL.map(Algorithm::name);
    let controls: Vec<_> = ["reno", "cubic"].into_iter().chain(names).collect();
    let mut ratios = vec![Vec::new(); controls.len()];
    for _ in 0..rounds {
        let tcp = goodput(&lab, Protocol::Tcp, "reno")?;
        for (control, ratios) in controls.iter().zip(&mut ratios) {
            ratios.push(goodput(&lab, Protocol::Mptcp, control)? / tcp);
        }
    }
    let mut report = Report::new("coupled", "goodput for each of TCP Reno's");
    for (control, ratios) in controls.iter().zip(ratios) {
        report.row(format!("{control}, mean of {rounds}"), ratios.iter().sum::<f64>() / rounds as f64, None);
        report.row(format!("{control}, least"), ratios.iter().copied().fold(f64::INFINITY, f64::min), None);
        report.row(format!("{control}, greatest"), ratios.iter().copied().fold(0.0, f64::max), None);
    }
    report.finish()
}

fn network() -> Result<Lab> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    lab.host("client").ip("mptcp endpoint add 10.2.0.2 dev lte0 subflow")?;
    for host in ["client", "server"] {
        // Or each flow would begin with what the one before has learned.
        lab.host(host).set_sysctl("net.ipv4.tcp_no_metrics_save", "1")?;
    }
    for link in ["wifi", "lte"] {
        lab.link(link).set(|settings| {
            settings.rate = RATE;
            settings.delay = ONE_WAY;
            settings.queue = 4 << 20;
        });
        lab.link(link).set_one(Direction::Up, |settings| settings.loss = LOSS);
    }
    Ok(lab)
}

/// Of one upload, bit/s.
fn goodput(lab: &Lab, protocol: Protocol, congestion: &str) -> Result<f64> {
    let server = Server::start(lab.host("server"), protocol)?;
    let options = Options { congestion: Some(congestion.to_owned()), ..Options::duration(LENGTH) };
    let report = traffic::start(lab.host("client"), &server, Job::BulkUp, options)?.join()?;
    anyhow::ensure!(report.intact(), "damaged with {congestion}: {report:?}");
    Ok(report.rate())
}
