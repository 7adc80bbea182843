//! What the services of a desktop tell: NetworkManager of interfaces, UPower of the battery. Hints: what the
//! configuration says of an uplink goes before them, and the kernel before both.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Core;
use super::action::Subject;
use super::world::Family;
use crate::config::Role;

/// All that is told, whole each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desktop {
    /// By the interface's name.
    pub interfaces: BTreeMap<String, Hint>,
    /// Interfaces of VPNs whose kind does not say so (PPP for L2TP and the like).
    pub vpns: BTreeSet<String>,
    /// The machine runs on its battery; none where nobody says.
    pub on_battery: Option<bool>,
}

/// What NetworkManager says of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Whether its traffic costs money, by its setting or by what the access point or phone tells.
    pub metered: Option<Metered>,
    /// What is reached over IPv4.
    pub ipv4: Connectivity,
    /// What is reached over IPv6.
    pub ipv6: Connectivity,
    /// The connection profile that is active on it.
    pub profile: Option<Profile>,
    /// What the profile's `user` setting carries.
    pub wishes: Wishes,
    /// What is wrong with that.
    pub mistakes: Vec<String>,
    /// The profile is a VPN's.
    pub vpn: bool,
    /// It is a radio: Wi-Fi, a modem, Bluetooth.
    pub radio: bool,
}

impl Hint {
    /// What is reached over a family.
    pub const fn connectivity(&self, family: Family) -> Connectivity {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

/// Whether traffic costs money (`NMMetered`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metered {
    /// It does.
    pub yes: bool,
    /// NetworkManager guesses.
    pub guessed: bool,
}

/// What is reached over an interface (`NMConnectivityState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connectivity {
    /// Nobody has found out.
    #[default]
    Unknown,
    /// Nothing.
    None,
    /// A captive portal.
    Portal,
    /// A network, and not the Internet.
    Limited,
    /// The Internet.
    Full,
}

impl Connectivity {
    /// It is known that the Internet is not reached.
    pub const fn is_without(self) -> bool {
        matches!(self, Self::None | Self::Portal | Self::Limited)
    }

    /// In words, to follow "NetworkManager sees".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unknown => "nothing",
            Self::None => "no connectivity",
            Self::Portal => "a captive portal",
            Self::Limited => "no Internet",
            Self::Full => "the Internet",
        }
    }
}

/// A connection profile of NetworkManager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name for people.
    pub id: String,
    /// What identifies it.
    pub uuid: String,
}

/// What the owner wants of an uplink, as a connection profile carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `mptcp-pm.role`.
    pub role: Option<Role>,
    /// `mptcp-pm.provider`.
    pub provider: Option<String>,
    /// `mptcp-pm.metered`.
    pub metered: Option<bool>,
}

impl Wishes {
    /// Reads the `user` setting of a profile, and says what it cannot be meant to say. Keys of others are not looked at.
    pub fn read(data: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let (mut wishes, mut mistakes) = (Self::default(), Vec::new());
        for (name, value) in data {
            let Some(key) = name.strip_prefix("mptcp-pm.") else { continue };
            let expected = match key {
                "role" => {
                    wishes.role = Role::ALL.into_iter().find(|role| role.name() == value);
                    wishes.role.is_none().then_some("use primary, secondary, backup or off")
                }
                "metered" => {
                    wishes.metered = match value.as_str() {
                        "yes" | "true" => Some(true),
                        "no" | "false" => Some(false),
                        _ => None,
                    };
                    wishes.metered.is_none().then_some("use yes or no")
                }
                "provider" => {
                    let readable = !value.trim().is_empty() && !value.contains(char::is_control);
                    wishes.provider = readable.then(|| value.clone());
                    (!readable).then_some("use one line of plain text")
                }
                _ => Some("known are mptcp-pm.role, mptcp-pm.provider and mptcp-pm.metered"),
            };
            mistakes.extend(expected.map(|expected| format!("{name} = {value:?}: {expected}")));
        }
        (wishes, mistakes)
    }
}

/// Where something that is said of an uplink comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An `[[uplink]]` table.
    Configuration,
    /// The `user` setting of NetworkManager's connection profile.
    Profile,
    /// NetworkManager, which has been told so.
    NetworkManager,
    /// NetworkManager, which guesses.
    Guess,
    /// What sort of interface it is.
    Kind,
}

impl Source {
    /// In words, to follow what it says.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Configuration => "configured",
            Self::Profile => "by its profile",
            Self::NetworkManager => "says NetworkManager",
            Self::Guess => "guesses NetworkManager",
            Self::Kind => "by its kind",
        }
    }
}

/// Where what is said of an uplink comes from; none where nobody says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Of its role.
    pub role: Option<Source>,
    /// Of its provider.
    pub provider: Option<Source>,
    /// Of whether it costs money.
    pub metered: Option<Source>,
}

impl Desktop {
    /// What is said of an interface.
    pub fn hint(&self, name: &str) -> Option<&Hint> {
        self.interfaces.get(name)
    }

    /// Whether an interface is said to be a VPN's.
    pub fn is_vpn(&self, name: &str) -> bool {
        self.vpns.contains(name) || self.hint(name).is_some_and(|hint| hint.vpn)
    }
}

impl Core {
    /// Takes note of what the desktop's services tell. What failed over an interface gets another chance when something
    /// else is said of it.
    pub(super) fn told(&mut self, desktop: Desktop) {
        let before = std::mem::replace(&mut self.world.desktop, desktop);
        let now = &self.world.desktop;
        if before == *now {
            return;
        }
        let differs = |name: &str| before.hint(name) != now.hint(name);
        let links = self.world.links.values().filter(|link| differs(&link.name));
        let indexes: BTreeSet<_> = links.map(|link| link.index).collect();
        let on_them = self.world.addresses.keys().filter(|(ifindex, _)| indexes.contains(ifindex));
        let addresses: BTreeSet<IpAddr> = on_them.map(|(_, addr)| *addr).collect();
        self.retries.forgive(|subject| match subject {
            Subject::Endpoint(addr) | Subject::Subflows(addr) => addresses.contains(addr),
            _ => false,
        });
        self.dirty = true;
    }
}
