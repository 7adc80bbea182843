//! The demonstration: one machine, two accesses, one of them cut while programs use it; told for people who have never
//! heard of Multipath TCP. Every sentence that claims something is checked: what is not so ends the story as an error.

mod act;
mod remains;

use crate::daemon::{Daemon, await_that};
use crate::traffic::{Job, Protocol, Server};
use crate::{Direction, Family, Lab, Scenario};
use act::{Act, Stage};
use anyhow::{Context, Result, ensure};
use remains::Remains;
use std::io::Write;
use std::time::Duration;

const CONFIG: &str = r#"
profile = "heavy"
manager = "daemon"

[[uplink]]
match = { name = "wifi0" }
provider = "City Cable"

[[uplink]]
match = { name = "lte0" }
provider = "Mountain Mobile"
"#;

/// The accesses: the lab's link, the interface, what people call it, and who provides it.
const ACCESSES: [(&str, &str, &str, &str); 2] =
    [("wifi", "wifi0", "Wi-Fi", "City Cable"), ("lte", "lte0", "mobile", "Mountain Mobile")];

/// How long each part of a transfer lasts. When Wi-Fi returns about three seconds after its loss, the kernel may just be
/// giving up on the gateway's hardware address: mptcp-pm lets MPTCP try again, but plain TCP over IPv6, to which it is
/// compared, was seen to stay away. These times stay clear of that.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// With both accesses.
    pub before: Duration,
    /// Without Wi-Fi.
    pub away: Duration,
    /// With both again.
    pub after: Duration,
}

impl Pace {
    /// For people to watch.
    pub const FULL: Self = Self::new(5000, 5000, 7000);
    /// As short as the figures still mean something.
    pub const QUICK: Self = Self::new(1500, 1500, 3000);

    const fn new(before: u64, away: u64, after: u64) -> Self {
        let ms = Duration::from_millis;
        Self { before: ms(before), away: ms(away), after: ms(after) }
    }
}

/// Tells the story, with addresses of this family.
///
/// # Errors
/// When something that it claims is not so.
pub fn run(family: Family, pace: Pace, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{INTRODUCTION}")?;
    let lab = Lab::start(&Scenario::load("two-providers")?, family)?;
    describe(&lab, out)?;
    plain(&lab, pace, out)?;
    let before = Remains::of(lab.host("client"))?;
    let daemon = start(&lab, out)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    for (number, job, name) in [(3, Job::BulkUp, "upload"), (4, Job::BulkDown, "download")] {
        writeln!(out, "{number}. The same with mptcp-pm: {}", the_same(name))?;
        let act = Act::play(&Stage { lab: &lab, server: &server, job, pace })?;
        act.tell(out)?;
        act.check(pace).with_context(|| format!("log of mptcp-pm:\n{}", daemon.log()))?;
        writeln!(out)?;
    }
    daemon.stop()?;
    let client = lab.host("client");
    await_that("what there was before", || Remains::of(client), |after| *after == before)?;
    writeln!(out, "{}", end(&before))?;
    Ok(())
}

const INTRODUCTION: &str = "\
mptcp-pm: two ways onto the Internet, used as one
=================================================
A computer has Wi-Fi and a mobile modem, from two providers. Programs use one
of the two at a time; when it fails in the middle of a transfer, the transfer
hangs. Linux can spread one connection over both (Multipath TCP, MPTCP), if
somebody tells it which ways there are, and at once when one comes or goes.
That is what mptcp-pm does. Watch: a transfer, and Wi-Fi fails in the middle.

All of this happens inside networks that exist only in this computer's memory;
its own network is not touched. Rates are in Mbit/s.
";

fn describe(lab: &Lab, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "1. The computer's two accesses")?;
    let addresses = lab.host("client").addresses()?;
    for (link, interface, name, provider) in ACCESSES {
        let up = lab.link(link).settings(Direction::Up);
        let round_trip = up.delay + lab.link(link).settings(Direction::Down).delay;
        let global = addresses.iter().filter(|a| a.interface == interface);
        let global = global.filter(|a| !a.net.addr().to_string().starts_with("fe80"));
        let global: Vec<String> = global.map(|a| a.net.addr().to_string()).collect();
        writeln!(
            out,
            "   {name:<7} {provider:<16} {:<17} {:>3} Mbit/s, round trip {} ms",
            global.join(" "),
            up.rate / 1_000_000,
            round_trip.as_millis(),
        )?;
    }
    Ok(writeln!(out)?)
}

fn plain(lab: &Lab, pace: Pace, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "2. Without mptcp-pm: an upload over Wi-Fi, which fails and comes back")?;
    let server = Server::start(lab.host("server"), Protocol::Tcp)?;
    let act = Act::play(&Stage { lab, server: &server, job: Job::BulkUp, pace })?;
    act.tell(out)?;
    ensure!(act.report.intact(), "the plain transfer arrived altered");
    ensure!(
        act.report.stall.length >= pace.away,
        "plain TCP did not wait for Wi-Fi: what is shown is not so"
    );
    writeln!(out, "   It could only wait; many programs give up before. (What Wi-Fi delivered while")?;
    writeln!(out, "   it was away was under way when it failed.)\n")?;
    Ok(())
}

fn start(lab: &Lab, out: &mut dyn Write) -> Result<Daemon> {
    let daemon = Daemon::start(lab.host("client"), CONFIG)?;
    let status = daemon.status()?;
    let endpoints = status["endpoints"].as_array().map_or(0, Vec::len);
    ensure!(endpoints == ACCESSES.len(), "mptcp-pm made {endpoints} endpoints of two accesses:\n{status:#}");
    writeln!(out, "   Now mptcp-pm starts. It has found both accesses and told the kernel.\n")?;
    Ok(daemon)
}

fn the_same(name: &str) -> String {
    format!("{} {name}, cut and joined the same way", if name == "upload" { "an" } else { "a" })
}

fn end(before: &Remains) -> String {
    format!(
        "5. mptcp-pm has ended, and left nothing behind: MPTCP endpoints, limits,\n   \
         routes and rules are the {} lines that they were before it started.",
        before.len()
    )
}
