//! What the services of a desktop tell over D-Bus becomes events for the core.
//!
//! ```text
//! NetworkManager ─┐
//! UPower ─────────┼─ signals ─> follow (a task) ── watch channel ──┐
//! the bus ────────┘                                                  ├─> Event::Desktop
//! the kernel ─── uevents ────> power (a task) ─── watch channel ───┘
//! ```
//! None of them has to be there. While nothing is told, nothing wakes: where there is no bus, its socket is awaited.
mod follow;
mod network_manager;
mod power;

use std::collections::BTreeSet;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
    /// Whether the machine runs on its battery, by the kernel's word.
    power: watch::Receiver<Option<bool>>,
    /// Dropping them ends them.
    tasks: JoinSet<()>,
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
            power: watch::channel(None).1,
            tasks: JoinSet::new(),
            vpns: BTreeSet::new(),
        }
    }

    /// Hears whom the configuration wants heard, from now on. Needs a tokio runtime around it.
    pub fn follow(&mut self, config: &Config) {
        let wanted = Wanted { network_manager: config.desktop.network_manager, power: config.holds_back() };
        if std::mem::replace(&mut self.wanted, wanted) == wanted {
            return;
        }
        self.tasks.abort_all();
        let (tell, mut heard) =
            watch::channel(Heard { complete: wanted == Wanted::default(), ..Heard::default() });
        // What was heard before and is not wanted any more is to be forgotten.
        heard.mark_changed();
        let (tell_power, power) = watch::channel(None);
        (self.heard, self.power) = (heard, power);
        if wanted != Wanted::default() {
            self.tasks.spawn(follow::follow(wanted, tell));
        }
        if wanted.power {
            self.tasks.spawn(power::follow(tell_power));
        }
    }

    /// Waits until those who are there have answered, but not for long: what would be decided without them would soon be
    /// decided again.
    pub async fn first(&mut self) -> Event {
        drop(tokio::time::timeout(PATIENCE, self.heard.wait_for(|heard| heard.complete)).await);
        self.event()
    }

    /// Waits until something else is told. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            Ok(()) = self.heard.changed() => {}
            Ok(()) = self.power.changed() => {}
            // Nobody is heard, and all that was said is told.
            else => std::future::pending().await,
        }
        self.event()
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
        let network_manager = self.heard.borrow().network_manager;
        status::Desktop { network_manager, on_battery: self.on_battery() }
    }

    /// UPower knows best, where it is there.
    fn on_battery(&self) -> Option<bool> {
        self.heard.borrow().on_battery.or(*self.power.borrow())
    }

    fn event(&mut self) -> Event {
        self.vpns.retain(|name| if_nametoindex(name.as_str()).is_ok());
        self.power.mark_unchanged();
        let interfaces = self.heard.borrow_and_update().interfaces.clone();
        let (vpns, on_battery) = (self.vpns.clone(), self.on_battery());
        Event::Desktop(hints::Desktop { interfaces, vpns, on_battery })
    }
}
