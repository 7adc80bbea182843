//! The methods, the property and the signal of the interface.
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use zbus::fdo::{self, DBusProxy};
use zbus::message::Header;
use zbus::names::OwnedUniqueName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface};

use super::Subscribers;
use crate::control::protocol::{Peer, Reply, Request};
use crate::control::server::{Call, answer};
use crate::core::service::Service;

/// So many may subscribe.
const MOST: usize = 64;

/// What is on the bus.
pub(super) struct Daemon {
    calls: mpsc::Sender<Call>,
    subscribers: watch::Sender<Subscribers>,
}

impl Daemon {
    pub(super) fn new(calls: mpsc::Sender<Call>, subscribers: watch::Sender<Subscribers>) -> Self {
        Self { calls, subscribers }
    }

    async fn ask(&self, request: Request, uid: u32) -> fdo::Result<Value> {
        match answer(request, Peer { uid, pid: None }, &self.calls).await {
            Reply::Ok(value) => Ok(value),
            Reply::Error(failure) => Err(fdo::Error::Failed(failure.to_string())),
        }
    }
}

/// Nobody in particular: for what everybody may ask.
const ANYBODY: u32 = u32::MAX;

#[interface(name = "mptcp_pm.Daemon1")]
impl Daemon {
    /// The daemon's version.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// What `mptcp-pm status --json` prints.
    #[zbus(out_args("status"))]
    async fn get_status(&self) -> fdo::Result<String> {
        Ok(self.ask(Request::Status {}, ANYBODY).await?.to_string())
    }

    /// A connection's service type, and who has decided it.
    #[zbus(out_args("service", "by"))]
    async fn get_service(&self, token: u32) -> fdo::Result<(String, String)> {
        let service = self.ask(Request::ServiceOf { token }, ANYBODY).await?;
        let text = |name: &str| service[name].as_str().unwrap_or_default().to_owned();
        Ok((text("type"), text("by")))
    }

    /// Sets a connection's service type by hand, as `mptcp-pm service set` does; an empty one leaves it to the rules again.
    async fn set_service(
        &self,
        token: u32,
        service: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<()> {
        let service: Option<Service> =
            match service {
                "" => None,
                name => Some(serde_json::from_value(name.into()).map_err(|error| {
                    fdo::Error::InvalidArgs(format!("{name:?} is no service type: {error}"))
                })?),
            };
        let uid = uid(&header, connection).await?;
        self.ask(Request::Service { token, service }, uid).await.map(drop)
    }

    /// Asks for the signal from now on, until the caller unsubscribes or leaves the bus.
    async fn subscribe(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<()> {
        let caller = caller(&header)?;
        if self.subscribers.borrow().len() >= MOST {
            return Err(fdo::Error::LimitsExceeded(format!(
                "{MOST} have subscribed already: try again later"
            )));
        }
        self.subscribers.send_if_modified(|subscribers| subscribers.insert(caller));
        Ok(())
    }

    /// Asks for no more signals.
    async fn unsubscribe(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<()> {
        let caller = caller(&header)?;
        self.subscribers.send_if_modified(|subscribers| subscribers.remove(&caller));
        Ok(())
    }

    /// Something has happened to a path; only subscribers are told.
    #[zbus(signal)]
    pub(super) async fn path_changed(
        emitter: &SignalEmitter<'_>,
        token: u32,
        change: &str,
        uplink: &str,
        local: &str,
        remote: &str,
    ) -> zbus::Result<()>;
}

fn caller(header: &Header<'_>) -> fdo::Result<OwnedUniqueName> {
    let sender = header.sender().ok_or_else(|| fdo::Error::Failed("a call without a sender".into()))?;
    Ok(sender.to_owned().into())
}

/// Who calls, by the bus's word.
async fn uid(header: &Header<'_>, connection: &Connection) -> fdo::Result<u32> {
    let bus = DBusProxy::new(connection).await?;
    let caller = caller(header)?;
    bus.get_connection_unix_user(caller.inner().clone().into()).await
}
