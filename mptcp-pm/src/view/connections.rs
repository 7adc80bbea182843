//! Connections as `status` shows them: what sock_diag tells, with the uplinks it goes over and why one is not used.
mod reason;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::figures::Figures;
use crate::core::connections::Token;
use crate::core::service::{Owner, Served, Service, Why};
use crate::core::steering::Part;
use crate::core::uplink::Uplink;
use crate::core::world::{Endpoint, IfIndex};
use crate::interfaces;
use crate::netlink::diag::{self, Diag};
use crate::netlink::diag_wire::{MptcpFlags, State, SubflowFlags};
use crate::netlink::transport;
use crate::stats::Lookup;

pub(super) use text::{connection as paragraphs, text};

/// As many are listed; the others are counted.
const MOST: usize = 1000;

/// The connections of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are.
    pub total: usize,
    /// The first 1000, by peer.
    pub listed: Vec<Connection>,
    /// Why none can be listed.
    pub note: Option<String>,
}

/// An MPTCP connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its local token.
    pub token: u32,
    /// Its local end: that of the initial subflow.
    pub local: SocketAddr,
    /// Its remote end.
    pub remote: SocketAddr,
    /// The state of its socket (RFC 9293), as in `established`.
    pub state: String,
    /// Who opened it; none where its subflows do not tell.
    pub opened_by: Option<Opener>,
    /// It has fallen back to plain TCP.
    pub fallback: bool,
    /// Its service type; none where the kernel manages its paths.
    #[serde(default)]
    pub service: Option<Decided>,
    /// Whose it is, as far as that is known.
    #[serde(default)]
    pub owner: Owner,
    /// Bytes sent, where this kernel counts them.
    pub bytes_sent: Option<u64>,
    /// Bytes received, likewise.
    pub bytes_received: Option<u64>,
    /// Its subflows, the initial one first.
    pub subflows: Vec<Subflow>,
    /// Why it does not use every uplink of its family; none when it does.
    pub reason: Option<String>,
    /// What its living subflows deliver together; none where nothing is measured.
    pub figures: Option<Figures>,
}

/// A service type, and who has decided on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The service type.
    #[serde(rename = "type")]
    pub service: Service,
    /// Who has decided.
    #[serde(flatten)]
    pub why: Why,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opener {
    /// This machine.
    Us,
    /// The peer.
    Peer,
}

/// The way in which a subflow came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first of its connection (MP_CAPABLE).
    Initial,
    /// Added later (MP_JOIN).
    Join,
}

/// A subflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subflow {
    /// Its local end.
    pub local: SocketAddr,
    /// Its remote end.
    pub remote: SocketAddr,
    /// The id of the local address.
    pub local_id: u8,
    /// The id of the remote address.
    pub remote_id: u8,
    /// The interface that it is bound to, or else that of its address.
    pub interface: Option<String>,
    /// How it came to be.
    pub kind: Kind,
    /// This end asked for backup.
    pub backup_by_us: bool,
    /// The peer asked for backup.
    pub backup_by_peer: bool,
    /// The part that the daemon has it play; none where it does not decide.
    #[serde(default)]
    pub role: Option<Part>,
    /// Why it plays that.
    #[serde(default)]
    pub reason: Option<String>,
    /// The state of its socket (RFC 9293), as in `established`.
    pub state: String,
    /// The smoothed round-trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The rate at which data arrived at the peer of late, bits per second.
    pub delivery_bps: Option<u64>,
    /// Bytes sent, retransmitted ones included.
    pub bytes_sent: Option<u64>,
    /// Bytes that were retransmitted.
    pub bytes_retransmitted: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
    /// The name of its congestion control.
    pub congestion_control: Option<String>,
    /// What it delivers; none where nothing is measured.
    pub figures: Option<Figures>,
}

/// What else has to be known to judge connections.
pub(super) struct Surroundings<'a> {
    pub(super) uplinks: &'a [Uplink],
    pub(super) endpoints: &'a [&'a Endpoint],
    /// All addresses with the names of their interfaces; without them subflows that are not bound have none.
    pub(super) addresses: Vec<(String, Option<IpAddr>)>,
    /// What is measured.
    pub(super) figures: &'a Lookup<'a>,
    /// Which service types there are, for the connections that the daemon manages.
    pub(super) served: BTreeMap<Token, Served>,
}

impl Connections {
    /// Reads sock_diag. What cannot be read is noted: the rest of the status does not depend on it.
    pub async fn read(
        uplinks: &[Uplink],
        endpoints: &[&Endpoint],
        figures: &Lookup<'_>,
        served: BTreeMap<Token, Served>,
    ) -> Self {
        let addresses = interfaces::addresses().unwrap_or_default();
        let surroundings = Surroundings { uplinks, endpoints, addresses, figures, served };
        let read = match Diag::open() {
            Ok(mut diag) => diag.connections().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(read) => Self::of(&read.known, &surroundings),
            Err(error) => Self { note: Some(error.to_string()), ..Self::default() },
        }
    }

    /// Whether a connection has fallen back to plain TCP; none when there is none with this token.
    ///
    /// # Errors
    /// When sock_diag cannot be read.
    pub async fn has_fallen_back(token: Token) -> Result<Option<bool>, transport::Error> {
        let known = Diag::open()?.connections().await?.known;
        let found = known.iter().find(|connection| connection.info.token == token);
        Ok(found.map(|connection| connection.info.flags.contains(MptcpFlags::FALLBACK)))
    }

    fn of(known: &[diag::Connection], surroundings: &Surroundings<'_>) -> Self {
        let mut known: Vec<&diag::Connection> = known.iter().collect();
        known.sort_by_key(|connection| (connection.socket.remote, connection.socket.local));
        let listed = known.iter().take(MOST).map(|connection| Connection::new(connection, surroundings));
        Self { total: known.len(), listed: listed.collect(), note: None }
    }
}

impl Connection {
    fn new(seen: &diag::Connection, surroundings: &Surroundings<'_>) -> Self {
        let mut subflows: Vec<Subflow> = seen
            .subflows
            .iter()
            .map(|subflow| Subflow::new(subflow, seen.info.token, surroundings))
            .collect();
        subflows.sort_by_key(|subflow| (subflow.kind == Kind::Join, subflow.local_id, subflow.remote_id));
        let served = surroundings.served.get(&seen.info.token);
        let mut owner = served.map(|served| served.owner.clone()).unwrap_or_default();
        owner.complete(Owner { uid: Some(seen.socket.uid), ..Owner::default() });
        let mut connection = Self {
            token: seen.info.token,
            local: seen.socket.local,
            remote: seen.socket.remote,
            state: word(seen.socket.state),
            opened_by: opener(&seen.subflows),
            fallback: seen.info.flags.contains(MptcpFlags::FALLBACK),
            service: served.and_then(|served| served.service).map(|(service, why)| Decided { service, why }),
            owner,
            bytes_sent: seen.info.bytes_sent,
            bytes_received: seen.info.bytes_received,
            subflows,
            reason: None,
            figures: surroundings.figures.connection(seen.info.token),
        };
        connection.reason = reason::find(&connection, &seen.info, surroundings);
        connection
    }
}

impl Subflow {
    fn new(seen: &diag::Subflow, token: u32, surroundings: &Surroundings<'_>) -> Self {
        let flags = seen.info.flags;
        let tcp = seen.tcp.as_ref();
        let served = surroundings.served.get(&token);
        let part = served.and_then(|served| served.part(seen.socket.local, seen.socket.remote));
        let joined = flags.intersects(SubflowFlags::JOIN_LOC | SubflowFlags::JOIN_REM);
        Self {
            local: seen.socket.local,
            remote: seen.socket.remote,
            local_id: seen.info.id_local,
            remote_id: seen.info.id_remote,
            interface: surroundings.interface(seen.socket.ifindex, seen.socket.local.ip()),
            kind: if joined { Kind::Join } else { Kind::Initial },
            backup_by_us: flags.contains(SubflowFlags::BKUP_LOC),
            backup_by_peer: flags.contains(SubflowFlags::BKUP_REM),
            role: part.map(|(part, _)| part),
            reason: part.map(|(_, why)| why.to_owned()),
            state: word(seen.socket.state),
            rtt_ms: tcp.map(|tcp| tcp.rtt.as_secs_f64() * 1e3).filter(|rtt| *rtt > 0.0),
            delivery_bps: tcp.map(|tcp| tcp.delivery_rate.saturating_mul(8)).filter(|rate| *rate > 0),
            bytes_sent: tcp.map(|tcp| tcp.bytes_sent),
            bytes_retransmitted: tcp.map(|tcp| tcp.bytes_retrans),
            bytes_received: tcp.map(|tcp| tcp.bytes_received),
            congestion_control: seen.congestion.clone(),
            figures: surroundings.figures.subflow(token, seen.socket.local, seen.socket.remote),
        }
    }

    fn is_established(&self) -> bool {
        self.state == word(State::Established)
    }
}

impl Surroundings<'_> {
    fn interface(&self, bound: Option<IfIndex>, addr: IpAddr) -> Option<String> {
        let name = |ifindex| self.uplinks.iter().find(|uplink| uplink.ifindex == ifindex);
        let of_address = || self.addresses.iter().find(|(_, known)| *known == Some(addr));
        let bound = bound.and_then(name).map(|uplink| uplink.name.clone());
        bound.or_else(|| of_address().map(|(name, _)| name.clone()))
    }
}

/// Who opens a connection sends the first MP_CAPABLE and every MP_JOIN of its own; the other end answers.
fn opener(subflows: &[diag::Subflow]) -> Option<Opener> {
    let initial = subflows.iter().find(|subflow| subflow.info.flags.contains(SubflowFlags::MCAP_REM))?;
    let is_ours = initial.info.flags.contains(SubflowFlags::MCAP_LOC);
    Some(if is_ours { Opener::Us } else { Opener::Peer })
}

/// The name of a state, as `ss` has it but in one way: `fin-wait-1`.
fn word(state: State) -> String {
    let word = match state {
        State::Established => "established",
        State::SynSent => "syn-sent",
        State::SynRecv | State::NewSynRecv => "syn-received",
        State::FinWait1 => "fin-wait-1",
        State::FinWait2 => "fin-wait-2",
        State::TimeWait => "time-wait",
        State::Close => "closed",
        State::CloseWait => "close-wait",
        State::LastAck => "last-ack",
        State::Listen => "listening",
        State::Closing => "closing",
        State::Unknown => "unknown",
    };
    word.into()
}
