//! Adds and deletes routes and rules.
use std::{fmt, io};

use futures_util::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CAPPED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload, NlasIterator, parse_string, parse_u32,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::AsyncSocket as _;
use nix::errno::Errno;
use rtnetlink::Handle;

use super::{
    convert,
    transport::{TIMEOUT, wire::Wire},
};
use crate::core::world::{Family, IfIndex, Route, Rule};

/// A connection that writes routes and rules. Its other half is a task of the runtime, which ends with it.
#[derive(Debug)]
pub struct Routes {
    handle: Handle,
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
    /// The kernel did not answer in time, or the socket failed before it did.
    #[error("{operation} {object}: no answer from the kernel over routing netlink")]
    NoAnswer {
        /// What was tried.
        operation: &'static str,
        /// With which route or rule.
        object: String,
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

/// The one with the same destination, table and metric, which is never gone meanwhile. IPv4 takes the first of several.
const CHANGE: Operation = Operation { name: "change", flags: NLM_F_REPLACE, already_so: &[] };

/// `ESRCH` (routes) and `ENOENT` (rules) are success, because the kernel is often quicker: it deletes the routes of
/// a link that goes down. So is `ENODEV` for a link that is gone, because its routes went with it.
const DELETE: Operation =
    Operation { name: "delete", flags: 0, already_so: &[Errno::ESRCH, Errno::ENOENT, Errno::ENODEV] };

/// Interfaces are set up as they are found.
const SET_UP: Operation = Operation { name: "set up", flags: 0, already_so: &[] };

impl Routes {
    /// Connects in the network namespace of the calling thread; to be called within a tokio runtime.
    pub async fn open() -> Result<Self, Error> {
        connect().map(|handle| Self { handle })
    }

    /// Adds a route. IPv6 makes a metric of 0 one of 1024.
    pub async fn add_route(&mut self, route: &Route) -> Result<Outcome, Error> {
        let message = RouteNetlinkMessage::NewRoute(convert::route_message(route));
        self.execute(&ADD, &RouteText(route), message).await
    }

    /// Gives a route that is there another window to begin with.
    pub async fn change_route(&mut self, route: &Route) -> Result<Outcome, Error> {
        let message = RouteNetlinkMessage::NewRoute(convert::route_message(route));
        self.execute(&CHANGE, &RouteText(route), message).await
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

    /// Sets an interface up.
    pub async fn set_up(&mut self, ifindex: IfIndex) -> Result<(), Error> {
        let mut link = LinkMessage::default();
        link.header.index = ifindex;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        let object = format!("interface {ifindex}");
        self.execute(&SET_UP, &object, RouteNetlinkMessage::SetLink(link)).await.map(drop)
    }

    /// Where no answer comes, the next one is awaited over another connection: this one may be at its end.
    async fn execute(
        &mut self,
        operation: &Operation,
        object: &dyn fmt::Display,
        message: RouteNetlinkMessage,
    ) -> Result<Outcome, Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | operation.flags;
        if let Ok(Some((errno, detail))) = tokio::time::timeout(TIMEOUT, self.ask(request)).await {
            return judge(operation, object, errno, detail);
        }
        self.handle = connect()?;
        Err(Error::NoAnswer { operation: operation.name, object: object.to_string() })
    }

    /// The kernel's error number, none for success, and its words; `None` where the connection ends before they come.
    async fn ask(
        &self,
        request: NetlinkMessage<RouteNetlinkMessage>,
    ) -> Option<(Option<Errno>, Option<String>)> {
        let mut replies = self.handle.clone().request(request).ok()?;
        while let Some(reply) = replies.next().await {
            if let NetlinkPayload::Error(answer) = reply.payload {
                let detail = detail(&answer, reply.header.flags & NLM_F_CAPPED != 0);
                return Some((answer.code.map(|code| Errno::from_raw(code.get().saturating_abs())), detail));
            }
        }
        None
    }
}

fn connect() -> Result<Handle, Error> {
    let (mut connection, handle, _) =
        rtnetlink::new_connection_with_socket::<Wire>().map_err(Error::Connect)?;
    // Success must be said, not concluded from silence: a connection that breaks is silent too.
    connection.set_forward_ack(true);
    let socket = connection.socket_mut().socket_mut();
    // Kernels before 4.12 give no words; the number of the error is enough then.
    let _ = socket.set_ext_ack(true).and_then(|()| socket.set_cap_ack(true));
    tokio::spawn(connection);
    Ok(handle)
}

fn judge(
    operation: &Operation,
    object: &dyn fmt::Display,
    errno: Option<Errno>,
    detail: Option<String>,
) -> Result<Outcome, Error> {
    match errno {
        None => Ok(Outcome::Done),
        Some(errno) if operation.already_so.contains(&errno) => Ok(Outcome::AlreadySo),
        Some(errno) => {
            Err(Error::Refused { operation: operation.name, object: object.to_string(), errno, detail })
        }
    }
}

/// The kernel's words (`NLMSGERR_ATTR_MSG`). They follow the header of the request and, unless the answer is
/// capped, the rest of the request.
fn detail(answer: &ErrorMessage, capped: bool) -> Option<String> {
    const HEADER: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let request_len = parse_u32(answer.header.get(..4)?).ok()? as usize;
    let echoed = if capped { HEADER } else { request_len.next_multiple_of(4) };
    NlasIterator::new(answer.header.get(echoed..)?)
        .flatten()
        .find(|nla| nla.kind() == NLMSGERR_ATTR_MSG)
        .and_then(|nla| parse_string(nla.value()).ok())
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
        if let Some(segments) = route.initial_window {
            write!(f, " initcwnd {segments}")?;
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
