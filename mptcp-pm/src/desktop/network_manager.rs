//! What NetworkManager has told of its objects, and what that means for interfaces. The numbers are those of its
//! D-Bus interface, <https://networkmanager.dev/docs/api/latest/nm-dbus-types.html>.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::core::hints::{Connectivity, Hint, Metered, Profile, Wishes};

/// Its name on the bus.
pub const NAME: &str = "org.freedesktop.NetworkManager";

/// Who knows all its objects.
pub const OBJECTS_PATH: &str = "/org/freedesktop";

/// The interface of a connection profile.
pub const PROFILE: &str = "org.freedesktop.NetworkManager.Settings.Connection";

const DEVICE: &str = "org.freedesktop.NetworkManager.Device";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";

/// The interfaces whose properties matter.
pub const INTERFACES: [&str; 3] = [NAME, DEVICE, ACTIVE];

/// Where the objects lie that matter.
pub const FOLDERS: [&str; 2] =
    ["/org/freedesktop/NetworkManager/Devices", "/org/freedesktop/NetworkManager/ActiveConnection"];

/// Properties by their names.
pub type Properties = HashMap<String, OwnedValue>;

/// The interfaces of an object, with their properties.
pub type Interfaces = HashMap<String, Properties>;

/// All objects.
pub type Objects = HashMap<OwnedObjectPath, Interfaces>;

/// What is known of it.
#[derive(Debug, Default)]
pub struct NetworkManager {
    devices: BTreeMap<String, Device>,
    actives: BTreeMap<String, Active>,
    profiles: BTreeMap<String, Known>,
    /// It has said what there is.
    known: bool,
    /// It activates what is to be active from the start.
    starting: bool,
    /// It finds out what is reached; otherwise it says so of whatever has a default route.
    checks: bool,
}

#[derive(Debug, Default)]
struct Device {
    interface: String,
    ip_interface: String,
    kind: u32,
    state: u32,
    metered: u32,
    reached: [u32; 2],
    active: String,
}

#[derive(Debug, Default)]
struct Active {
    profile: String,
    id: String,
    uuid: String,
    kind: String,
    vpn: bool,
}

/// What is known of a profile.
#[derive(Debug)]
enum Known {
    Asked,
    Said { wishes: Wishes, mistakes: Vec<String>, metered: Option<Metered> },
}

impl NetworkManager {
    /// All objects, as it has told them.
    pub fn replace(&mut self, objects: Objects) {
        (self.devices, self.actives) = Default::default();
        (self.starting, self.checks) = (false, false);
        for (path, interfaces) in objects {
            self.add(path, interfaces);
        }
        self.known = true;
    }

    /// An object is there.
    pub fn add(&mut self, path: OwnedObjectPath, interfaces: Interfaces) {
        for (interface, properties) in interfaces {
            match interface.as_str() {
                DEVICE => drop(self.devices.insert(path.to_string(), Device::default())),
                ACTIVE => drop(self.actives.insert(path.to_string(), Active::default())),
                _ => {}
            }
            self.change(&path, &interface, &properties);
        }
    }

    /// An object has lost interfaces: it is gone.
    pub fn remove(&mut self, path: OwnedObjectPath, interfaces: Vec<String>) {
        if interfaces.iter().any(|interface| interface == DEVICE) {
            self.devices.remove(path.as_str());
        }
        if interfaces.iter().any(|interface| interface == ACTIVE) {
            self.actives.remove(path.as_str());
        }
    }

    /// Properties have changed.
    pub fn change(&mut self, path: &str, interface: &str, properties: &Properties) {
        for (name, value) in properties {
            match interface {
                NAME if name == "Startup" => set(&mut self.starting, value),
                NAME if name == "ConnectivityCheckEnabled" => set(&mut self.checks, value),
                DEVICE => {
                    if let Some(device) = self.devices.get_mut(path) {
                        device.set(name, value);
                    }
                }
                ACTIVE => {
                    if let Some(active) = self.actives.get_mut(path) {
                        active.set(name, value);
                    }
                }
                _ => {}
            }
        }
    }

    /// The profiles that have to be read; from now on they count as asked for.
    pub fn unread_profiles(&mut self) -> Vec<String> {
        let used = |path: &String| self.actives.values().any(|active| active.profile == *path);
        self.profiles.retain(|path, _| used(path));
        let all = self.actives.values().map(|active| active.profile.clone());
        let unread: Vec<String> =
            all.filter(|path| path.len() > 1 && !self.profiles.contains_key(path)).collect();
        self.profiles.extend(unread.iter().map(|path| (path.clone(), Known::Asked)));
        unread
    }

    /// What a profile says.
    pub fn read_profile(&mut self, path: &str, settings: &HashMap<String, Properties>) {
        let data = settings.get("user").and_then(|user| user.get("data")?.try_clone().ok());
        let data = data.and_then(|data| HashMap::<String, String>::try_from(data).ok()).unwrap_or_default();
        let (wishes, mistakes) = Wishes::read(&data.into_iter().collect());
        let mut cost = 0_i32;
        if let Some(value) = settings.get("connection").and_then(|connection| connection.get("metered")) {
            set(&mut cost, value);
        }
        let metered = u32::try_from(cost).ok().and_then(metered);
        self.profiles.insert(path.to_owned(), Known::Said { wishes, mistakes, metered });
    }

    /// A profile says something else: it has to be read again. Until that is done, the hints are not whole.
    pub fn forget_profile(&mut self, path: &str) {
        self.profiles.remove(path);
    }

    /// It has told all that is, and is done with what it does when it starts.
    pub fn is_settled(&self) -> bool {
        self.is_read() && !self.starting
    }

    /// It has told all that is.
    pub fn is_read(&self) -> bool {
        self.known && self.profiles.values().all(|profile| matches!(profile, Known::Said { .. }))
    }

    /// Whether it knows an interface.
    pub fn knows(&self, name: &str) -> bool {
        self.devices.values().any(|device| device.name() == Some(name))
    }

    /// What it says of the interfaces that it has set up, by their names.
    pub fn hints(&self) -> BTreeMap<String, Hint> {
        let active = self.devices.values().filter(|device| device.is_active());
        let hints = active.filter_map(|device| Some((device.name()?.to_owned(), self.hint(device)?)));
        hints.collect()
    }

    /// None while the profile is not read.
    fn hint(&self, device: &Device) -> Option<Hint> {
        let active = self.actives.get(&device.active);
        let (wishes, mistakes, wanted) = match active.and_then(|active| self.profiles.get(&active.profile)) {
            Some(Known::Said { wishes, mistakes, metered }) => (wishes.clone(), mistakes.clone(), *metered),
            Some(Known::Asked) => return None,
            None => Default::default(),
        };
        let is_known = self.checks && device.is_up();
        let reached = |value| if is_known { connectivity(value) } else { Connectivity::Unknown };
        Some(Hint {
            // While it is being activated only the profile says so.
            metered: metered(device.metered).or(wanted),
            ipv4: reached(device.reached[0]),
            ipv6: reached(device.reached[1]),
            profile: active.map(|active| Profile { id: active.id.clone(), uuid: active.uuid.clone() }),
            wishes,
            mistakes,
            vpn: active.is_some_and(Active::is_vpn),
            radio: device.is_radio(),
        })
    }
}

impl Device {
    fn set(&mut self, name: &str, value: &OwnedValue) {
        match name {
            "Interface" => set(&mut self.interface, value),
            "IpInterface" => set(&mut self.ip_interface, value),
            "DeviceType" => set(&mut self.kind, value),
            "State" => set(&mut self.state, value),
            "Metered" => set(&mut self.metered, value),
            "Ip4Connectivity" => set(&mut self.reached[0], value),
            "Ip6Connectivity" => set(&mut self.reached[1], value),
            "ActiveConnection" => set_path(&mut self.active, value),
            _ => {}
        }
    }

    /// The interface that has the addresses: that of a modem is another one than what it is controlled by.
    fn name(&self) -> Option<&str> {
        [&self.ip_interface, &self.interface].into_iter().map(String::as_str).find(|name| !name.is_empty())
    }

    /// From `NM_DEVICE_STATE_PREPARE` to `NM_DEVICE_STATE_DEACTIVATING`: it has a profile, and gets addresses.
    const fn is_active(&self) -> bool {
        matches!(self.state, 40..=110)
    }

    /// From `NM_DEVICE_STATE_ACTIVATED` on: before, nobody has found out what is reached.
    const fn is_up(&self) -> bool {
        self.state >= 100
    }

    /// `NM_DEVICE_TYPE_WIFI`, `_BT`, `_WIMAX`, `_MODEM`.
    const fn is_radio(&self) -> bool {
        matches!(self.kind, 2 | 5 | 7 | 8)
    }
}

impl Active {
    fn set(&mut self, name: &str, value: &OwnedValue) {
        match name {
            "Connection" => set_path(&mut self.profile, value),
            "Id" => set(&mut self.id, value),
            "Uuid" => set(&mut self.uuid, value),
            "Type" => set(&mut self.kind, value),
            "Vpn" => set(&mut self.vpn, value),
            _ => {}
        }
    }

    fn is_vpn(&self) -> bool {
        self.vpn || matches!(self.kind.as_str(), "vpn" | "wireguard")
    }
}

/// What is not of the expected type changes nothing.
fn set<T: TryFrom<OwnedValue>>(field: &mut T, value: &OwnedValue) {
    if let Some(value) = value.try_clone().ok().and_then(|value| T::try_from(value).ok()) {
        *field = value;
    }
}

fn set_path(field: &mut String, value: &OwnedValue) {
    if let Some(path) = value.try_clone().ok().and_then(|value| OwnedObjectPath::try_from(value).ok()) {
        *field = path.to_string();
    }
}

/// `NMMetered`.
const fn metered(value: u32) -> Option<Metered> {
    match value {
        1 => Some(Metered { yes: true, guessed: false }),
        2 => Some(Metered { yes: false, guessed: false }),
        3 => Some(Metered { yes: true, guessed: true }),
        4 => Some(Metered { yes: false, guessed: true }),
        _ => None,
    }
}

/// `NMConnectivityState`.
const fn connectivity(value: u32) -> Connectivity {
    match value {
        1 => Connectivity::None,
        2 => Connectivity::Portal,
        3 => Connectivity::Limited,
        4 => Connectivity::Full,
        _ => Connectivity::Unknown,
    }
}
