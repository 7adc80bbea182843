//! Adds and deletes routes and rules.
use std::{fmt, io};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::convert;
use super::transport::{Client, Fault};
use crate::core::world::{Family, Route, Rule};

/// A connection that writes routes and rules. The kernel answers at once: each write is one send and one receive.
#[derive(Debug)]
pub struct Routes {
    client: Client,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel did it.
    Done,
    /// There was nothing to do: what was to be added is there, what was to be deleted is not.
    AlreadySo,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("connect to routing netlink: {0}")]
    Connect(#[source] io::Error),
    /// The kernel refused.
    #[error("{operation} {object}: {errno}{}", detail.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// With which route or rule, as `ip` writes it, but with interface indexes.
        object: String,
        /// The kernel's reason.
        errno: Errno,
        /// The kernel's reason in words (extended acknowledgement), where it gives one.
        detail: Option<String>,
    },
    /// The kernel did not answer, or not in a way that can be understood.
    #[error("{operation} {object}: {fault}")]
    NoAnswer {
        /// What was tried.
        operation: &'static str,
        /// With which route or rule.
        object: String,
        /// What happened instead.
        fault: Fault,
    },
}

/// What is asked of the kernel: words for the error, flags for the request, and the errors that mean success.
struct Operation {
    name: &'static str,
    flags: u16,
    already_so: &'static [Errno],
}

/// Exclusive: without the flag, IPv6 would merge the route with another one of the same metric. `EEXIST` is
/// success, because all that is wanted is that it be there: a crashed predecessor may have made it, or the user.
/// If it is another one in the same place, the watch shows that ours is missing.
const ADD: Operation =
    Operation { name: "add", flags: NLM_F_CREATE | NLM_F_EXCL, already_so: &[Errno::EEXIST] };

/// `ESRCH` (routes) and `ENOENT` (rules) are success, because the kernel is often quicker: it deletes the routes of
/// a link that goes down. So is `ENODEV` for a link that is gone, because its routes went with it.
const DELETE: Operation =
    Operation { name: "delete", flags: 0, already_so: &[Errno::ESRCH, Errno::ENOENT, Errno::ENODEV] };

impl Routes {
    /// Connects in the network namespace of the calling thread; to be called within a tokio runtime.
    pub async fn open() -> Result<Self, Error> {
        Client::open(NETLINK_ROUTE).map(|client| Self { client }).map_err(Error::Connect)
    }

    /// Adds a route. IPv6 makes a metric of 0 one of 1024.
    pub async fn add_route(&mut self, route: &Route) -> Result<Outcome, Error> {
        let message = RouteNetlinkMessage::NewRoute(convert::route_message(route));
        self.execute(&ADD, &RouteText(route), message).await
    }

    /// Deletes a route: the one with the same destination, metric, next hops and protocol.
    pub async fn delete_route(&mut self, route: &Route) -> Result<Outcome, Error> {
        let message = RouteNetlinkMessage::DelRoute(convert::route_message(route));
        self.execute(&DELETE, &RouteText(route), message).await
    }

    /// Adds a rule.
    pub async fn add_rule(&mut self, rule: &Rule) -> Result<Outcome, Error> {
        let message = RouteNetlinkMessage::NewRule(convert::rule_message(rule));
        self.execute(&ADD, &RuleText(rule), message).await
    }

    /// Deletes a rule: the first one that has all that is given.
    pub async fn delete_rule(&mut self, rule: &Rule) -> Result<Outcome, Error> {
        let message = RouteNetlinkMessage::DelRule(convert::rule_message(rule));
        self.execute(&DELETE, &RuleText(rule), message).await
    }

    async fn execute(
        &mut self,
        operation: &Operation,
        object: &dyn fmt::Display,
        message: RouteNetlinkMessage,
    ) -> Result<Outcome, Error> {
        let mut body = vec![0; message.buffer_len()];
        message.serialize(&mut body);
        let (name, object) = (operation.name, || object.to_string());
        match self.client.change_with(message.message_type(), operation.flags, &body).await {
            Ok(()) => Ok(Outcome::Done),
            Err(Fault::Refused(refusal)) if operation.already_so.contains(&refusal.errno) => {
                Ok(Outcome::AlreadySo)
            }
            Err(Fault::Refused(refusal)) => Err(Error::Refused {
                operation: name,
                object: object(),
                errno: refusal.errno,
                detail: refusal.text,
            }),
            Err(fault) => Err(Error::NoAnswer { operation: name, object: object(), fault }),
        }
    }
}

struct RouteText<'a>(&'a Route);

impl fmt::Display for RouteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(route) = self;
        write!(f, "route {}", route.dst)?;
        for hop in &route.hops {
            if let Some(gateway) = hop.gateway {
                write!(f, " via {gateway}")?;
            }
            write!(f, " dev {}{}", hop.ifindex, if hop.onlink { " onlink" } else { "" })?;
        }
        if let Some(source) = route.source {
            write!(f, " src {source}")?;
        }
        write!(f, " metric {} table {}", route.metric, route.table)
    }
}

struct RuleText<'a>(&'a Rule);

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rule) = self;
        let family = if rule.family == Family::V4 { "IPv4" } else { "IPv6" };
        write!(f, "{family} rule {}: from ", rule.priority)?;
        match rule.src {
            Some(src) => write!(f, "{src}")?,
            None => write!(f, "all")?,
        }
        write!(f, " lookup {}", rule.table)?;
        rule.suppress_prefix_len.map_or(Ok(()), |len| write!(f, " suppress_prefixlength {len}"))
    }
}
