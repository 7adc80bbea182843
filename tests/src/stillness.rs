//! Whether nothing happens on a host: what has come to rest stays there.
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Host, kernel};

/// The endpoints with their ids: one that goes and comes gets another.
///
/// # Errors
/// When they cannot be read.
pub fn endpoints(client: &Host) -> Result<String> {
    client.ip("mptcp endpoint")
}

/// Nothing is done for so long: no connection, subflow, rule, route or endpoint changes.
///
/// # Errors
/// With what has happened.
pub fn rests(client: &Arc<Host>, time: Duration) -> Result<()> {
    rests_in(client, time, &["rule", "route", "address", "link"])
}

/// The same, where somebody else says of addresses time and again that they stay.
///
/// # Errors
/// With what has happened.
pub fn rests_but_for_addresses(client: &Arc<Host>, time: Duration) -> Result<()> {
    rests_in(client, time, &["rule", "route", "link"])
}

fn rests_in(client: &Arc<Host>, time: Duration, objects: &[&str]) -> Result<()> {
    let before = (endpoints(client)?, kernel::subflows(client)?);
    let watch = |words: &[&str], name: &str| {
        let file = client.scratch().join(name);
        let command = client.command("ip").args(words).stdin(Stdio::null()).stdout(fs::File::create(&file)?);
        anyhow::Ok((command.spawn()?, file))
    };
    let (mut events, told) = watch(&["mptcp", "monitor"], "events")?;
    let (_routing, changed) = watch(&[&["monitor"], objects].concat(), "routing")?;
    ensure!(events.wait_timeout(time)?.is_none(), "ip mptcp monitor has ended");
    let told = fs::read_to_string(told)? + &fs::read_to_string(changed)?;
    ensure!(told.is_empty(), "while nothing was to happen:\n{told}");
    ensure!(
        before == (endpoints(client)?, kernel::subflows(client)?),
        "before: {before:?}, now: {:?}",
        endpoints(client)?
    );
    Ok(())
}
