//! The MPTCP connections of a network namespace and their subflows, read from sock_diag.
use std::{collections::HashMap, io};

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;

use super::{
    diag_wire::{
        Attribute, BY_FAMILY, Message, MptcpInfo, Protocol, Socket, State, SubflowInfo, TcpInfo,
        UlpAttribute, encode,
    },
    transport::{Client, Datagrams, Error, Fault, KernelSocket},
};
use crate::core::world::Family;

/// An MPTCP connection, as the application sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its socket: the addresses are those of the initial subflow.
    pub socket: Socket,
    /// Its token, limits and counters.
    pub info: MptcpInfo,
    /// Its subflows.
    pub subflows: Vec<Subflow>,
}

/// A TCP socket that is part of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subflow {
    /// The socket.
    pub socket: Socket,
    /// What MPTCP says of it.
    pub info: SubflowInfo,
    /// What TCP says of it.
    pub tcp: Option<TcpInfo>,
    /// The name of its congestion control.
    pub congestion: Option<String>,
}

/// All connections, and what belongs to none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// The connections with their subflows.
    pub known: Vec<Connection>,
    /// Subflows whose connection is not among them: it began or ended between the two dumps.
    pub strays: Vec<Subflow>,
}

/// Reads the sockets of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Diag<S = KernelSocket> {
    client: Client<S>,
}

impl Diag {
    /// Opens a socket.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<_> { Client::open(NETLINK_SOCK_DIAG) };
        open().map(Self::over).map_err(|error| Error::new("open", "sock_diag", error))
    }
}

impl<S: Datagrams> Diag<S> {
    /// Speaks over another transport.
    pub const fn over(client: Client<S>) -> Self {
        Self { client }
    }

    /// All connections with their subflows. Without CAP_NET_ADMIN the kernel names no subflows.
    ///
    /// # Errors
    /// A kernel without `mptcp_diag`: [`Self::subflows`] works all the same.
    pub async fn connections(&mut self) -> Result<Connections, Error> {
        let messages =
            self.dump(Protocol::Mptcp, connected()).await.map_err(|fault| failed("MPTCP", fault))?;
        let known = messages
            .into_iter()
            .map(connection)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed("MPTCP", error.into()))?;
        Ok(join(known, self.subflows().await?))
    }

    /// The subflows of all connections, with their local tokens. Needs CAP_NET_ADMIN.
    pub async fn subflows(&mut self) -> Result<Vec<Subflow>, Error> {
        let messages = self.dump(Protocol::Tcp, connected()).await.map_err(|fault| failed("TCP", fault))?;
        messages
            .into_iter()
            .filter_map(|message| subflow(message).transpose())
            .collect::<Result<_, _>>()
            .map_err(|error| failed("TCP", error.into()))
    }

    async fn dump(&mut self, protocol: Protocol, states: u32) -> Result<Vec<Message>, Fault> {
        let mut messages = Vec::new();
        for family in Family::BOTH {
            let bodies = self.client.dump(BY_FAMILY, &encode(family, protocol, states)).await;
            for body in bodies.map_err(|fault| missing(protocol, fault))? {
                messages.push(Message::decode(&body)?);
            }
        }
        Ok(messages)
    }
}

/// Every state of a socket that can be a subflow: the others have no MPTCP part.
const fn connected() -> u32 {
    !(State::Listen.bit() | State::TimeWait.bit() | State::NewSynRecv.bit())
}

fn failed(what: &'static str, fault: Fault) -> Error {
    Error::new("list", format!("{what} sockets"), fault)
}

/// The kernel loads the module that is asked for; `ENOENT` says that there is none.
fn missing(protocol: Protocol, fault: Fault) -> Fault {
    match (&fault, protocol) {
        (Fault::Refused(refusal), Protocol::Mptcp) if refusal.errno == Errno::ENOENT => Fault::Unsupported(
            "the kernel's module mptcp_diag is missing (CONFIG_INET_MPTCP_DIAG, since 5.9); \
             install the kernel package that has it, or run modprobe mptcp_diag as root",
        ),
        _ => fault,
    }
}

/// Puts subflows into the connections that their tokens name.
fn join(mut known: Vec<Connection>, subflows: Vec<Subflow>) -> Connections {
    let places: HashMap<u32, usize> =
        known.iter().enumerate().map(|(place, connection)| (connection.info.token, place)).collect();
    let mut strays = Vec::new();
    for subflow in subflows {
        match places.get(&subflow.info.token_local) {
            Some(place) => known[*place].subflows.push(subflow),
            None => strays.push(subflow),
        }
    }
    Connections { known, strays }
}

fn connection(message: Message) -> Result<Connection, DecodeError> {
    let info = message.attributes.iter().find_map(|attribute| match attribute {
        Attribute::Info(bytes) => Some(MptcpInfo::decode(&bytes.0)),
        _ => None,
    });
    let info = info.ok_or("an MPTCP socket without mptcp_info")??;
    Ok(Connection { socket: message.socket, info, subflows: Vec::new() })
}

/// The subflow that a TCP socket is, if it is one.
fn subflow(message: Message) -> Result<Option<Subflow>, DecodeError> {
    let Some(info) = message.attributes.iter().find_map(mptcp_part) else { return Ok(None) };
    let (mut tcp, mut congestion) = (None, None);
    for attribute in message.attributes {
        match attribute {
            Attribute::Info(bytes) => tcp = Some(TcpInfo::decode(&bytes.0)?),
            Attribute::Congestion(name) => congestion = Some(name),
            _ => {}
        }
    }
    Ok(Some(Subflow { socket: message.socket, info, tcp, congestion }))
}

fn mptcp_part(attribute: &Attribute) -> Option<SubflowInfo> {
    let Attribute::Ulp(ulp) = attribute else { return None };
    ulp.iter().find_map(|attribute| match attribute {
        UlpAttribute::Mptcp(attributes) => Some(attributes.as_slice().into()),
        _ => None,
    })
}
