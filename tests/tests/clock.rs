//! Jumps of the wall clock, as a machine that wakes up sees them: the daemon reads everything anew, and connections go on.
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::daemon::{Daemon, WITHOUT_PROGRAMS};
use tests::running::{Running, goes_on};
use tests::traffic::{Protocol, Server};
use tests::{Family, Lab, Scenario};

#[test]
#[ignore = "sets the machine's clock, which no namespace covers: run it in a guest by `cargo xtask vm`"]
fn after_a_jump_of_the_clock_everything_is_read_anew() -> Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    ensure!(cmdline.contains("vm.run="), "this would set the machine's clock: run it by `cargo xtask vm`");
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let daemon = Daemon::start_through(lab.host("client"), "profile = \"heavy\"\n", &WITHOUT_PROGRAMS)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    let talk = run.talk()?;
    run.await_endpoints(&["10.1.0.2 subflow dev wifi0", "10.2.0.2 subflow dev lte0"])?;
    for jump in ["+1 day", "-3 days", "+2 seconds"] {
        let before = resyncs(&run);
        set_clock(jump)?;
        run.daemon.await_that("everything read anew", || Ok(resyncs(&run)), |now| *now > before)?;
        run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
        goes_on(&talk).with_context(|| jump.to_owned())?;
    }
    drop(talk);
    run.daemon.stop()
}

/// How often the daemon has read all of routing netlink.
fn resyncs(run: &Running) -> usize {
    run.daemon.log().matches("action=Resync").count()
}

fn set_clock(jump: &str) -> Result<()> {
    let output = Command::new("date").args(["--set", jump]).output().context("run date")?;
    ensure!(output.status.success(), "date: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
