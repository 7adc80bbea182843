//! What only the userspace path manager can do: the addresses, subflows and priorities of one connection.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::errno::Errno;

use super::{Mptcp, Target, Token, spec_of};
use crate::{
    core::world::{Endpoint, EndpointFlags, IfIndex},
    netlink::{
        mptcp_wire::command::{AddrSpec, Attribute, Command},
        transport::{Datagrams, Error, Fault},
    },
};

/// A subflow to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSubflow {
    /// Where it starts; the kernel picks the port.
    pub local: IpAddr,
    /// The id of the local address: not 0, and the same for one address in all of a connection.
    pub local_id: u8,
    /// The interface to bind it to (ignored by 6.1).
    pub ifindex: Option<IfIndex>,
    /// Whether it stands by (ignored by 6.1).
    pub backup: bool,
    /// Where it goes, port included.
    pub remote: SocketAddr,
}

impl<S: Datagrams> Mptcp<S> {
    /// The local addresses that the userspace path manager uses for a connection; none where the kernel does not tell
    /// them ([`Self::tells_endpoints`]).
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such connection, `EINVAL` when it is not the userspace path
    /// manager's.
    pub async fn endpoints_of(&mut self, token: Token) -> Result<Option<Vec<Endpoint>>, Error> {
        if !self.tells_endpoints().await? {
            return Ok(None);
        }
        self.dump_of(token).await.map(Some)
    }

    /// Whether the kernel tells these addresses (from 6.10): others list the endpoints of the kernel's path manager,
    /// whatever the token. Found out, once, by asking for a connection that cannot be, since no token is 0
    /// (`mptcp_token_new_connect`, net/mptcp/token.c).
    ///
    /// # Errors
    /// When the kernel answers otherwise.
    pub async fn tells_endpoints(&mut self) -> Result<bool, Error> {
        if let Some(known) = self.tells_endpoints {
            return Ok(known);
        }
        let tells = match self.dump_of(0).await {
            Ok(_) => false,
            // Older kernels call the token invalid (`mptcp_userspace_pm_dump_addr`, net/mptcp/pm_userspace.c).
            Err(error) if error.is_not_found() || error.errno() == Some(Errno::EINVAL) => true,
            Err(error) => return Err(error),
        };
        self.tells_endpoints = Some(tells);
        Ok(tells)
    }

    async fn dump_of(&mut self, token: Token) -> Result<Vec<Endpoint>, Error> {
        self.dump(&[Attribute::Token(token)])
            .await
            .map_err(|fault| Error::new("list addresses of", connection(token), fault))
    }

    /// One of the local addresses that the userspace path manager uses for a connection.
    pub async fn endpoint_of(&mut self, token: Token, id: u8) -> Result<Endpoint, Error> {
        self.get_endpoint(Some(token), id)
            .await
            .map_err(|fault| Error::new("get address", format!("id {id} of {}", connection(token)), fault))
    }

    /// Sets `backup` of the subflows from a local address, and tells the peer (MP_PRIO). Port 0 stands for any.
    ///
    /// # Errors
    /// `EINVAL` without a remote end; [`Error::is_not_found`].
    pub async fn set_flags_of(
        &mut self,
        token: Token,
        local: Target,
        remote: Option<SocketAddr>,
        flags: EndpointFlags,
    ) -> Result<(), Error> {
        let spec = AddrSpec { flags: Some(flags), ..local.spec() };
        let mut attributes = vec![Attribute::Addr(spec.attributes()), Attribute::Token(token)];
        attributes.extend(remote.map(|remote| Attribute::AddrRemote(spec_of(remote).attributes())));
        self.change(Command::SetFlags, &attributes).await.map_err(|fault| {
            Error::new("set priority of", format!("{local} in {}", connection(token)), fault)
        })
    }

    /// Announces a local address to the peer (ADD_ADDR). The id must not be 0; port 0 stands for the
    /// connection's own.
    pub async fn announce(
        &mut self,
        token: Token,
        id: u8,
        addr: SocketAddr,
        ifindex: Option<IfIndex>,
    ) -> Result<(), Error> {
        let spec = AddrSpec { id: Some(id), flags: Some(EndpointFlags::SIGNAL), ifindex, ..spec_of(addr) };
        self.change(Command::Announce, &[Attribute::Addr(spec.attributes()), Attribute::Token(token)])
            .await
            .map_err(|fault| {
                Error::new("announce", format!("{} to the peer of {}", addr.ip(), connection(token)), fault)
            })
    }

    /// Withdraws a local address from the peer (RM_ADDR) and ends its subflows.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn remove(&mut self, token: Token, id: u8) -> Result<(), Error> {
        self.change(Command::Remove, &[Attribute::Token(token), Attribute::LocId(id)]).await.map_err(
            |fault| Error::new("withdraw", format!("id {id} from the peer of {}", connection(token)), fault),
        )
    }

    /// Starts a subflow. It is established when the event says so.
    pub async fn subflow_create(&mut self, token: Token, new: &NewSubflow) -> Result<(), Error> {
        let mut flags = EndpointFlags::SUBFLOW;
        flags.set(EndpointFlags::BACKUP, new.backup);
        let local = AddrSpec {
            addr: Some(new.local),
            port: None,
            id: Some(new.local_id),
            flags: Some(flags),
            ifindex: new.ifindex,
        };
        self.change(Command::SubflowCreate, &path(token, &local, new.remote)).await.map_err(|fault| {
            Error::new(
                "create subflow",
                format!("{} to {} of {}", new.local, new.remote, connection(token)),
                fault,
            )
        })
    }

    /// Ends a subflow; both ports are needed.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn subflow_destroy(
        &mut self,
        token: Token,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), Error> {
        let mut done = self.destroy(token, local, remote).await;
        // The initial subflow of an IPv6 socket that speaks IPv4 is found by its mapped addresses only.
        if let (Err(Fault::Refused(refusal)), Some(local), Some(remote)) =
            (&done, mapped(local), mapped(remote))
            && refusal.errno == Errno::ESRCH
        {
            done = self.destroy(token, local, remote).await;
        }
        done.map_err(|fault| {
            Error::new("destroy subflow", format!("{local} to {remote} of {}", connection(token)), fault)
        })
    }

    async fn destroy(&mut self, token: Token, local: SocketAddr, remote: SocketAddr) -> Result<(), Fault> {
        self.change(Command::SubflowDestroy, &path(token, &spec_of(local), remote)).await
    }
}

fn path(token: Token, local: &AddrSpec, remote: SocketAddr) -> [Attribute; 3] {
    [
        Attribute::Token(token),
        Attribute::Addr(local.attributes()),
        Attribute::AddrRemote(spec_of(remote).attributes()),
    ]
}

/// The token as everywhere: the command line takes it from here.
fn connection(token: Token) -> String {
    format!("connection {token:#010x}")
}

fn mapped(addr: SocketAddr) -> Option<SocketAddr> {
    match addr.ip() {
        IpAddr::V4(ip) => Some(SocketAddr::new(Ipv4Addr::to_ipv6_mapped(&ip).into(), addr.port())),
        IpAddr::V6(_) => None,
    }
}
