//! Which connections an `[[application]]` table means.
mod names;

use globset::{GlobBuilder, GlobMatcher};
use ipnet::IpNet;

use super::NameGlob;
use super::matching::covers;
use crate::core::service::{Service, Subject};

pub use names::{MAX_PROCESS, Names};

/// What is wanted for the connections that match: one `[[application]]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplicationRule {
    /// Its line in the file, from 1.
    pub line: usize,
    /// Which connections are meant (`match`).
    pub matching: ApplicationMatch,
    /// Their service type (`service`); none leaves it to other tables.
    pub service: Option<Service>,
    /// Whether sockets that are to be TCP become MPTCP (`mptcp`); none leaves it to other tables. Then `process` is one
    /// that [`Names`] can say, and there is no `remote` and no `port`.
    pub mptcp: Option<bool>,
}

/// The conditions of one `match`; all that are there must hold, and at least one is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApplicationMatch {
    /// The name of the process.
    pub process: Option<NameGlob>,
    /// The user that it runs as (`uid`, or `user` by name).
    pub uid: Option<u32>,
    /// Its cgroup, or one that this is inside of.
    pub cgroup: Option<CgroupGlob>,
    /// Where the other end is.
    pub remote: Option<IpNet>,
    /// The port of the service: of the other end, or our own where we have accepted.
    pub port: Option<Ports>,
}

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

/// A pattern for the path of a cgroup: `*`, `?`, `[a-z]` inside of a name, `**` for any names, `{a,b}`.
#[derive(Clone, Debug)]
pub struct CgroupGlob(GlobMatcher);

impl PartialEq for CgroupGlob {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl CgroupGlob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
    pub fn new(pattern: &str) -> Result<Self, globset::Error> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        glob.map(|glob| Self(glob.compile_matcher()))
    }

    /// Whether it means a cgroup, or one that this is inside of.
    pub fn matches(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        let outer = ends.map(|at| &path[..at]);
        self.0.is_match("/") || outer.chain([path]).any(|path| self.0.is_match(path))
    }

    fn pattern(&self) -> &str {
        self.0.glob().glob()
    }

    fn covers(&self, narrower: &Self) -> bool {
        self == narrower
            || (super::matching::is_plain(narrower.pattern()) && self.matches(narrower.pattern()))
    }
}

impl Ports {
    /// Whether one of them is meant.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    const fn covers(&self, narrower: &Self) -> bool {
        self.first <= narrower.first && narrower.last <= self.last
    }
}

impl ApplicationMatch {
    /// The first condition that does not hold, by its key; none where all hold.
    pub fn mismatch(&self, subject: &Subject<'_>) -> Option<&'static str> {
        let owner = subject.owner;
        let holds = [
            ("process", fits(&self.process, &owner.process, |glob, name| glob.matches(name))),
            ("uid", fits(&self.uid, &owner.uid, PartialEq::eq)),
            ("cgroup", fits(&self.cgroup, &owner.cgroup, |glob, path| glob.matches(path))),
            ("remote", fits(&self.remote, &subject.remote, |net, addr| net.contains(addr))),
            ("port", fits(&self.port, &subject.port, |ports, port| ports.contains(*port))),
        ];
        holds.into_iter().find(|(_, holds)| !holds).map(|(key, _)| key)
    }

    /// Whether there is no condition at all.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every connection that `narrower` matches is surely matched by this one too.
    pub(super) fn covers(&self, narrower: &Self) -> bool {
        covers(&self.process, &narrower.process, NameGlob::covers)
            && covers(&self.uid, &narrower.uid, PartialEq::eq)
            && covers(&self.cgroup, &narrower.cgroup, CgroupGlob::covers)
            && covers(&self.remote, &narrower.remote, |wide, narrow| wide.contains(narrow))
            && covers(&self.port, &narrower.port, Ports::covers)
    }
}

/// Whether a condition holds, or there is none. What is not known fits none.
fn fits<C, V>(condition: &Option<C>, value: &Option<V>, holds: impl Fn(&C, &V) -> bool) -> bool {
    match (condition, value) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(condition), Some(value)) => holds(condition, value),
    }
}
