//! Uploads side by side, and what each gets.
use anyhow::Result;
use mptcp_pm::bpf::coupled::Coupled;
use std::thread;
use std::time::{Duration, Instant};
use tests::Lab;
use tests::daemon::await_that;
use tests::traffic::{self, Job, Options, Protocol, Server, Transfer};

/// An upload.
#[derive(Clone, Copy)]
pub struct Flow {
    pub protocol: Protocol,
    pub congestion: &'static str,
    /// The client's interface, for one that is to go over that alone.
    pub interface: Option<&'static str>,
}

impl Flow {
    pub const fn mptcp(congestion: &'static str) -> Self {
        Self { protocol: Protocol::Mptcp, congestion, interface: None }
    }

    /// TCP Reno.
    pub const fn tcp(interface: Option<&'static str>) -> Self {
        Self { protocol: Protocol::Tcp, congestion: "reno", interface }
    }

    pub fn start(&self, lab: &Lab, server: &Server) -> Result<Transfer> {
        let options = Options {
            congestion: Some(self.congestion.to_owned()),
            protocol: Some(self.protocol),
            interface: self.interface.map(str::to_owned),
            ..Options::duration(Duration::from_secs(300))
        };
        traffic::start(lab.host("client"), server, Job::BulkUp, options)
    }
}

/// The rate that each gets, bit/s, over a time after another in which they find to each other.
pub fn rates(lab: &Lab, flows: &[Flow], settle: Duration, time: Duration) -> Result<Vec<f64>> {
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let transfers = flows.iter().map(|flow| flow.start(lab, &server)).collect::<Result<Vec<_>>>()?;
    thread::sleep(settle);
    let bytes = || transfers.iter().map(Transfer::bytes).collect::<Vec<_>>();
    let (begin, before) = (Instant::now(), bytes());
    thread::sleep(time);
    let (took, after) = (begin.elapsed().as_secs_f64(), bytes());
    let lost = transfers.iter().filter(|transfer| transfer.is_over()).count();
    anyhow::ensure!(lost == 0, "{lost} of {} transfers have ended", transfers.len());
    end(lab, server, transfers)?;
    Ok(before.iter().zip(after).map(|(before, after)| (after - before) as f64 * 8.0 / took).collect())
}

/// Ends them, and waits until no kernel knows anything of them any more: what they left would be in the way of the next
/// ones.
pub fn end(lab: &Lab, server: Server, transfers: Vec<Transfer>) -> Result<()> {
    transfers.into_iter().for_each(Transfer::abort);
    // It keeps its ends open until then.
    drop(server);
    let sockets = |host: &str| {
        let output = lab.host(host).command("ss").args(["-tnaHO", "exclude", "time-wait"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>())
    };
    for host in ["client", "server"] {
        await_that(&format!("no socket left at the {host}"), || sockets(host), Vec::is_empty)?;
    }
    Ok(())
}

pub fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}

/// The kernel closes when it likes to: a connection that lost its last subflow waits for another for
/// `net.mptcp.close_timeout`, which is a minute.
pub fn await_end_of_all(coupled: &Coupled) -> Result<()> {
    const TURNS: usize = 3;
    let left = || Ok((coupled.subflows()?, coupled.connections()?.len()));
    let none = || await_that("no subflow and no connection left in the maps", left, |left| *left == (0, 0));
    let early = (1..TURNS).any(|_| none().is_ok());
    if early { Ok(()) } else { none().map(drop) }
}
