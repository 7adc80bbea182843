//! The demonstration holds what it claims, in both families, and leaves nothing when it is interrupted.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use tests::{require, scratch_parent};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg("--quick").args(args);
    command
}

fn check(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.matches("SHA-256 at both ends equal").count(), 3, "{text}");
    assert!(text.contains("left nothing behind"), "{text}");
}

#[test]
fn the_story_is_true_over_ipv4() -> Result<()> {
    require()?;
    check(&demo(&[]).output()?);
    Ok(())
}

#[test]
#[ignore = "as long as the one over IPv4: run it by name"]
fn the_story_is_true_over_ipv6() -> Result<()> {
    require()?;
    check(&demo(&["--ipv6"]).output()?);
    Ok(())
}

#[test]
fn an_interrupt_leaves_nothing() -> Result<()> {
    require()?;
    let mut child = demo(&[]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let begun = lines.map_while(Result::ok).any(|line| line.starts_with("2."));
    assert!(begun, "the demonstration ended before it began");
    let pid = child.id();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
    assert_eq!(child.wait()?.code(), Some(128 + Signal::SIGINT as i32));
    let prefix = format!("mptcp-pm-lab.{pid}.");
    let left = fs::read_dir(scratch_parent())?.flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with(&prefix))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
