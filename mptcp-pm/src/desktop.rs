//! What the services of a desktop tell over D-Bus becomes events for the core.
//!
//! ```text
//! NetworkManager ─┐
//! UPower ─────────┼─ signals ─> follow (a task) ── watch channel ──> Event::Desktop
//! the bus ────────┘
//! ```
//! None of them has to be there. While nothing is told, nothing wakes: where there is no bus, its socket is awaited.
mod bus;
mod follow;
mod network_manager;

use std::collections::BTreeSet;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::core::event::Event;
use crate::core::hints;
use crate::view::status;
use follow::Heard;

/// How long the start waits for who is on the bus.
const PATIENCE: Duration = Duration::from_secs(1);

/// The services of the desktop, as far as the configuration wants them heard.
pub struct Desktop {
    wanted: Wanted,
    heard: watch::Receiver<Heard>,
    task: Option<JoinHandle<()>>,
    /// Interfaces of VPNs, as the dispatcher's hook tells.
    vpns: BTreeSet<String>,
}

/// Who is to be heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    network_manager: bool,
    power: bool,
}

impl Desktop {
    /// Hears nobody yet.
    pub fn new() -> Self {
        Self {
            wanted: Wanted::default(),
            heard: watch::channel(Heard::default()).1,
            task: None,
            vpns: BTreeSet::new(),
        }
    }

    /// Hears whom the configuration wants heard, from now on. Needs a tokio runtime around it.
    pub fn follow(&mut self, config: &Config) {
        let network_manager = config.desktop.network_manager;
        let wanted = Wanted { network_manager, power: config.holds_back() };
        if std::mem::replace(&mut self.wanted, wanted) == wanted {
            return;
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let nobody = Heard { complete: wanted == Wanted::default(), ..Heard::default() };
        let (sender, mut heard) = watch::channel(nobody);
        // What was heard before and is not wanted any more is to be forgotten.
        heard.mark_changed();
        self.heard = heard;
        self.task = (wanted != Wanted::default()).then(|| tokio::spawn(follow::follow(wanted, sender)));
    }

    /// Waits until those who are there have answered, but not for long: what would be decided without them would soon be
    /// decided again.
    pub async fn first(&mut self) -> Event {
        drop(tokio::time::timeout(PATIENCE, self.heard.wait_for(|heard| heard.complete)).await);
        self.event()
    }

    /// Waits until something else is told. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        match self.heard.changed().await {
            Ok(()) => self.event(),
            // Nobody is heard, and all that was said is told.
            Err(_) => std::future::pending().await,
        }
    }

    /// The dispatcher's hook says that an interface is a VPN's, or no longer is.
    pub fn vpn(&mut self, interface: String, up: bool) -> Event {
        match up {
            true => self.vpns.insert(interface),
            false => self.vpns.remove(&interface),
        };
        self.event()
    }

    /// Who is heard.
    pub fn status(&self) -> status::Desktop {
        let heard = self.heard.borrow();
        status::Desktop { network_manager: heard.network_manager, on_battery: heard.on_battery }
    }

    fn event(&mut self) -> Event {
        self.vpns.retain(|name| if_nametoindex(name.as_str()).is_ok());
        let heard = self.heard.borrow_and_update();
        Event::Desktop(hints::Desktop {
            interfaces: heard.interfaces.clone(),
            vpns: self.vpns.clone(),
            on_battery: heard.on_battery,
        })
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
