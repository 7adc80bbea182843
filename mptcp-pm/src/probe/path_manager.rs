//! Tries the kernel's path managers in a network namespace that nobody else is in, and that ends with the trial.
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};

use super::Feature;
use crate::core::world::{EndpointFlags, IfIndex, Limits, Sysctl};
use crate::netlink::diag::{Connection, Diag, Subflow};
use crate::netlink::diag_wire::SubflowFlags;
use crate::netlink::mptcp::{Events, Mptcp, NewEndpoint, NewSubflow, Notice};
use crate::netlink::mptcp_wire::event::Kind;
use crate::netlink::route::Routes;
use crate::sysctl;

/// The loopback interface is the first of each namespace.
const LOOPBACK: IfIndex = 1;
/// For what happens within the kernel.
const PATIENCE: Duration = Duration::from_secs(2);

const USERSPACE: &str = "userspace-path-manager";
const MANAGED: &str = "manager = \"daemon\" is not possible";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// All of it; nothing but that it is unknown where no namespace can be made.
pub(super) fn features() -> Vec<Feature> {
    fn unknown(why: String) -> Vec<Feature> {
        vec![Feature::unknown("path-manager", why)]
    }
    let trial = || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => in_this_namespace().unwrap_or_else(|error| unknown(error.to_string())),
        Err(errno) => {
            unknown(format!("making a network namespace to try it in (needs CAP_SYS_ADMIN): {errno}"))
        }
    };
    thread::spawn(trial).join().unwrap_or_else(|_| unknown("the trial ended early".into()))
}

fn in_this_namespace() -> Result<Vec<Feature>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut mptcp = match Mptcp::open().await {
            Ok(mptcp) => mptcp,
            Err(error) => return Ok(vec![Feature::no("path-manager", error.to_string())]),
        };
        let mut features = vec![
            Feature::yes("path-manager", ""),
            laminar(&mut mptcp).await?,
            limits(&mut mptcp).await?,
            endpoints(&mut mptcp).await?,
        ];
        features.extend(userspace(&mut mptcp).await?);
        Ok(features)
    })
}

fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn endpoint(last: u8, flags: EndpointFlags) -> NewEndpoint {
    NewEndpoint { addr: local(last), port: 0, id: NonZeroU8::new(last), ifindex: None, flags }
}

/// A kernel drops the flags that it does not know, or keeps them and does nothing about them; nobody keeps one flag that
/// has a name and not the other, which never will have one.
async fn laminar(mptcp: &mut Mptcp) -> Result<Feature, Failure> {
    let nameless = EndpointFlags::from_bits_retain(1 << 31);
    mptcp.add_endpoint(&endpoint(1, EndpointFlags::LAMINAR | nameless)).await?;
    let flags = mptcp.endpoint(1).await?.flags;
    mptcp.flush().await?;
    Ok(match flags.contains(EndpointFlags::LAMINAR) && !flags.contains(nameless) {
        true => Feature::yes("laminar", ""),
        false => Feature::no("laminar", "the flag does not stay, or stays as any other would"),
    })
}

/// The greatest limit of subflows that the kernel takes.
async fn limits(mptcp: &mut Mptcp) -> Result<Feature, Failure> {
    let (mut taken, mut refused) = (0u32, 256);
    while refused - taken > 1 {
        let subflows = taken.midpoint(refused);
        match mptcp.set_limits(Limits { subflows, add_addr_accepted: 0 }).await {
            Ok(()) => taken = subflows,
            Err(_) => refused = subflows,
        }
    }
    mptcp.set_limits(Limits { subflows: taken.min(2), add_addr_accepted: 0 }).await?;
    Ok(Feature::yes("most-subflows", taken.to_string()))
}

/// How many endpoints there can be.
async fn endpoints(mptcp: &mut Mptcp) -> Result<Feature, Failure> {
    let mut made = 0;
    for last in 1..=u8::MAX {
        match mptcp.add_endpoint(&endpoint(last, EndpointFlags::SIGNAL)).await {
            Ok(()) => made += 1,
            Err(error) if error.is_full() => break,
            Err(error) => return Err(error.into()),
        }
    }
    mptcp.flush().await?;
    Ok(Feature::yes("most-endpoints", made.to_string()))
}

/// The userspace path manager, and what it makes of what it is told.
async fn userspace(mptcp: &mut Mptcp) -> Result<Vec<Feature>, Failure> {
    let by_sysctl = match (sysctl::read(&Sysctl::PathManager)?, sysctl::read(&Sysctl::PathManagerType)?) {
        (Some(_), _) => sysctl::write(&Sysctl::PathManager, "userspace").map(|()| "net.mptcp.path_manager"),
        (None, Some(_)) => sysctl::write(&Sysctl::PathManagerType, "1").map(|()| "net.mptcp.pm_type"),
        (None, None) => {
            let why = "there is neither net.mptcp.path_manager nor net.mptcp.pm_type";
            return Ok(vec![Feature::no(USERSPACE, why).serves(MANAGED)]);
        }
    };
    let manager = Feature::tried(USERSPACE, by_sysctl).serves(MANAGED);
    let subflow = match subflow(mptcp).await {
        Ok(features) => features,
        Err(error) => vec![Feature::unknown("userspace-subflow", error.to_string())],
    };
    Ok([vec![manager], subflow].concat())
}

/// A connection of the namespace with itself gets a second subflow.
async fn subflow(mptcp: &mut Mptcp) -> Result<Vec<Feature>, Failure> {
    Routes::open().await?.set_up(LOOPBACK).await?;
    let mut events = Events::open().await?;
    let pair = connect()?;
    let connection = own(&pair.client).await?;
    let token = connection.info.token;
    let new = NewSubflow {
        local: local(2),
        local_id: 7,
        ifindex: Some(LOOPBACK),
        backup: true,
        remote: connection.socket.remote,
    };
    if let Err(error) = mptcp.subflow_create(token, &new).await {
        return Ok(vec![Feature::no("userspace-subflow", error.to_string())]);
    }
    let established = async {
        loop {
            match events.next().await {
                Ok(Notice::Event(event))
                    if event.kind == Kind::SubEstablished && event.token() == Some(token) =>
                {
                    break Ok(());
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        }
    };
    tokio::time::timeout(PATIENCE, established).await??;
    let subflows = own(&pair.client).await?.subflows;
    let made = subflows.iter().find(|subflow| subflow.info.id_local == new.local_id);
    let made = made.ok_or("the subflow is there, but sock_diag does not show it")?;
    let told = mptcp.endpoints_of(token).await?.unwrap_or_default();
    let listed = told.iter().any(|known| known.addr == new.local);
    Ok(judge(made, listed))
}

fn judge(made: &Subflow, listed: bool) -> Vec<Feature> {
    let which = |is_so: bool, feature: &str, why: &str, without| {
        if is_so { Feature::yes(feature, "") } else { Feature::no(feature, why) }.serves(without)
    };
    vec![
        Feature::yes("userspace-subflow", ""),
        which(
            made.info.flags.contains(SubflowFlags::BKUP_LOC),
            "userspace-backup",
            "a subflow that is to stand by begins as any other",
            "what stands by carries until its priority has been told to the peer",
        ),
        which(
            made.socket.ifindex == Some(LOOPBACK),
            "userspace-interface",
            "a subflow is not bound to the interface that it is to use",
            "rules and routes by the address alone lead a connection's further subflows",
        ),
        which(
            listed,
            "userspace-addresses",
            "the addresses of a connection are not listed",
            "after a restart the connections of an earlier daemon are not recognised",
        ),
    ]
}

/// Both ends of a connection, and what listened.
struct Pair {
    client: Socket,
    _server: Socket,
    _listener: Socket,
}

fn connect() -> Result<Pair, Failure> {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let listener = socket()?;
    listener.bind(&SocketAddr::new(local(1), 0).into())?;
    listener.listen(1)?;
    let client = socket()?;
    client.connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (server, _) = listener.accept()?;
    // Data in both directions and its acknowledgement make the connection fully established.
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (mut from, mut to) = (from, to);
        to.set_read_timeout(Some(PATIENCE))?;
        from.write_all(&[0])?;
        to.read_exact(&mut [0])?;
    }
    Ok(Pair { client, _server: server, _listener: listener })
}

/// What sock_diag knows of the connection that a socket is one end of.
async fn own(client: &Socket) -> Result<Connection, Failure> {
    let here = client.local_addr()?.as_socket();
    let known = Diag::open()?.connections().await?.known;
    let own = known.into_iter().find(|connection| Some(connection.socket.local) == here);
    Ok(own.ok_or("sock_diag does not show the connection")?)
}
