//! What a daemon could leave behind in a host.

use crate::Host;
use anyhow::Result;

/// All that a daemon changes, as `ip` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains(Vec<String>);

impl Remains {
    /// What there is now.
    pub fn of(host: &Host) -> Result<Self> {
        let mut lines = Vec::new();
        for what in [
            "mptcp endpoint",
            "mptcp limits",
            "-4 rule",
            "-6 rule",
            "-4 route show table all",
            "-6 route show table all",
        ] {
            let mut found: Vec<_> =
                host.ip(what)?.lines().map(|line| format!("{what}: {}", line.trim())).collect();
            found.sort();
            lines.append(&mut found);
        }
        Ok(Self(lines))
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
