//! The daemon's own interface on the system's D-Bus, for desktop applets: what `docs/dbus.md` describes.
//!
//! ```text
//! method calls ── interface ── Call (the control socket's channel) ──> daemon loop
//! subscribers <── session <── Feed ────────────────────────────────── daemon loop
//! ```
//! Without a bus there is none; the control socket has everything that is here. Nothing is told, nor made to be told,
//! while nobody has subscribed.
mod interface;

use std::collections::BTreeSet;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use zbus::fdo::{DBusProxy, NameOwnerChangedStream};
use zbus::names::{OwnedUniqueName, UniqueName};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Error, MessageStream};

use crate::bus::Bus;
use crate::control::feed::{Feed, Listener};
use crate::control::server::Call;
use interface::Daemon;

/// The well-known name and the interface. The project has no domain to begin it with; no domain begins so, since none at
/// the top has an underscore in its name.
const NAME: &str = "mptcp_pm.Daemon1";
/// The only object.
const PATH: &str = "/mptcp_pm/Daemon1";

/// Those who want to hear what happens to paths.
type Subscribers = BTreeSet<OwnedUniqueName>;

/// Serves whenever there is a bus.
pub async fn serve(calls: mpsc::Sender<Call>, feed: Feed) {
    let mut bus = Bus::default();
    loop {
        let messages = bus.connect(|| {}).await;
        let connection = Connection::from(&messages);
        let (sender, mut subscribers) = watch::channel(Subscribers::new());
        let served = match offer(&connection, Daemon::new(calls.clone(), sender.clone())).await {
            Ok(()) => tell(&connection, messages, &feed, &sender, &mut subscribers).await,
            // What is not allowed once is not the next time either.
            Err(error @ (Error::NameTaken | Error::MethodError(..) | Error::FDO(_))) => {
                return tracing::info!(%error, "not on D-Bus");
            }
            Err(error) => Err(error),
        };
        match served {
            Ok(()) => tracing::info!("the system's D-Bus has gone"),
            Err(error) => tracing::info!(%error, "the system's D-Bus has gone"),
        }
    }
}

async fn offer(connection: &Connection, daemon: Daemon) -> zbus::Result<()> {
    connection.object_server().at(PATH, daemon).await?;
    connection.request_name(NAME).await
}

/// Tells the subscribers what happens, until the bus goes.
async fn tell(
    connection: &Connection,
    mut messages: MessageStream,
    feed: &Feed,
    sender: &watch::Sender<Subscribers>,
    subscribers: &mut watch::Receiver<Subscribers>,
) -> zbus::Result<()> {
    let mut hearing: Option<Hearing> = None;
    loop {
        tokio::select! {
            message = messages.next() => if !matches!(message, Some(Ok(_))) { return Ok(()) },
            heard = next(hearing.as_mut()) => match heard {
                Heard::Event(event) => {
                    let to = subscribers.borrow().clone();
                    emit(connection, &event, &to).await?;
                }
                Heard::Gone(name) => {
                    sender.send_if_modified(|subscribers| subscribers.remove(&name));
                }
            },
            Ok(()) = subscribers.changed() => {
                let somebody = !subscribers.borrow_and_update().is_empty();
                match (somebody, &hearing) {
                    (true, None) => hearing = Some(Hearing::begin(connection, feed).await?),
                    (false, Some(_)) => {
                        hearing = None;
                        tracing::debug!("nobody on D-Bus listens any more");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What is heard while there are subscribers.
struct Hearing {
    events: Listener,
    owners: NameOwnerChangedStream,
}

impl Hearing {
    async fn begin(connection: &Connection, feed: &Feed) -> zbus::Result<Self> {
        Ok(Self {
            events: feed.follow(),
            owners: DBusProxy::new(connection).await?.receive_name_owner_changed().await?,
        })
    }
}

enum Heard {
    /// Something has happened.
    Event(Value),
    /// Somebody has left the bus.
    Gone(OwnedUniqueName),
}

/// For ever while nobody has subscribed. Cancelling it loses nothing.
async fn next(hearing: Option<&mut Hearing>) -> Heard {
    let Some(Hearing { events, owners }) = hearing else { return std::future::pending().await };
    tokio::select! {
        line = events.next() => Heard::Event(serde_json::from_str(&line).unwrap_or_default()),
        name = next_gone(owners) => Heard::Gone(name),
    }
}

async fn next_gone(owners: &mut NameOwnerChangedStream) -> OwnedUniqueName {
    while let Some(change) = owners.next().await {
        if let Ok(change) = change.args()
            && change.new_owner().is_none()
            && let Ok(name) = UniqueName::try_from(change.name().as_str())
        {
            return name.to_owned().into();
        }
    }
    // The bus has gone, which the messages tell.
    std::future::pending().await
}

/// One event, to each of the subscribers alone.
async fn emit(connection: &Connection, event: &Value, subscribers: &Subscribers) -> zbus::Result<()> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let token = event["token"].as_u64().and_then(|token| u32::try_from(token).ok()).unwrap_or_default();
    for subscriber in subscribers {
        let emitter =
            SignalEmitter::new(connection, PATH)?.set_destination(subscriber.inner().clone().into());
        let [change, uplink, local, remote] = ["event", "uplink", "local", "remote"].map(text);
        Daemon::path_changed(&emitter, token, change, uplink, local, remote).await?;
    }
    Ok(())
}
