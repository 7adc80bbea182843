//! `mptcp-pm top` in a real terminal: what it shows, what its keys do, and that it leaves the terminal as it was.
use std::fs;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::Family;
use tests::daemon::{Daemon, PATIENCE, await_that, binary};
use tests::running::Running;
use tests::terminal::Terminal;
use tests::traffic::{Job, Options, start};

const CONFIG: &str = "\
profile = \"heavy\"
[[uplink]]
match = { name = \"wifi0\" }
provider = \"Alpha\"
[[uplink]]
match = { name = \"lte0\" }
provider = \"Beta\"
";

/// Shows the screen, and tells afterwards how the program ended and whether the terminal's settings are as before.
fn show(run: &Running, terminal: &Terminal) -> Result<()> {
    let scratch = run.client().scratch().display();
    let top = format!("{} top --interval 0.1 --socket {scratch}/control", binary()?.display());
    let ended = "echo ended:$?; [ \"$b\" = \"$(stty -g)\" ] && echo as before";
    let own_process = format!("sh -c 'echo $$ >{scratch}/top.pid; exec {top}'");
    terminal.enter(&format!("clear; b=$(stty -g); {own_process}; {ended}"))
}

fn has(screen: &[String], words: &str) -> bool {
    screen.iter().any(|line| line.contains(words))
}

/// The cells of the line that begins so.
fn row<'a>(screen: &'a [String], beginning: &str) -> Option<Vec<&'a str>> {
    let line = screen.iter().find(|line| line.starts_with(beginning))?;
    Some(line.split_whitespace().collect())
}

/// Waits until both uplinks and the connection with both of its paths are there.
fn await_all(terminal: &Terminal) -> Result<Vec<String>> {
    terminal.await_screen("two uplinks, one connection, two paths", |screen| {
        let uplinks = [("wifi0 ", ["wifi0", "Alpha", "used"]), ("lte0 ", ["lte0", "Beta", "used"])];
        let paths = ["  wifi0 10.1.0.2:", "  lte0 10.2.0.2:"];
        uplinks.iter().all(|(name, cells)| row(screen, name).is_some_and(|row| row.starts_with(cells)))
            && row(screen, "10.9.0.2:").is_some_and(|row| row[1] == "us")
            && paths.iter().all(|path| row(screen, path).is_some_and(|row| row.ends_with(&["carrying"])))
            && has(screen, "1 connection ")
    })
}

#[test]
fn the_screen_shows_uplinks_and_connections_and_follows_keys_and_size() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, CONFIG)?;
    let _talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let terminal = Terminal::open(run.client(), 80, 24)?;
    show(&run, &terminal)?;
    let screen = await_all(&terminal)?;
    assert!(screen[23].starts_with("q leave  ? keys "), "{screen:#?}");
    assert_eq!(terminal.modes()?, (true, false));
    assert!(screen[0].ends_with("by rate, rates over 10s"), "{screen:#?}");

    terminal.press(&["p", "R", "w"])?;
    terminal
        .await_screen("another order", |screen| screen[0].ends_with("by peer reversed, rates over 1m"))?;
    terminal.press(&["?"])?;
    terminal.await_screen("the page of keys", |screen| {
        has(screen, "turn the order round") && !has(screen, "10.9.0.2:")
    })?;
    terminal.press(&["?"])?;
    await_all(&terminal)?;
    terminal.press(&["Down", "Enter"])?;
    let detail = "    0x";
    terminal.await_screen("the detail", |screen| row(screen, detail).is_some())?;
    terminal.press(&["Enter"])?;
    terminal.await_screen("no detail", |screen| row(screen, detail).is_none())?;

    terminal.resize(120, 40)?;
    terminal.await_screen("the wide screen", |screen| {
        screen[0].chars().count() == 120 && screen[39].ends_with("PgUp PgDn page")
    })?;
    terminal.resize(40, 10)?;
    terminal.await_screen("the least screen", |screen| {
        screen[0].starts_with("heavy, as wanted") && row(screen, "10.9.0.2:").is_some()
    })?;
    terminal.resize(39, 10)?;
    terminal.await_screen("the refusal", |screen| has(screen, "39x10 is too small: make it 40x10"))?;
    terminal.resize(80, 24)?;
    await_all(&terminal).map(drop)
}

/// A rate of some Mbit/s in two cells.
fn is_fast(cells: Option<&[&str]>) -> bool {
    cells.is_some_and(|cells| cells[1] == "M" && cells[0].parse::<f64>().is_ok_and(|rate| rate > 0.0))
}

#[test]
fn rates_round_trip_times_and_sparklines_are_there_while_data_flows() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, CONFIG)?;
    let terminal = Terminal::open(run.client(), 80, 24)?;
    show(&run, &terminal)?;
    let transfer = start(run.client(), &run.server, Job::BulkUp, Options::duration(PATIENCE))?;
    let screen = terminal.await_screen("rates of both uplinks and of the connection", |screen| {
        let is_there = |name| {
            let Some(line) = screen.iter().position(|line| line.starts_with(name)) else { return false };
            let cells: Vec<&str> = screen[line].split_whitespace().collect();
            // Both round-trip times, which the links' delays make longer than 10 ms.
            let times = cells.iter().filter_map(|cell| cell.split_once('/'));
            let mut times =
                times.filter_map(|(smoothed, least)| Some((smoothed.parse().ok()?, least.parse().ok()?)));
            is_fast(cells.get(3..5))
                && times.any(|(smoothed, least): (f64, f64)| smoothed >= least && least > 10.0)
                && screen[line + 1].starts_with("  rate ≤ ")
                && screen[line + 1].contains(" ms ")
                && screen[line + 1].contains('█')
        };
        is_there("wifi0 ")
            && is_there("lte0 ")
            && is_fast(row(screen, "10.9.0.2:").as_deref().and_then(|row| row.get(2..4)))
    })?;
    println!("{}", screen.join("\n"));
    drop(transfer);
    Ok(())
}

#[test]
fn a_daemon_that_goes_is_missed_and_one_that_comes_is_welcome() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, CONFIG)?;
    let _talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let terminal = Terminal::open(run.client(), 80, 24)?;
    show(&run, &terminal)?;
    await_all(&terminal)?;
    let Running { daemon, server, lab } = run;
    daemon.end(Signal::SIGUSR1)?;
    terminal.await_screen("the remedy", |screen| {
        has(screen, "no mptcp-pm daemon at ") && has(&[screen[1..4].join(" ")], "`mptcp-pm run`")
    })?;
    let daemon = Daemon::start(lab.host("client"), CONFIG)?;
    let run = Running { daemon, server, lab };
    terminal.await_screen("the daemon", |screen| !has(screen, "no mptcp-pm daemon"))?;
    await_all(&terminal)?;
    run.daemon.kill()?;
    terminal.await_screen("the remedy", |screen| has(screen, "no mptcp-pm daemon at "))?;
    terminal.press(&["q"])?;
    terminal.await_screen("the end", |screen| has(screen, "ended:0")).map(drop)
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, CONFIG)?;
    let terminal = Terminal::open(run.client(), 80, 24)?;
    let pid = || -> Result<Pid> {
        let file = run.client().scratch().join("top.pid");
        Ok(Pid::from_raw(fs::read_to_string(file)?.trim().parse().context("read the process id")?))
    };
    let ends: [&dyn Fn() -> Result<()>; 5] = [
        &|| terminal.press(&["q"]),
        &|| terminal.press(&["Escape"]),
        &|| terminal.press(&["C-c"]),
        &|| Ok(kill(pid()?, Signal::SIGTERM)?),
        &|| Ok(kill(pid()?, Signal::SIGINT)?),
    ];
    for end in ends {
        show(&run, &terminal)?;
        terminal
            .await_screen("the screen", |screen| has(screen, "0 connections ") && !has(screen, "ended"))?;
        end()?;
        terminal.await_screen("the end", |screen| {
            has(screen, "ended:0") && screen.iter().any(|line| line == "as before")
        })?;
        assert_eq!(terminal.modes()?, (false, true));
    }
    Ok(())
}

#[test]
fn a_terminal_that_is_closed_ends_it() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, CONFIG)?;
    let terminal = Terminal::open(run.client(), 80, 24)?;
    show(&run, &terminal)?;
    terminal.await_screen("the screen", |screen| has(screen, "0 connections "))?;
    let pid = fs::read_to_string(run.client().scratch().join("top.pid"))?;
    let process = std::path::Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(terminal);
    await_that("no process", || Ok(process.exists()), |exists| !exists).map(drop)
}

#[test]
fn without_a_terminal_it_says_so() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, CONFIG)?;
    let output = run.daemon.command(&["top"])?.output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("standard output is no terminal: use `mptcp-pm status`"), "{said}");
    Ok(())
}
