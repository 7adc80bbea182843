//! What subflows hold beyond what is under way, with the daemon and after it.
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::daemon::{PATIENCE, await_that};
use tests::kernel::{self, Allowance};
use tests::running::Running;
use tests::traffic::{Job, Options, start};
use tests::{Family, Outage};

/// 20 Mbit/s, 80 ms.
const SLOW: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2));
/// 50 ms of what BBR takes the path's rate for, and what the scheduler hands out at a time.
const MOST: u64 = 300_000;

/// Bits per second: the window of its route in a round trip. BBR begins with 2.9 times its window, which of ten segments would be
/// 4.1 Mbit/s.
const PACE: u64 = 6_400_000;

/// Segments: the first flight of the path that stood by, with the window that the daemon's route gives it
/// (`tcp_init_cwnd`), and what the scheduler hands out before it hears what has arrived.
const MOST_REPEATED: u64 = 100;

#[test]
fn a_slow_subflow_holds_little_until_the_daemon_ends() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, "profile = \"heavy\"\n")?;
    let bbr = Options { congestion: Some("bbr".to_owned()), ..Options::bytes(1 << 30) };
    let upload = start(run.client(), &run.server, Job::BulkUp, bbr)?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    // It has found its rate by then.
    upload.wait_for(24 << 20, PATIENCE)?;
    let end = upload.bytes() + (16 << 20);
    let mut most = 0;
    while upload.bytes() < end {
        most = most.max(kernel::unsent(run.client(), SLOW)?.context("it has gone")?);
    }
    ensure!((1..=MOST).contains(&most), "it holds up to {most} bytes");
    run.daemon.signal(Signal::SIGUSR1)?;
    await_that(
        "more on the subflow than with the daemon",
        || kernel::unsent(run.client(), SLOW),
        |held| held.is_some_and(|held| held > MOST),
    )
    .map(drop)
}

/// Else the connection's would be large enough for an application not to wait, and the kernel would not enlarge that of the path
/// in use.
#[test]
fn a_path_that_stands_by_has_a_large_window_and_a_usual_send_buffer() -> Result<()> {
    // CUBIC is not held to a pace.
    for (control, pace) in [("cubic", 0), ("bbr", PACE)] {
        let run = Running::start("two-providers", Family::V4, "service = \"handover\"\n")?;
        let options = Options { congestion: Some(control.to_owned()), ..Options::bytes(500) };
        let _transfer = start(run.client(), &run.server, Job::RequestResponse, options)?;
        run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
        let has = || kernel::allowance(run.client(), SLOW);
        let is_so = |found: &Option<Allowance>| {
            found.is_some_and(|may| may.window == 45 && may.send_buffer < 100_000 && may.pace > pace)
        };
        let named =
            format!("{control}: the window of its route, its pace, and a send buffer as of ten segments");
        await_that(&named, has, is_so).map(drop)?;
    }
    Ok(())
}

#[test]
fn a_path_that_takes_over_repeats_little_of_what_has_arrived() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, "service = \"handover\"\n")?;
    let upload = start(run.client(), &run.server, Job::BulkUp, Options::bytes(1 << 30))?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    // The queue of the path in use is long by then, and goes on to the server when the client has lost its link.
    upload.wait_for(24 << 20, PATIENCE)?;
    run.lab.link("wifi").outage(Outage::Down)?;
    upload.wait_for(upload.bytes() + (2 << 20), PATIENCE)?;
    let repeated = kernel::counter(run.lab.host("server"), "DuplicateData")?;
    ensure!((1..=MOST_REPEATED).contains(&repeated), "{repeated} segments had arrived already");
    Ok(())
}
