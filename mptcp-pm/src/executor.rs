//! Carries out the core's actions and says how each went.
mod connections;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::alarms::Alarms;
use crate::core::action::{Action, NewEndpoint};
use crate::core::event::{Event, Failure, FailureKind};
use crate::core::world::{Endpoint, EndpointFlags, Observation, Sysctl};
use crate::netlink::diag::{Diag, Subflow};
use crate::netlink::diag_wire::State;
use crate::netlink::mptcp::{self, Mptcp, Target};
use crate::netlink::route::{self, Outcome, Routes};
use crate::netlink::transport::{self, Fault};
use crate::netlink::watch::Watch;
use crate::prober::Prober;
use crate::state::StateFile;
use crate::sysctl;

/// Everything that the daemon writes to.
pub struct Executor {
    /// The kernel's path manager.
    pub mptcp: Mptcp,
    /// Routes and rules.
    pub routes: Routes,
    /// What is ours.
    pub state: StateFile,
    /// Who asks other ends whether they are there.
    pub prober: Prober,
    /// Who notices silence.
    pub alarms: Alarms,
}

impl Executor {
    /// Carries out one action; the event is its answer.
    pub async fn perform(&mut self, action: Action, watch: &mut Watch) -> Event {
        tracing::debug!(?action, "action");
        match self.answer(&action, watch).await {
            Ok(event) => event,
            // Nothing is wrong: it is not there any more, or is managed otherwise.
            Err(failure)
                if matches!(
                    failure.kind,
                    FailureKind::Gone | FailureKind::OtherManager | FailureKind::Ending
                ) =>
            {
                tracing::debug!(subject = %action.subject(), reason = %failure.text, "not done");
                Event::Done(action, Err(failure))
            }
            Err(failure) => {
                tracing::warn!(subject = %action.subject(), error = %failure.text, "not done");
                Event::Done(action, Err(failure))
            }
        }
    }

    async fn answer(&mut self, action: &Action, watch: &mut Watch) -> Result<Event, Failure> {
        match action {
            Action::Resync => watch.snapshot().await.map(Event::Resynced).map_err(other),
            Action::Observe(sysctls) => self.observe(sysctls).await.map(Event::Observed),
            Action::LookAtConnections => connections::look(&mut self.mptcp).await.map(Event::Connections),
            action => self.write(action).await.map(|()| {
                announce(action);
                Event::Done(action.clone(), Ok(()))
            }),
        }
    }

    async fn observe(&mut self, wanted: &[Sysctl]) -> Result<Observation, Failure> {
        let endpoints = self.mptcp.endpoints().await.map_err(refused)?;
        let limits = Some(self.mptcp.limits().await.map_err(refused)?);
        let mut sysctls = BTreeMap::new();
        for key in wanted {
            // An interface that has just gone has no sysctl either.
            if let Some(value) = sysctl::read(key).map_err(other)? {
                sysctls.insert(key.clone(), value);
            }
        }
        Ok(Observation { endpoints, limits, sysctls })
    }

    async fn write(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Save(owned) => self.state.save(owned).map_err(other),
            Action::WriteSysctl(key, value) => sysctl::write(key, value).map_err(other),
            Action::SetLimits(limits) => self.mptcp.set_limits(*limits).await.map_err(refused),
            Action::AddRoute(route) => added(self.routes.add_route(route).await),
            Action::ChangeRoute(route) => self.routes.change_route(route).await.map(drop).map_err(other),
            Action::DeleteRoute(route) => self.routes.delete_route(route).await.map(drop).map_err(other),
            Action::AddRule(rule) => added(self.routes.add_rule(rule).await),
            Action::DeleteRule(rule) => self.routes.delete_rule(rule).await.map(drop).map_err(other),
            Action::AddEndpoint(new) => self.add_endpoint(new).await,
            // Where somebody was quicker there is nothing to do; the core reads the endpoints again.
            Action::DeleteEndpoint(endpoint)
            | Action::RetireEndpoint(endpoint)
            | Action::SetBackup(endpoint, _)
            | Action::RetrySubflows(endpoint)
                if !self.is_there(endpoint).await.map_err(refused)? =>
            {
                Ok(())
            }
            Action::DeleteEndpoint(endpoint) => self.delete_endpoint(endpoint.id).await,
            Action::RetireEndpoint(old) if is_needed(old.addr).await? => {
                Err(other("a connection has no other path, so the uplink is not held back yet"))
            }
            Action::RetireEndpoint(endpoint) => self.delete_endpoint(endpoint.id).await,
            Action::RetrySubflows(old) if carries_subflow(old.addr).await? => {
                Err(other("another connection has a subflow there, which a new attempt would close"))
            }
            Action::RetrySubflows(old) => self.delete_endpoint(old.id).await,
            Action::SetBackup(endpoint, on) => {
                let mut flags = endpoint.flags;
                flags.set(EndpointFlags::BACKUP, *on);
                self.mptcp.set_flags(Target::Id(endpoint.id), flags).await.map_err(refused)
            }
            Action::CloseInitial(addr) if is_needed(*addr).await? => {
                tracing::debug!(%addr, "initial subflows are left alone, as a connection has no other path");
                Ok(())
            }
            Action::CloseInitial(addr) => self.mptcp.delete_endpoint(0, Some(*addr)).await.map_err(refused),
            Action::Ask(probe) => {
                self.prober.ask(*probe);
                Ok(())
            }
            Action::Bear(ifindex, silence) => {
                self.alarms.bear(*ifindex, *silence);
                Ok(())
            }
            Action::Manage(token, step) => connections::perform(&mut self.mptcp, *token, step).await,
            Action::Resync | Action::Observe(_) | Action::LookAtConnections => Ok(()),
        }
    }
}

impl Executor {
    async fn add_endpoint(&mut self, new: &NewEndpoint) -> Result<(), Failure> {
        let endpoint = mptcp::NewEndpoint {
            addr: new.addr,
            port: 0,
            id: None,
            ifindex: Some(new.ifindex),
            flags: new.flags,
        };
        self.mptcp.add_endpoint(&endpoint).await.map_err(refused)
    }

    async fn delete_endpoint(&mut self, id: u8) -> Result<(), Failure> {
        match self.mptcp.delete_endpoint(id, None).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result.map_err(refused),
        }
    }

    /// Whether an id still means the endpoint that it meant when it was read.
    async fn is_there(&mut self, endpoint: &Endpoint) -> Result<bool, transport::Error> {
        match self.mptcp.endpoint(endpoint.id).await {
            Ok(seen) => {
                Ok((seen.addr, seen.port, seen.ifindex) == (endpoint.addr, endpoint.port, endpoint.ifindex))
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a subflow from an address lives: not one that is itself an attempt, nor one that lingers after its end, which
/// MPTCP closes when all that it carried has arrived.
async fn carries_subflow(addr: IpAddr) -> Result<bool, Failure> {
    Ok(living().await?.iter().any(|subflow| is_from(subflow, addr)))
}

/// Whether a connection has no subflow but one from an address.
async fn is_needed(addr: IpAddr) -> Result<bool, Failure> {
    let subflows = living().await?;
    let (here, elsewhere): (Vec<_>, Vec<_>) = subflows.iter().partition(|subflow| is_from(subflow, addr));
    let other = |token| elsewhere.iter().any(|subflow| subflow.info.token_local == token);
    Ok(here.iter().any(|subflow| !other(subflow.info.token_local)))
}

async fn living() -> Result<Vec<Subflow>, Failure> {
    let subflows = Diag::open().map_err(other)?.subflows().await.map_err(other)?;
    let lives = |state| matches!(state, State::Established | State::CloseWait | State::SynRecv);
    Ok(subflows.into_iter().filter(|subflow| lives(subflow.socket.state)).collect())
}

fn is_from(subflow: &Subflow, addr: IpAddr) -> bool {
    subflow.socket.local.ip().to_canonical() == addr
}

/// What an owner reads in the log: the acts on endpoints; routes and the like are details.
fn announce(action: &Action) {
    match action {
        Action::AddEndpoint(new) => {
            tracing::info!(addr = %new.addr, ifindex = new.ifindex, flags = %new.flags, "endpoint added");
        }
        Action::RetrySubflows(old) => {
            tracing::info!(addr = %old.addr, "subflows that failed are tried again")
        }
        Action::DeleteEndpoint(old) | Action::RetireEndpoint(old) => {
            tracing::info!(addr = %old.addr, id = old.id, "endpoint deleted")
        }
        Action::SetBackup(endpoint, on) => {
            tracing::info!(addr = %endpoint.addr, id = endpoint.id, backup = on, "endpoint changed");
        }
        _ => {}
    }
}

/// What stands in the place of a route or rule need not be the same one: the core has to look.
fn added(result: Result<Outcome, route::Error>) -> Result<(), Failure> {
    match result.map_err(other)? {
        Outcome::Done => Ok(()),
        Outcome::AlreadySo => {
            Err(Failure { kind: FailureKind::Exists, text: "something else is in its place".to_owned() })
        }
    }
}

fn refused(error: transport::Error) -> Failure {
    let kind = if error.is_exists() {
        FailureKind::Exists
    } else if error.is_full() {
        FailureKind::Full
    } else if error.errno() == Some(Errno::EINVAL) {
        FailureKind::Invalid
    } else if !matches!(error.fault, Fault::Refused(_) | Fault::Unsupported(_)) {
        FailureKind::Unanswered
    } else {
        FailureKind::Other
    };
    Failure { kind, text: error.to_string() }
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Other, text: error.to_string() }
}
