//! Nothing that a lab made outlives it: not after a panic, not after kill -9, not after Ctrl-C.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{env, fs, panic, thread};
use tests::{Child, Family, Host, Lab, Scenario};

/// Set in the process that is to be killed.
const VICTIM: &str = "MPTCP_PM_LAB_VICTIM";

/// What a lab made.
struct Made {
    processes: Vec<u32>,
    namespaces: BTreeSet<u64>,
    scratch: PathBuf,
}

#[test]
fn a_panic_leaves_nothing() -> Result<()> {
    let mut made = None;
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let (lab, _children, all) = make().unwrap();
        made = Some(all);
        assert!(lab.links().count() > 2, "the panic that this test is about");
    }));
    assert!(result.is_err());
    let made = made.context("the lab was made")?;
    assert!(!made.scratch.exists());
    gone(&made)
}

#[test]
fn a_killed_process_leaves_nothing_but_files_which_the_next_one_removes() -> Result<()> {
    if env::var_os(VICTIM).is_some() {
        return wait_to_be_killed();
    }
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let made = killed_with(signal)?;
        gone(&made)?;
        assert!(made.scratch.exists(), "the test is to show that it is removed");
        drop(Lab::start(&Scenario::load("two-providers")?, Family::V4)?);
        assert!(!made.scratch.exists());
    }
    Ok(())
}

/// Runs this test's own program as the victim, until it has made its lab, and kills it.
fn killed_with(signal: Signal) -> Result<Made> {
    let mut victim = std::process::Command::new(env::current_exe()?)
        .args([
            "--exact",
            "a_killed_process_leaves_nothing_but_files_which_the_next_one_removes",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(victim.stdout.take().context("its output")?);
    let mut lines = output.lines().map_while(Result::ok).skip_while(|line| !line.contains("made:"));
    let line = lines.next().context("the victim ended before it had made its lab")?;
    let made =
        Made::parse(line.split("made:").nth(1).unwrap_or_default()).context("understand the victim")?;
    ensure!(made.processes.iter().all(|pid| runs(*pid)), "the victim's children do not run");
    ensure!(made.namespaces.is_subset(&namespaces()), "the victim's namespaces do not exist");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim.id().cast_signed()), signal)?;
    assert_eq!(victim.wait()?.signal(), Some(signal as i32));
    Ok(made)
}

fn wait_to_be_killed() -> Result<()> {
    let (_lab, _children, made) = make()?;
    println!("\nmade:{}", made.format());
    // The end of the parent, too, is an end.
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

fn make() -> Result<(Lab, Vec<Child>, Made)> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::Both)?;
    let children = vec![idle(lab.host("client"))?, idle(lab.host("server"))?];
    let made = Made {
        processes: children.iter().map(Child::id).collect(),
        namespaces: lab.hosts().map(|host| host.namespace().inode()).collect::<Result<_, _>>()?,
        scratch: lab.host("client").scratch().parent().context("a parent")?.to_owned(),
    };
    Ok((lab, children, made))
}

/// A child that has got as far as its own program.
fn idle(host: &Host) -> Result<Child> {
    let mut child =
        host.command("sh").args(["-c", "echo; exec sleep 1000"]).stdout(Stdio::piped()).spawn()?;
    child.take_stdout().context("its output")?.read_exact(&mut [0])?;
    Ok(child)
}

fn gone(made: &Made) -> Result<()> {
    // The parent of orphans is told of their end, we are not: looking is all that is left.
    let end = Instant::now() + Duration::from_secs(10);
    while made.processes.iter().any(|pid| runs(*pid)) || !made.namespaces.is_disjoint(&namespaces()) {
        ensure!(Instant::now() < end, "processes or namespaces of the lab are still there");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether the process exists and is not merely waiting to be reaped by whoever inherited it.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    ["sh", "sleep"].iter().any(|name| status.starts_with(&format!("Name:\t{name}\n")))
        && !status.contains("State:\tZ")
}

/// The network namespaces of all threads on this machine.
fn namespaces() -> BTreeSet<u64> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let tasks =
        processes.filter_map(|entry| fs::read_dir(entry.path().join("task")).ok()).flatten().flatten();
    tasks.filter_map(|task| Some(fs::metadata(task.path().join("ns/net")).ok()?.ino())).collect()
}

impl Made {
    fn format(&self) -> String {
        let join = |numbers: Vec<u64>| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let processes = join(self.processes.iter().copied().map(u64::from).collect());
        format!("{processes};{};{}", join(self.namespaces.iter().copied().collect()), self.scratch.display())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim().split(';');
        let mut numbers =
            || parts.next()?.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>();
        let processes = numbers()?.into_iter().map(|pid| u32::try_from(pid).ok()).collect::<Option<_>>()?;
        let namespaces = numbers()?.into_iter().collect();
        Some(Self { processes, namespaces, scratch: Path::new(parts.next()?).to_owned() })
    }
}
