//! Which service type a connection has: the first rule that matches decides, or else the configuration's default.
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Service;
use crate::config::{ApplicationRule, Config};
use crate::core::connections::Ends;
use crate::core::steering::{Part, Reason};

/// Whose a connection is, as far as that is known: who opened it, or who listens for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The name of the process (`/proc/PID/comm`), at most 15 bytes.
    pub process: Option<String>,
    /// Its id.
    pub pid: Option<u32>,
    /// The user.
    pub uid: Option<u32>,
    /// The path of the cgroup, from the root of its hierarchy: `/system.slice/ssh.service`.
    pub cgroup: Option<String>,
}

impl Owner {
    /// Whether another one tells something that is not known here.
    pub const fn lacks(&self, other: &Self) -> bool {
        self.process.is_none() && other.process.is_some()
            || self.pid.is_none() && other.pid.is_some()
            || self.uid.is_none() && other.uid.is_some()
            || self.cgroup.is_none() && other.cgroup.is_some()
    }

    /// Takes over what is not known here.
    pub fn complete(&mut self, other: Self) {
        self.process = self.process.take().or(other.process);
        self.pid = self.pid.or(other.pid);
        self.uid = self.uid.or(other.uid);
        self.cgroup = self.cgroup.take().or(other.cgroup);
    }
}

/// What rules are about. What is not known matches no condition.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Whose the connection is.
    pub owner: &'a Owner,
    /// The address of the other end.
    pub remote: Option<IpAddr>,
    /// The port of the service: of the other end, or our own where we have accepted.
    pub port: Option<u16>,
}

impl<'a> Subject<'a> {
    /// A connection.
    pub fn new(owner: &'a Owner, ends: &Ends, server_side: bool) -> Self {
        let end = if server_side { ends.local() } else { ends.remote() };
        Self { owner, remote: Some(ends.remote().ip()), port: Some(end.port()) }
    }
}

/// Who has decided on a service type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Why {
    /// Somebody, with `mptcp-pm service set`.
    Hand,
    /// An `[[application]]` table.
    Rule {
        /// Its number, from 1.
        rule: usize,
        /// Its line in the configuration.
        line: usize,
    },
    /// The slice that its owner was put into.
    Slice,
    /// The key `service` of the configuration.
    Configuration,
    /// The profile.
    Profile,
}

/// What is known of a connection's service type, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// It; none where the kernel manages the connection, so that none can act.
    pub service: Option<(Service, Why)>,
    /// Whose the connection is.
    pub owner: Owner,
    /// The part that each of its subflows plays, and why, where that is the daemon's business.
    pub parts: Vec<(Ends, Part, Reason)>,
}

impl Served {
    /// The part of a subflow, and why.
    pub fn part(&self, local: SocketAddr, remote: SocketAddr) -> Option<(Part, &'static str)> {
        let found = self.parts.iter().find(|(ends, ..)| *ends == Ends::new(local, remote));
        found.map(|(_, part, why)| (*part, why.text()))
    }
}

/// A rule that comes before the one that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Its number, from 1.
    pub rule: usize,
    /// Its line in the configuration.
    pub line: usize,
    /// The key of its first condition that does not hold.
    pub condition: &'static str,
}

/// Whether the sockets of a process that are to be TCP become MPTCP, and which rule says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conversion {
    /// Whether they do.
    pub becomes: bool,
    /// The number of the rule that decides, from 1; none where none does, so that they stay TCP.
    pub rule: Option<usize>,
    /// Its line in the configuration.
    pub line: Option<usize>,
    /// The rules about this that come before it.
    pub passed_over: Vec<PassedOver>,
}

/// What the configuration says of service types and of MPTCP.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    applications: Vec<ApplicationRule>,
    /// Where no rule matches.
    default: (Service, Why),
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

impl Rules {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let why = if config.service.is_some() { Why::Configuration } else { Why::Profile };
        let default = (config.default_service(), why);
        Self { applications: config.applications.clone(), default }
    }

    /// The rules about service types that do not match, as far as the first one that does.
    pub fn passed_over(&self, subject: &Subject<'_>) -> Vec<PassedOver> {
        passed_over(self.about_service(), subject)
    }

    /// The service type, and why.
    pub fn decide(&self, subject: &Subject<'_>) -> (Service, Why) {
        let mut rules = self.about_service();
        let found = rules.find(|(_, rule)| rule.matching.mismatch(subject).is_none());
        let decided = found
            .and_then(|(number, rule)| Some((rule.service?, Why::Rule { rule: number, line: rule.line })));
        let by_slice = || {
            let service = Service::of_cgroup(subject.owner.cgroup.as_deref()?)?;
            Some((service, Why::Slice))
        };
        decided.or_else(by_slice).unwrap_or(self.default)
    }

    /// Whether the sockets of a process that are to be TCP become MPTCP.
    pub fn mptcp(&self, subject: &Subject<'_>) -> Conversion {
        let about = || self.numbered().filter(|(_, rule)| rule.mptcp.is_some());
        let found = about().find(|(_, rule)| rule.matching.mismatch(subject).is_none());
        Conversion {
            becomes: found.and_then(|(_, rule)| rule.mptcp).unwrap_or(false),
            rule: found.map(|(number, _)| number),
            line: found.map(|(_, rule)| rule.line),
            passed_over: passed_over(about(), subject),
        }
    }

    fn about_service(&self) -> impl Iterator<Item = (usize, &ApplicationRule)> {
        self.numbered().filter(|(_, rule)| rule.service.is_some())
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &ApplicationRule)> {
        (1..).zip(&self.applications)
    }
}

fn passed_over<'a>(
    rules: impl Iterator<Item = (usize, &'a ApplicationRule)>,
    subject: &Subject<'_>,
) -> Vec<PassedOver> {
    let passed_over = rules.map_while(|(number, rule)| {
        let condition = rule.matching.mismatch(subject)?;
        Some(PassedOver { rule: number, line: rule.line, condition })
    });
    passed_over.collect()
}
