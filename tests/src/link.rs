//! An emulated link as a test sees it: settings, outages, counters.

use crate::emulator::{Direction, Emulator};
use crate::host::Host;
use crate::queue::{Counters, Settings};
use anyhow::{Context, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// How a link is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Not at all.
    None,
    /// Packets vanish in both directions and nobody is told.
    Silent,
    /// Packets from the customer vanish.
    SilentUp,
    /// Packets to the customer vanish.
    SilentDown,
    /// The customer's interface loses its carrier.
    Down,
}

/// What became of every packet of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// From the customer.
    pub up: Counters,
    /// To the customer.
    pub down: Counters,
}

/// A running emulated link.
pub struct Link {
    pub(crate) name: String,
    pub(crate) emulator: Emulator,
    pub(crate) carrier: Option<Carrier>,
}

/// The router's interface whose state is the customer's carrier.
pub(crate) struct Carrier {
    pub(crate) router: Arc<Host>,
    pub(crate) interface: String,
    /// Brings back what the kernel forgets of an interface that goes down (IPv6 link-local addresses).
    pub(crate) restore: Vec<String>,
    /// Its present state, so that a silent outage costs no time for a carrier that stays as it is.
    pub(crate) up: Mutex<bool>,
}

impl Link {
    /// Its name in the scenario.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes the settings of both directions, while traffic flows.
    pub fn set(&self, change: impl Fn(&mut Settings)) {
        self.emulator.set(Direction::Up, &change);
        self.emulator.set(Direction::Down, &change);
    }

    /// Changes the settings of one direction.
    pub fn set_one(&self, direction: Direction, change: impl FnOnce(&mut Settings)) {
        self.emulator.set(direction, change);
    }

    /// The settings of one direction.
    pub fn settings(&self, direction: Direction) -> Settings {
        self.emulator.settings(direction)
    }

    /// Begins, changes or (with [`Outage::None`]) ends an outage.
    ///
    /// # Errors
    /// When the carrier cannot be changed, or [`Outage::Down`] is asked of a link that carries no interface.
    pub fn outage(&self, outage: Outage) -> Result<()> {
        let silent = |ways: &[Outage]| ways.contains(&outage);
        let (up, down) =
            (silent(&[Outage::Silent, Outage::SilentUp]), silent(&[Outage::Silent, Outage::SilentDown]));
        self.emulator.set(Direction::Up, |settings| settings.outage = up);
        self.emulator.set(Direction::Down, |settings| settings.outage = down);
        match (&self.carrier, outage) {
            (Some(carrier), _) => carrier.set(outage != Outage::Down),
            (None, Outage::Down) => {
                anyhow::bail!(
                    "link {}: no interface loses its carrier with it; use a silent outage",
                    self.name
                )
            }
            (None, _) => Ok(()),
        }
    }

    /// What became of the packets so far; exact, also while traffic flows.
    ///
    /// # Panics
    /// When the device loop has died: then no figure of this lab means anything.
    pub fn counters(&self) -> LinkCounters {
        let read = |direction| {
            let counters = self.emulator.counters(direction);
            counters.with_context(|| format!("link {}", self.name)).expect("the emulator runs")
        };
        LinkCounters { up: read(Direction::Up), down: read(Direction::Down) }
    }
}

impl Carrier {
    fn set(&self, up: bool) -> Result<()> {
        let mut state = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == up {
            return Ok(());
        }
        let mut lines = vec![format!("link set {} {}", self.interface, if up { "up" } else { "down" })];
        if up {
            lines.extend_from_slice(&self.restore);
        }
        self.router.ip_batch(&[], &lines).context("change the carrier")?;
        *state = up;
        Ok(())
    }
}
