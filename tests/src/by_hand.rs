//! MPTCP as an administrator sets it up with `ip mptcp`, without any daemon: what a stock kernel does is measured so.

use crate::Host;
use anyhow::{Context, Result};

/// Whether a path carries beside the other or stands by for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It carries.
    InUse,
    /// It stands by.
    Backup,
}

/// Makes these interfaces of a host endpoints, by their IPv4 addresses and in place of those that there are, and lets the
/// kernel use them. Connections that there are already may change.
///
/// # Errors
/// With the command that failed.
pub fn set_up(host: &Host, interfaces: &[(&str, Role)]) -> Result<()> {
    host.ip("mptcp endpoint flush")?;
    host.ip("mptcp limits set subflows 4 add_addr_accepted 4")?;
    let addresses = host.addresses()?;
    for (interface, role) in interfaces {
        let v4 = addresses.iter().find(|a| a.interface == *interface && a.net.addr().is_ipv4());
        let address = v4.with_context(|| format!("{interface} has no address"))?.net.addr();
        let backup = if *role == Role::Backup { " backup" } else { "" };
        host.ip(&format!("mptcp endpoint add {address} dev {interface} subflow{backup}"))?;
    }
    Ok(())
}
