//! Congestion controls as the kernel tells of them: which sockets have which, and one user of their names at a time.
use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::Host;

/// An established TCP socket of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The port on this side.
    pub port: u16,
    /// The name of its congestion control.
    pub control: String,
    /// Whether it is a subflow of an MPTCP connection.
    pub is_subflow: bool,
}

/// The established sockets of a host, as `ss` shows them.
///
/// # Errors
/// When `ss` fails, or shows something else.
pub fn sockets(host: &Host) -> Result<Vec<Socket>> {
    let output = host.command("ss").args(["-tniHO", "state", "established"]).output()?;
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| socket(line).with_context(|| format!("read {line:?}"))).collect()
}

/// `0 0 10.1.0.2%wifi0:4711 10.9.0.2:80 ts sack cubic wscale:7,7 … tcp-ulp-mptcp flags:Jjecv token:…`
fn socket(line: &str) -> Option<Socket> {
    const FLAGS: [&str; 5] = ["ts", "sack", "ecn", "ecnseen", "fastopen"];
    let is_subflow = line.contains("tcp-ulp-mptcp");
    let mut words = line.split_whitespace().skip(2);
    let (_, port) = words.next()?.rsplit_once(':')?;
    let control = words.skip(1).find(|word| !FLAGS.contains(word))?;
    Some(Socket { port: port.parse().ok()?, control: control.to_owned(), is_subflow })
}

/// The congestion control that sockets of a host have by default.
///
/// # Errors
/// When the setting cannot be read.
pub fn default(host: &Host) -> Result<String> {
    let name = host.run(|| fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control"))?;
    Ok(name.trim().to_owned())
}

/// Waits for a turn: congestion controls have their names machine-wide, those of other checkouts included. It ends when
/// what this returns is dropped.
///
/// # Errors
/// When the file for it cannot be made.
pub fn turn() -> Result<Flock<File>> {
    let path = std::env::temp_dir().join("mptcp-pm-congestion-controls.lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno): (_, Errno)| errno)
        .context("waiting for my turn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ss_are_read() {
        let line =
            "0 0 10.1.0.2%wifi0:4711 10.9.0.2:80 ts sack olia wscale:7,7 rto:201 tcp-ulp-mptcp flags:Mmec";
        let expected = Socket { port: 4711, control: "olia".to_owned(), is_subflow: true };
        assert_eq!(socket(line), Some(expected));
        let line = "0 0 [2001:db8:1::2]:4711 [2001:db8:9::2]:80 cubic wscale:7,7";
        let expected = Socket { port: 4711, control: "cubic".to_owned(), is_subflow: false };
        assert_eq!(socket(line), Some(expected));
    }
}
