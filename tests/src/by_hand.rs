//! MPTCP as an administrator sets it up with `ip mptcp`, without any daemon: what a stock kernel does is measured so.

use crate::Host;
use crate::pair::{LINKS, interface};
use anyhow::{Context, Result};

/// Whether a path carries beside the other or stands by for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It carries.
    InUse,
    /// It stands by.
    Backup,
}

/// Makes the host's two interfaces of a [`Pair`](crate::pair::Pair) endpoints with these roles, in place of those that
/// there are, and lets the kernel use them. Connections that there are already may change.
///
/// # Errors
/// With the command that failed.
pub fn set_up(host: &Host, roles: [Role; 2]) -> Result<()> {
    host.ip("mptcp endpoint flush")?;
    host.ip("mptcp limits set subflows 4 add_addr_accepted 4")?;
    for (link, role) in LINKS.iter().zip(roles) {
        let interface = interface(link);
        let addresses = host.addresses()?;
        let v4 = addresses.iter().find(|a| a.interface == interface && a.net.addr().is_ipv4());
        let address = v4.with_context(|| format!("{interface} has no address"))?.net.addr();
        let backup = if role == Role::Backup { " backup" } else { "" };
        host.ip(&format!("mptcp endpoint add {address} dev {interface} subflow{backup}"))?;
    }
    Ok(())
}
