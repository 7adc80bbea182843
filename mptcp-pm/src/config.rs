//! The configuration: what the owner of the machine wants, resolved from one TOML file and checked whole.
//!
//! `packaging/mptcp-pm.toml` explains every key. [`Config::default`] is what happens without a file.
mod application;
mod congestion;
mod error;
mod matching;
mod resolve;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::service::Service;
use crate::core::world::{EndpointFlags, Link};

pub use application::{ApplicationMatch, ApplicationRule, CgroupGlob, MAX_PROCESS, Names, Ports};
pub use congestion::Congestion;
pub use error::{Error, Problem};
pub use matching::{Match, NameGlob};

/// Where the daemon looks for its configuration.
pub const DEFAULT_FILE: &str = "/etc/mptcp-pm/mptcp-pm.toml";

/// The control socket, unless the configuration or the command line names another.
pub const DEFAULT_SOCKET: &str = "/run/mptcp-pm/control";

/// The group whose members may ask for the status, unless the configuration names another.
pub const DEFAULT_GROUP: &str = "mptcp-pm";

/// All that can be configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// For whom paths are managed (`profile`).
    pub profile: Profile,
    /// Who manages the paths of each connection (`manager`); without it the daemon where the kernel lets it do so well.
    pub manager: Option<Manager>,
    /// The service type of connections that no rule is about (`service`); without it the profile's.
    pub service: Option<Service>,
    /// What is wanted for the connections of applications (`[[application]]`); of those that say something about it the
    /// first that matches one holds.
    pub applications: Vec<ApplicationRule>,
    /// The congestion control of MPTCP subflows (`congestion`).
    pub congestion: Congestion,
    /// What is known about uplinks (`[[uplink]]`); the first that matches an interface holds.
    pub uplinks: Vec<UplinkRule>,
    /// What the buffers of connections are (`buffers`).
    pub buffers: Buffers,
    /// VPN and other uplinks may serve the same connection (`share-with-vpn`).
    pub vpn: bool,
    /// Who makes the kernel's endpoints (`endpoints`).
    pub endpoints: Endpoints,
    /// What further radios do while the machine runs on its battery (`on-battery`); without it what suits profile and
    /// manager, see [`Config::holds_back`].
    pub on_battery: Option<OnBattery>,
    /// What is asked of NetworkManager (`[desktop]`).
    pub desktop: Desktop,
    /// Fixed limits of the kernel's path manager (`[limits]`).
    pub limits: LimitsSetting,
    /// The control socket (`[control]`).
    pub control: Control,
    /// The metrics endpoint (`[metrics]`); without it nothing listens.
    pub metrics: Option<Metrics>,
}

/// A preset for a kind of user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Lowest cost and battery use.
    #[default]
    Light,
    /// Best performance and resilience.
    Heavy,
    /// A multihomed server: signals its addresses, serves from all of them.
    Site,
}

impl Profile {
    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Heavy => "heavy",
            Self::Site => "site",
        }
    }

    /// The service type of its connections, unless the configuration says otherwise.
    pub const fn service(self) -> Service {
        match self {
            Self::Light => Service::Handover,
            Self::Heavy | Self::Site => Service::Aggregate,
        }
    }
}

/// Who manages the paths of each connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// The kernel's path manager: one policy for all connections, which survives the daemon.
    #[default]
    Kernel,
    /// The daemon, connection by connection.
    Daemon,
}

impl Manager {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Daemon => "daemon",
        }
    }
}

/// What the buffers of connections are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffers {
    /// Enough for several paths, where there are several.
    #[default]
    Fit,
    /// What the system says.
    Keep,
}

/// Who makes the endpoints of the kernel's path manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoints {
    /// The daemon.
    #[default]
    Ours,
    /// NetworkManager, as its connection profiles say.
    NetworkManager,
}

/// What further radios do while the machine runs on its battery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBattery {
    /// They have no subflow while another uplink carries.
    HoldBack,
    /// The same as otherwise.
    Keep,
}

/// What is asked of the services of a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desktop {
    /// What NetworkManager says of interfaces is heard, where it runs (`network-manager`).
    pub network_manager: bool,
}

impl Default for Desktop {
    fn default() -> Self {
        Self { network_manager: true }
    }
}

/// The part that an uplink plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Used first.
    Primary,
    /// Used beside the primary ones.
    Secondary,
    /// Stands by, and carries data when the others fail.
    Backup,
    /// Not used.
    Off,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Primary, Self::Secondary, Self::Backup, Self::Off];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Backup => "backup",
            Self::Off => "off",
        }
    }
}

/// What is known about the interfaces that match: one `[[uplink]]` table. Whatever is left out is for the
/// policy to decide.
#[derive(Clone, Debug, PartialEq)]
pub struct UplinkRule {
    /// Which interfaces are meant (`match`).
    pub matching: Match,
    /// Who provides the access (`provider`).
    pub provider: Option<String>,
    /// The part that it plays (`role`).
    pub role: Option<Role>,
    /// Whether its traffic costs money (`metered`).
    pub metered: Option<bool>,
    /// The flags of its endpoints (`flags`), never empty.
    pub flags: Option<EndpointFlags>,
}

/// Fixed limits of the kernel's path manager, per connection. What is left out follows from the uplinks that
/// exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsSetting {
    /// Subflows beside the initial one (`subflows`), 0 to 64.
    pub subflows: Option<u32>,
    /// Announced addresses of the peer that are accepted (`add-addr-accepted`), 0 to 64.
    pub add_addr_accepted: Option<u32>,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its absolute path (`socket`).
    pub socket: PathBuf,
    /// The group whose members may ask for the status (`group`); where it does not exist, only root may.
    pub group: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), group: DEFAULT_GROUP.into() }
    }
}

/// The metrics endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where it listens (`listen`).
    pub listen: Listen,
    /// The group whose members may scrape the Unix socket (`group`); where it does not exist, only root may.
    pub group: String,
    /// Connections and their subflows have series too (`subflows`): label values without bound.
    pub subflows: bool,
}

/// Where the metrics endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On a loopback address, never another.
    Loopback(SocketAddr),
    /// On a Unix socket with this absolute path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Config {
    /// The same, with this manager where none is named.
    #[must_use]
    pub fn managed(mut self, default: Manager) -> Self {
        self.manager.get_or_insert(default);
        self
    }

    /// The service type of connections that no rule is about.
    pub fn default_service(&self) -> Service {
        self.service.unwrap_or_else(|| self.profile.service())
    }

    /// The first table that is about an interface.
    pub fn rule_for(&self, link: &Link) -> Option<&UplinkRule> {
        self.uplinks.iter().find(|rule| rule.matches(link))
    }

    /// Whether further radios are held back on battery. Unless it is said, where the owner wants to save (`light`) and
    /// the daemon notices when the path that is left falls silent.
    pub fn holds_back(&self) -> bool {
        match (self.profile, self.on_battery) {
            (Profile::Site, _) | (_, Some(OnBattery::Keep)) => false,
            (_, Some(OnBattery::HoldBack)) => true,
            (profile, None) => profile == Profile::Light && self.manager == Some(Manager::Daemon),
        }
    }

    /// Resolves the text of a configuration; `file_name` is for the error.
    ///
    /// # Errors
    /// [`Error::Refused`] with all that is wrong; of a text that is no TOML, what TOML itself refuses.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Error> {
        resolve::config(text).map_err(|problems| Error::Refused { file: file_name.to_owned(), problems })
    }

    /// Reads and resolves a file, or else the default one, which alone may be missing.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn load_or_default(file: Option<&Path>) -> Result<Self, Error> {
        let default = Path::new(DEFAULT_FILE);
        match file {
            Some(file) => Self::load(file),
            None if default.exists() => Self::load(default),
            None => Ok(Self::default()),
        }
    }

    /// Reads and resolves a file.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be read, and those of [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(source) => Err(Error::Read { file, source }),
        }
    }
}
