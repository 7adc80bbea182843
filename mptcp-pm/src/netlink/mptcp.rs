//! A client of the kernel's path managers: endpoints, limits, and the connections of the userspace one.
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU8,
};

use netlink_packet_core::DecodeError;
use netlink_packet_generic::constants::GENL_ID_CTRL;
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

pub use self::events::{Events, Notice};
use super::{
    mptcp_wire::{
        FAMILY,
        command::{self, AddrSpec, Attribute, Command},
        controller,
    },
    transport::{Client, Datagrams, Error, Fault, KernelSocket},
};
use crate::core::world::{Endpoint, EndpointFlags, IfIndex, Limits};

mod events;
mod user;

pub use user::NewSubflow;

/// The local number of a connection.
pub type Token = u32;

/// An endpoint to be added. The kernel checks little of it: an address that is not local, an interface that does
/// not exist and no flags at all are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// The local address.
    pub addr: IpAddr,
    /// The port to announce and to listen on; 0 for none.
    pub port: u16,
    /// The id; with none the kernel assigns one. 0 is not possible: it would make a hidden endpoint.
    pub id: Option<NonZeroU8>,
    /// The interface to bind its subflows to.
    pub ifindex: Option<IfIndex>,
    /// Its flags. Unknown ones are dropped silently: read the endpoint back.
    pub flags: EndpointFlags,
}

/// Which endpoint, or which local address of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// By its id.
    Id(u8),
    /// By its address, and its port where that is not 0.
    Addr(SocketAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id {id}"),
            Self::Addr(addr) if addr.port() == 0 => addr.ip().fmt(f),
            Self::Addr(addr) => addr.fmt(f),
        }
    }
}

impl Target {
    fn spec(self) -> AddrSpec {
        match self {
            Self::Id(id) => AddrSpec { id: Some(id), ..AddrSpec::default() },
            Self::Addr(addr) => spec_of(addr),
        }
    }
}

/// A connection to the path managers of the network namespace in which it was opened. Each request is one send
/// and one receive.
#[derive(Debug)]
pub struct Mptcp<S = KernelSocket> {
    client: Client<S>,
    family: u16,
    /// Whether the kernel tells the addresses of one connection, once that was found out.
    tells_endpoints: Option<bool>,
}

impl Mptcp {
    /// Opens a socket and looks the family up.
    ///
    /// # Errors
    /// A kernel without MPTCP.
    pub async fn open() -> Result<Self, Error> {
        let client =
            Client::open(NETLINK_GENERIC).map_err(|error| Error::new("open", "generic netlink", error))?;
        Self::over(client).await
    }
}

impl<S: Datagrams> Mptcp<S> {
    /// Speaks over another transport; looks the family up first.
    pub async fn over(mut client: Client<S>) -> Result<Self, Error> {
        let family = look_up(&mut client).await?.id;
        Ok(Self { client, family, tells_endpoints: None })
    }

    /// All endpoints.
    pub async fn endpoints(&mut self) -> Result<Vec<Endpoint>, Error> {
        self.dump(&[]).await.map_err(|fault| Error::new("list", "endpoints", fault))
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn endpoint(&mut self, id: u8) -> Result<Endpoint, Error> {
        self.get_endpoint(None, id)
            .await
            .map_err(|fault| Error::new("get endpoint", format!("id {id}"), fault))
    }

    /// Adds an endpoint. Connections that are fully established already use it too.
    ///
    /// # Errors
    /// [`Error::is_exists`] (`EEXIST`: the address, `EBUSY`: the id), [`Error::is_full`]; `EINVAL` for flags that
    /// contradict each other. 6.1 says `EINVAL` for all: what it meant is then read off its endpoints.
    pub async fn add_endpoint(&mut self, new: &NewEndpoint) -> Result<(), Error> {
        let spec = AddrSpec {
            addr: Some(new.addr),
            port: Some(new.port).filter(|port| *port != 0),
            id: new.id.map(NonZeroU8::get),
            flags: Some(new.flags),
            ifindex: new.ifindex,
        };
        let Err(mut fault) = self.change(Command::AddAddr, &[Attribute::Addr(spec.attributes())]).await
        else {
            return Ok(());
        };
        if let Fault::Refused(refusal) = &mut fault
            && refusal.errno == Errno::EINVAL
            && refusal.says("too many addresses or duplicate one")
            && let Ok(endpoints) = self.dump(&[]).await
        {
            refusal.errno = what_was_meant(new, &endpoints);
        }
        Err(Error::new("add endpoint", new.addr, fault))
    }

    /// Deletes an endpoint by its id, and with it the subflows it has made. An address is needed, and used, only
    /// with id 0: that ends the initial subflow of the connections from that address.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn delete_endpoint(&mut self, id: u8, addr: Option<IpAddr>) -> Result<(), Error> {
        let spec = AddrSpec { id: Some(id), addr, ..AddrSpec::default() };
        self.change(Command::DelAddr, &[Attribute::Addr(spec.attributes())])
            .await
            .map_err(|fault| Error::new("delete endpoint", format!("id {id}"), fault))
    }

    /// Deletes all endpoints.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.change(Command::FlushAddrs, &[])
            .await
            .map_err(|fault| Error::new("delete", "all endpoints", fault))
    }

    /// Sets `backup` and `fullmesh` of an endpoint as they are in `flags`; the kernel ignores all other flags.
    /// A change of `fullmesh` ends its subflows and makes new ones.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn set_flags(&mut self, target: Target, flags: EndpointFlags) -> Result<(), Error> {
        let spec = AddrSpec { flags: Some(flags), ..target.spec() };
        self.change(Command::SetFlags, &[Attribute::Addr(spec.attributes())])
            .await
            .map_err(|fault| Error::new("set flags of endpoint", target, fault))
    }

    /// The limits per connection.
    pub async fn limits(&mut self) -> Result<Limits, Error> {
        self.get_limits().await.map_err(|fault| Error::new("get", "limits", fault))
    }

    /// Sets the limits per connection: that of subflows also for those that exist; whether peers may add addresses is
    /// settled when a socket is made.
    ///
    /// # Errors
    /// `EINVAL` above the kernel's maximum (8; 64 since 7.2).
    pub async fn set_limits(&mut self, limits: Limits) -> Result<(), Error> {
        let attributes =
            [Attribute::RcvAddAddrs(limits.add_addr_accepted), Attribute::Subflows(limits.subflows)];
        self.change(Command::SetLimits, &attributes).await.map_err(|fault| {
            let object =
                format!("subflows {}, add_addr_accepted {}", limits.subflows, limits.add_addr_accepted);
            Error::new("set limits", object, fault)
        })
    }

    async fn change(&mut self, command: Command, attributes: &[Attribute]) -> Result<(), Fault> {
        self.client.change(self.family, &command::encode(command, attributes)).await
    }

    async fn dump(&mut self, attributes: &[Attribute]) -> Result<Vec<Endpoint>, Fault> {
        let bodies = self.client.dump(self.family, &command::encode(Command::GetAddr, attributes)).await?;
        Ok(bodies.iter().map(|body| read_endpoint(body)).collect::<Result<_, _>>()?)
    }

    async fn get_endpoint(&mut self, token: Option<Token>, id: u8) -> Result<Endpoint, Fault> {
        let mut attributes = vec![Attribute::Addr(Target::Id(id).spec().attributes())];
        attributes.extend(token.map(Attribute::Token));
        let body = self.client.get(self.family, &command::encode(Command::GetAddr, &attributes)).await?;
        Ok(read_endpoint(&body)?)
    }

    async fn get_limits(&mut self) -> Result<Limits, Fault> {
        let body = self.client.get(self.family, &command::encode(Command::GetLimits, &[])).await?;
        Ok(command::limits(&command::decode(&body)?.1)?)
    }
}

/// Asks the controller for the family of the path managers.
async fn look_up<S: Datagrams>(client: &mut Client<S>) -> Result<controller::Family, Error> {
    let failed = |fault| Error::new("find generic-netlink family", FAMILY, fault);
    let body = client.get(GENL_ID_CTRL, &controller::encode(FAMILY)).await.map_err(|fault| match fault {
        Fault::Refused(refusal) if refusal.errno == Errno::ENOENT => failed(Fault::Unsupported(
            "this kernel has no MPTCP path manager; use one with CONFIG_MPTCP (since 5.6)",
        )),
        other => failed(other),
    })?;
    controller::decode(&body).map_err(|error| failed(error.into()))
}

fn read_endpoint(body: &[u8]) -> Result<Endpoint, DecodeError> {
    command::endpoint(&command::decode(body)?.1)
}

/// An address and its port, where that is not 0.
fn spec_of(addr: SocketAddr) -> AddrSpec {
    AddrSpec {
        addr: Some(addr.ip()),
        port: Some(addr.port()).filter(|port| *port != 0),
        ..AddrSpec::default()
    }
}

/// The error that 6.12 and later give where 6.1 says `EINVAL`.
fn what_was_meant(new: &NewEndpoint, endpoints: &[Endpoint]) -> Errno {
    let same_id = |endpoint: &&Endpoint| new.id.is_some_and(|id| id.get() == endpoint.id);
    if endpoints.iter().any(|endpoint| endpoint.addr == new.addr && endpoint.port == new.port) {
        Errno::EEXIST
    } else if endpoints.iter().any(|endpoint| same_id(&endpoint)) {
        Errno::EBUSY
    } else {
        Errno::ERANGE
    }
}
