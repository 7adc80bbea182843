//! Whether the kernel had anything to tell a daemon while nothing was to happen.

use anyhow::{Context, Result, bail};
use mptcp_pm::netlink::watch::GROUPS;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use std::io::ErrorKind;
use tests::Host;

/// A listener in a host's network.
pub struct Silence(Socket);

impl Silence {
    /// From now on, of all that the daemons listen to.
    pub fn begin(host: &Host) -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            GROUPS.iter().try_for_each(|group| socket.add_membership(*group))?;
            socket.set_non_blocking(true)?;
            std::io::Result::Ok(socket)
        };
        host.run(open).map(Self).context("listen to routing netlink")
    }

    /// Fails when there was something: then the benchmark has not measured an idle daemon.
    pub fn check(&self) -> Result<()> {
        let mut buffer = Vec::with_capacity(8192);
        match self.0.recv_from(&mut buffer, 0) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("read routing netlink"),
            Ok(_) => bail!("something happened in the minute in which nothing was to happen: {buffer:?}"),
        }
    }
}
