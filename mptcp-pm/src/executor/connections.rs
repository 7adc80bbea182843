//! The connections: what sock_diag and the path manager know of them, and the steps for one of them.
use std::net::SocketAddr;

use nix::errno::Errno;

use super::{other, refused};
use crate::core::action::{Step, Token};
use crate::core::connections::{Ends, Manager, Seen, Subflow};
use crate::core::event::{Failure, FailureKind};
use crate::core::service::Owner;
use crate::core::world::EndpointFlags;
use crate::netlink::diag::{self, Diag};
use crate::netlink::diag_wire::{MptcpFlags, State, SubflowFlags};
use crate::netlink::mptcp::{Mptcp, NewSubflow, Target};
use crate::netlink::transport;

/// All connections that can have subflows, or still have some while they end: what one end has closed, data may yet go
/// through for long.
pub async fn look(mptcp: &mut Mptcp) -> Result<Vec<Seen>, Failure> {
    let known = Diag::open().map_err(other)?.connections().await.map_err(other)?.known;
    let open = |connection: &diag::Connection| {
        (connection.socket.state == State::Established || is_ending(connection))
            && !connection.info.flags.contains(MptcpFlags::FALLBACK)
    };
    let mut all = Vec::new();
    for connection in known.iter().filter(|connection| open(connection)) {
        all.extend(seen(mptcp, connection).await);
    }
    Ok(all)
}

/// One end has nothing more to send. The kernel refuses further subflows then (`mptcp_is_fully_established`,
/// net/mptcp/protocol.h).
const fn is_ending(connection: &diag::Connection) -> bool {
    matches!(connection.socket.state, State::FinWait1 | State::FinWait2 | State::CloseWait)
}

/// One of them; none when it has ended since.
async fn seen(mptcp: &mut Mptcp, connection: &diag::Connection) -> Option<Seen> {
    let token = connection.info.token;
    let (manager, addresses) = match mptcp.endpoints_of(token).await {
        Ok(Some(addresses)) if !addresses.is_empty() => (Manager::Daemon, addresses),
        Ok(_) => (Manager::Unknown, Vec::new()),
        Err(error) if error.is_not_found() => return None,
        Err(error) if error.errno() == Some(Errno::EINVAL) => (Manager::Kernel, Vec::new()),
        Err(_) => (Manager::Unknown, Vec::new()),
    };
    let flags = connection.subflows.iter().map(|subflow| subflow.info.flags);
    Some(Seen {
        token,
        manager,
        ends: Ends::new(connection.socket.local, connection.socket.remote),
        server_side: is_server_side(connection),
        established: flags.clone().any(|flags| flags.contains(SubflowFlags::FULLY_ESTABLISHED)),
        ending: is_ending(connection),
        subflows: connection.subflows.iter().filter_map(subflow).collect(),
        owner: Owner { uid: Some(connection.socket.uid), ..Owner::default() },
        addresses: addresses.iter().map(|known| (known.id, known.addr, known.flags)).collect(),
    })
}

/// Who opens a connection asks for MPTCP on each subflow; where none is left that tells, nothing is opened.
fn is_server_side(connection: &diag::Connection) -> bool {
    let has = |wanted| move |subflow: &&diag::Subflow| subflow.info.flags.intersects(wanted);
    let initial = connection.subflows.iter().find(has(SubflowFlags::MCAP_LOC | SubflowFlags::MCAP_REM));
    let ours = |subflow: &diag::Subflow| {
        subflow.info.flags.intersects(SubflowFlags::MCAP_LOC | SubflowFlags::JOIN_LOC)
    };
    !initial.map_or_else(|| connection.subflows.iter().any(ours), ours)
}

/// A subflow that lives, or is being established.
fn subflow(seen: &diag::Subflow) -> Option<Subflow> {
    let established = match seen.socket.state {
        State::Established | State::CloseWait => true,
        State::SynSent => false,
        _ => return None,
    };
    // What a creation without a port is known by until its event comes.
    let local = match established {
        true => seen.socket.local,
        false => SocketAddr::new(seen.socket.local.ip(), 0),
    };
    let backup = seen.info.flags.contains(SubflowFlags::BKUP_LOC);
    let ends = Ends::new(local, seen.socket.remote);
    Some(Subflow::new(ends, seen.info.id_local, backup, established))
}

/// Carries out one step.
pub async fn perform(mptcp: &mut Mptcp, token: Token, step: &Step) -> Result<(), Failure> {
    let done = match step {
        Step::Create(new) => {
            let new = NewSubflow {
                local: new.local,
                local_id: new.id,
                ifindex: Some(new.ifindex),
                backup: new.backup,
                remote: new.remote,
            };
            mptcp.subflow_create(token, &new).await
        }
        Step::Destroy(ends, id) => {
            // First, since the kernel forgets the id with the subflow. Where it knows none there is nothing to tell.
            if let Err(error) = mptcp.remove(token, *id).await {
                tracing::debug!(%error, "not withdrawn");
            }
            mptcp.subflow_destroy(token, ends.local(), ends.remote()).await
        }
        Step::SetBackup(ends, on) => {
            let flags = if *on { EndpointFlags::BACKUP } else { EndpointFlags::empty() };
            mptcp.set_flags_of(token, Target::Addr(ends.local()), Some(ends.remote()), flags).await
        }
        Step::Announce(way, id) => {
            mptcp.announce(token, *id, SocketAddr::new(way.addr, 0), Some(way.ifindex)).await
        }
        Step::Withdraw(_, id) => mptcp.remove(token, *id).await,
    };
    done.map_err(failure)
}

fn failure(error: transport::Error) -> Failure {
    let says = |words| error.refusal().is_some_and(|refusal| refusal.says(words));
    let kind = if error.is_not_found() {
        FailureKind::Gone
    } else if error.errno() == Some(Errno::ENOTCONN) {
        FailureKind::Ending
    } else if says("userspace PM not selected") {
        FailureKind::OtherManager
    } else {
        return refused(error);
    };
    Failure { kind, text: error.to_string() }
}
