//! What this machine must offer for the lab to run; a test that cannot run fails and says why.

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use std::path::Path;
use std::process::{Command, Stdio};

/// Checks that the lab can run here; [`Lab::start`](crate::Lab::start) does it too.
///
/// # Errors
/// With what is missing and how to get it.
pub fn require() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the lab makes network namespaces: run the tests as root");
    ensure!(Path::new("/dev/net/tun").exists(), "the lab needs /dev/net/tun: modprobe tun");
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))
        .context("open an MPTCP socket (this kernel needs CONFIG_MPTCP, and net.mptcp.enabled = 1)")?;
    for (program, package) in [("ip", "iproute2"), ("ss", "iproute2"), ("setpriv", "util-linux")] {
        let mut command = Command::new(program);
        let found = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.with_context(|| format!("run {program}: install the package {package}"))?;
    }
    Ok(())
}
