//! One transfer during which Wi-Fi goes and comes back, and what became of it.

use super::{ACCESSES, Pace};
use crate::daemon::await_that;
use crate::traffic::{Job, Options, Protocol, Report, Server, Spoken, Transfer, start};
use crate::{Host, Lab, Outage};
use anyhow::{Result, ensure};
use mptcp_pm::netlink::diag::Diag;
use mptcp_pm::netlink::diag_wire::State;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Where a transfer takes place.
pub struct Stage<'a> {
    pub lab: &'a Lab,
    pub server: &'a Server,
    pub job: Job,
    pub pace: Pace,
}

/// What was seen of a transfer.
pub struct Act {
    pub report: Report,
    protocol: Protocol,
    /// With both accesses, without Wi-Fi, with both again.
    phases: [Phase; 3],
    /// The connection's subflows, before and after, by their local and remote ends.
    subflows: [Vec<(SocketAddr, SocketAddr)>; 2],
    /// From the return of Wi-Fi until it carried content.
    return_took: Duration,
}

/// Rates of a part of the transfer, in Mbit/s.
struct Phase {
    accesses: [f64; 2],
    application: f64,
}

/// A moment of the transfer: since its start, and the bytes that each access had carried.
struct Mark {
    at: Duration,
    bytes: [u64; 2],
}

/// So much is content, not only a handshake.
const CONTENT: u64 = 100_000;

impl Act {
    /// Plays it.
    pub fn play(stage: &Stage) -> Result<Self> {
        let Pace { before, away, after } = stage.pace;
        let client = stage.lab.host("client");
        let options = Options::duration(before + away + after);
        let transfer = start(client, stage.server, stage.job, options)?;
        // The first moments show how TCP begins, not what the accesses carry.
        let begin = stage.mark(&transfer, before / 3);
        let cut = stage.mark(&transfer, before);
        let first = subflows(client, &transfer)?;
        stage.lab.link("wifi").outage(Outage::Down)?;
        let back = stage.mark(&transfer, before + away);
        stage.lab.link("wifi").outage(Outage::None)?;
        await_that("Wi-Fi in use again", || Ok(stage.bytes()[0]), |bytes| *bytes > back.bytes[0] + CONTENT)?;
        let used = stage.mark(&transfer, Duration::ZERO);
        let end = stage.mark(&transfer, before + away + after - after / 10);
        let last = subflows(client, &transfer)?;
        let report = transfer.join()?;
        let phases = [(&begin, &cut), (&cut, &back), (&used, &end)].map(|(from, to)| from.phase(to, &report));
        let protocol = stage.server.protocol();
        Ok(Self { report, protocol, phases, subflows: [first, last], return_took: used.at - back.at })
    }

    /// Tells it in figures.
    pub fn tell(&self, out: &mut dyn Write) -> Result<()> {
        if self.protocol == Protocol::Mptcp {
            writeln!(out, "   The connection's subflows (ways that it takes), as the kernel lists them:")?;
            for (local, remote) in &self.subflows[0] {
                writeln!(out, "     {local} -> {remote}")?;
            }
        }
        let [(_, _, one, _), (_, _, two, _)] = ACCESSES;
        writeln!(out, "   {:<26}{one:>10}{two:>10}{:>22}", "", "the program gets")?;
        for (name, phase) in ["both there", "Wi-Fi away", "Wi-Fi back and in use"].iter().zip(&self.phases) {
            let [one, two] = phase.accesses;
            writeln!(out, "   {name:<26}{one:>10.1}{two:>10.1}{:>22.1}", phase.application)?;
        }
        let report = &self.report;
        writeln!(out, "   longest time without a byte: {}", shown(report.stall.length))?;
        writeln!(out, "   Wi-Fi carried data again {} after its return", shown(self.return_took))?;
        let hash = if report.intact() { "equal" } else { "DIFFERENT" };
        let megabytes = report.bytes as f64 / 1e6;
        writeln!(
            out,
            "   {megabytes:.0} MB; SHA-256 at both ends {hash}: {}...",
            &report.client_sha256[..12]
        )?;
        Ok(())
    }

    /// Fails when MPTCP did not do what the story says.
    pub fn check(&self, pace: Pace) -> Result<()> {
        let report = &self.report;
        ensure!(report.intact(), "what was sent is not what arrived");
        ensure!(report.spoken == Spoken::Mptcp, "the connection spoke {:?}, not MPTCP", report.spoken);
        for (when, subflows) in ["before", "after"].iter().zip(&self.subflows) {
            ensure!(subflows.len() == 2, "{when} the cut there were not two subflows: {subflows:?}");
        }
        let [both, alone, again] = &self.phases;
        ensure!(both.accesses.iter().all(|rate| *rate > 1.0), "one access was not used at first");
        ensure!(alone.application > 1.0, "without Wi-Fi the transfer stood still");
        ensure!(again.accesses.iter().all(|rate| *rate > 1.0), "one access was not used after the return");
        ensure!(report.stall.length < pace.away, "the transfer waited for Wi-Fi: {:?}", report.stall.length);
        Ok(())
    }
}

impl Stage<'_> {
    /// What there is at a moment of the transfer, or now when that has passed.
    fn mark(&self, transfer: &Transfer, at: Duration) -> Mark {
        // The story's own pace: nothing happens that could be waited for.
        thread::sleep(at.saturating_sub(transfer.elapsed()));
        Mark { at: transfer.elapsed(), bytes: self.bytes() }
    }

    /// What each access has carried in the direction of the content.
    fn bytes(&self) -> [u64; 2] {
        ACCESSES.map(|(link, ..)| {
            let counters = self.lab.link(link).counters();
            let way = if self.job == Job::BulkUp { counters.up } else { counters.down };
            way.delivered.bytes
        })
    }
}

impl Mark {
    fn phase(&self, end: &Self, report: &Report) -> Phase {
        let seconds = (end.at - self.at).as_secs_f64();
        let rate = |access: usize| (end.bytes[access] - self.bytes[access]) as f64 * 8e-6 / seconds;
        Phase { accesses: [0, 1].map(rate), application: report.progress.rate(self.at, end.at) / 1e6 }
    }
}

/// The subflows of a transfer's connection; there are others as long as earlier ones linger.
fn subflows(host: &Host, transfer: &Transfer) -> Result<Vec<(SocketAddr, SocketAddr)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = host.run(|| runtime.block_on(async { Diag::open()?.connections().await }))?;
    let ours = found.known.iter().filter(|connection| Some(connection.socket.local) == transfer.local());
    let sockets = ours.flat_map(|connection| &connection.subflows).map(|subflow| &subflow.socket);
    let alive = sockets.filter(|socket| socket.state == State::Established);
    let mut ends: Vec<_> = alive.map(|socket| (socket.local, socket.remote)).collect();
    ends.sort();
    Ok(ends)
}

fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} ms", seconds * 1e3),
    }
}
