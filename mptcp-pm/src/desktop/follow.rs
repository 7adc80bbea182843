//! One task that hears NetworkManager and UPower for as long as the daemon runs: messages of one connection to the bus in
//! their order, so that what is read and what is told meanwhile fit together.
//!
//! While NetworkManager is away or starts, what it said of cost, role and provider still holds, since the interfaces stay
//! as it has set them up; what is reached over them it would have to find out again, so that is forgotten.
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;

use futures_util::StreamExt as _;
use nix::net::if_::if_nametoindex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use zbus::message::{Flags, Type};
use zbus::zvariant::{DynamicType, OwnedValue, Type as Signature};
use zbus::{Connection, Message, MessageStream};

use super::Wanted;
use super::network_manager::{self as nm, NetworkManager, Objects, Properties};
use crate::bus::Bus;
use crate::core::hints::{Connectivity, Hint};

const BUS: &str = "org.freedesktop.DBus";
const UPOWER: &str = "org.freedesktop.UPower";
const UPOWER_PATH: &str = "/org/freedesktop/UPower";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const OBJECTS: &str = "org.freedesktop.DBus.ObjectManager";

/// All that was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whether NetworkManager is there.
    pub network_manager: bool,
    /// What it says, by the interface's name.
    pub interfaces: BTreeMap<String, Hint>,
    /// Whether the machine runs on its battery.
    pub on_battery: Option<bool>,
    /// Who is there has answered once.
    pub complete: bool,
}

/// Hears those who are wanted, for ever.
pub async fn follow(wanted: Wanted, tell: watch::Sender<Heard>) {
    let mut bus = Bus::default();
    loop {
        let absent = || {
            tell.send_if_modified(|heard| !std::mem::replace(&mut heard.complete, true));
        };
        let stream = bus.connect(absent).await;
        tracing::debug!("connected to the system's D-Bus");
        let error = Session::new(&stream, wanted, &tell).run(stream).await;
        tracing::info!(error = error.map(|error| error.to_string()), "the system's D-Bus has gone");
        tell.send_if_modified(|heard| {
            let before = heard.clone();
            (heard.on_battery, heard.network_manager) = (None, false);
            heard.keep(|_| false, false);
            before != *heard
        });
    }
}

impl Heard {
    /// What still holds of interfaces that are there: of those that nobody knows any more not what is reached over them;
    /// nothing of those that are `known` where all is said of them.
    fn keep(&mut self, known: impl Fn(&str) -> bool, all_said: bool) {
        let is_said = |name: &str| all_said && known(name);
        self.interfaces.retain(|name, _| !is_said(name) && if_nametoindex(name.as_str()).is_ok());
        for (_, hint) in self.interfaces.iter_mut().filter(|(name, _)| !known(name)) {
            (hint.ipv4, hint.ipv6) = (Connectivity::Unknown, Connectivity::Unknown);
        }
    }
}

/// Who is on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    NetworkManager,
    UPower,
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Self::NetworkManager => nm::NAME,
            Self::UPower => UPOWER,
        }
    }
}

/// What was asked, and is answered later.
enum Call {
    Owner(Service),
    /// NetworkManager's process, by its unique name.
    Process(String),
    Objects,
    Profile(String),
    OnBattery,
}

/// One connection.
struct Session<'a> {
    connection: Connection,
    wanted: Wanted,
    tell: &'a watch::Sender<Heard>,
    calls: HashMap<NonZeroU32, Call>,
    /// NetworkManager's unique name.
    manager: Option<String>,
    /// UPower's.
    upower: Option<String>,
    network_manager: NetworkManager,
}

impl<'a> Session<'a> {
    fn new(stream: &MessageStream, wanted: Wanted, tell: &'a watch::Sender<Heard>) -> Self {
        Self {
            connection: stream.into(),
            wanted,
            tell,
            calls: HashMap::new(),
            manager: None,
            upower: None,
            network_manager: NetworkManager::default(),
        }
    }

    /// Until the connection ends.
    async fn run(mut self, mut stream: MessageStream) -> Option<zbus::Error> {
        if let Err(error) = self.begin().await {
            return Some(error);
        }
        while let Some(message) = stream.next().await {
            let heard = match message {
                Ok(message) => self.hear(&message).await,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return Some(error);
            }
        }
        None
    }

    /// Subscribes to what matters before anything is asked. Names of access points and their strength, which change all
    /// the time, are not subscribed to.
    async fn begin(&mut self) -> zbus::Result<()> {
        let mut rules = Vec::new();
        let mut services = Vec::new();
        if self.wanted.network_manager {
            services.push(Service::NetworkManager);
            let from = format!("type='signal',sender='{}'", nm::NAME);
            for interface in nm::INTERFACES {
                rules.push(format!("{from},interface='{PROPERTIES}',arg0='{interface}'"));
            }
            for folder in nm::FOLDERS {
                rules.push(format!("{from},interface='{OBJECTS}',arg0path='{folder}/'"));
            }
            rules.push(format!("{from},interface='{}',member='Updated'", nm::PROFILE));
        }
        if self.wanted.power {
            services.push(Service::UPower);
            let from = format!("type='signal',sender='{UPOWER}'");
            rules.push(format!("{from},path='{UPOWER_PATH}',interface='{PROPERTIES}'"));
        }
        for service in &services {
            let name = service.name();
            rules.push(format!("type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{name}'"));
        }
        for rule in rules {
            self.ask(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", &rule).await?;
        }
        for service in services {
            self.call(Call::Owner(service)).await?;
        }
        Ok(())
    }

    /// Sends a request. Nobody is started by it.
    async fn ask<B>(
        &self,
        service: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> zbus::Result<NonZeroU32>
    where
        B: Serialize + DynamicType,
    {
        let message = Message::method_call(path, member)?
            .destination(service)?
            .interface(interface)?
            .with_flags(Flags::NoAutoStart)?
            .build(body)?;
        self.connection.send(&message).await?;
        Ok(message.primary_header().serial_num())
    }

    async fn call(&mut self, call: Call) -> zbus::Result<()> {
        // The unique names, so that nobody answers who came later.
        let manager = self.manager.as_deref().unwrap_or(nm::NAME);
        let upower = self.upower.as_deref().unwrap_or(UPOWER);
        let serial = match &call {
            Call::Owner(service) => {
                self.ask(BUS, "/org/freedesktop/DBus", BUS, "GetNameOwner", &service.name()).await
            }
            Call::Process(owner) => {
                self.ask(BUS, "/org/freedesktop/DBus", BUS, "GetConnectionUnixProcessID", owner).await
            }
            Call::Objects => self.ask(manager, nm::OBJECTS_PATH, OBJECTS, "GetManagedObjects", &()).await,
            Call::Profile(path) => self.ask(manager, path, nm::PROFILE, "GetSettings", &()).await,
            Call::OnBattery => self.ask(upower, UPOWER_PATH, PROPERTIES, "Get", &(UPOWER, "OnBattery")).await,
        }?;
        self.calls.insert(serial, call);
        Ok(())
    }

    async fn hear(&mut self, message: &Message) -> zbus::Result<()> {
        match message.message_type() {
            Type::MethodReturn | Type::Error => {
                let asked = message.header().reply_serial().and_then(|serial| self.calls.remove(&serial));
                match asked {
                    Some(call) => self.answered(call, message).await?,
                    None => return Ok(()),
                }
            }
            Type::Signal => self.signalled(message).await?,
            Type::MethodCall => return Ok(()),
        }
        for path in self.network_manager.unread_profiles() {
            self.call(Call::Profile(path)).await?;
        }
        self.say();
        Ok(())
    }

    async fn answered(&mut self, call: Call, message: &Message) -> zbus::Result<()> {
        match call {
            Call::Owner(service) => match body::<String>(message) {
                Some(owner) => self.came(service, owner).await?,
                None => self.went(service),
            },
            Call::Process(_) if body::<u32>(message).is_some_and(is_elsewhere) => {
                tracing::info!("NetworkManager is in another network namespace: it is not heard");
            }
            Call::Process(owner) => {
                self.manager = Some(owner);
                self.call(Call::Objects).await?;
            }
            Call::Objects => match body::<Objects>(message) {
                Some(objects) => self.network_manager.replace(objects),
                None => tracing::warn!("NetworkManager does not say what it manages"),
            },
            Call::Profile(path) => {
                // One that has gone, or that is somebody's private one, says nothing.
                let settings = body::<HashMap<String, Properties>>(message).unwrap_or_default();
                self.network_manager.read_profile(&path, &settings);
            }
            Call::OnBattery => {
                let value = body::<OwnedValue>(message).and_then(|value| bool::try_from(value).ok());
                self.power(value);
            }
        }
        Ok(())
    }

    /// Only the bus and the services themselves are believed: a signal that is addressed to us passes by the rules.
    async fn signalled(&mut self, message: &Message) -> zbus::Result<()> {
        let header = message.header();
        let sender = header.sender().map(|name| name.as_str().to_owned());
        let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
        let path = text(header.path().map(|path| path.as_str()));
        let member = text(header.member().map(|member| member.as_str()));
        let interface = text(header.interface().map(|interface| interface.as_str()));
        if sender.as_deref() == Some(BUS) && member == "NameOwnerChanged" {
            let Some((name, _, owner)) = body::<(String, String, String)>(message) else { return Ok(()) };
            let services = [Service::NetworkManager, Service::UPower];
            let Some(service) = services.into_iter().find(|service| service.name() == name) else {
                return Ok(());
            };
            self.went(service);
            if !owner.is_empty() {
                self.came(service, owner).await?;
            }
        } else if sender.is_some() && sender == self.manager {
            self.manager_signalled(&path, &interface, &member, message);
        } else if sender.is_some()
            && sender == self.upower
            && interface == PROPERTIES
            && let Some((_, mut changed, _)) = body::<(String, Properties, Vec<String>)>(message)
            && let Some(value) = changed.remove("OnBattery")
        {
            self.power(bool::try_from(value).ok());
        }
        Ok(())
    }

    fn manager_signalled(&mut self, path: &str, interface: &str, member: &str, message: &Message) {
        match (interface, member) {
            (PROPERTIES, _) => {
                if let Some((of, changed, _)) = body::<(String, Properties, Vec<String>)>(message) {
                    self.network_manager.change(path, &of, &changed);
                }
            }
            (OBJECTS, "InterfacesAdded") => {
                if let Some((path, interfaces)) = body(message) {
                    self.network_manager.add(path, interfaces);
                }
            }
            (OBJECTS, "InterfacesRemoved") => {
                if let Some((path, interfaces)) = body(message) {
                    self.network_manager.remove(path, interfaces);
                }
            }
            (nm::PROFILE, "Updated") => self.network_manager.forget_profile(path),
            _ => {}
        }
    }

    async fn came(&mut self, service: Service, owner: String) -> zbus::Result<()> {
        tracing::info!(service = service.name(), "is on D-Bus");
        match service {
            Service::NetworkManager => self.call(Call::Process(owner)).await,
            Service::UPower => {
                self.upower = Some(owner);
                self.call(Call::OnBattery).await
            }
        }
    }

    fn went(&mut self, service: Service) {
        match service {
            Service::NetworkManager => {
                self.manager = None;
                self.network_manager = NetworkManager::default();
            }
            Service::UPower => {
                self.upower = None;
                self.power(None);
            }
        }
    }

    fn power(&self, on_battery: Option<bool>) {
        self.tell
            .send_if_modified(|heard| std::mem::replace(&mut heard.on_battery, on_battery) != on_battery);
    }

    /// Whether nothing that was asked at the beginning is unanswered.
    fn has_answered(&self) -> bool {
        self.calls.is_empty() && (self.manager.is_none() || self.network_manager.is_read())
    }

    /// Tells what NetworkManager says now, if that is something else.
    fn say(&self) {
        let is_there = self.manager.is_some();
        let hints = self.network_manager.hints();
        let whole = self.network_manager.is_settled();
        self.tell.send_if_modified(|heard| {
            let before = heard.clone();
            // Until it is done with taking over what it finds, and after it has begun to end.
            heard.keep(|name| self.network_manager.knows(name), whole);
            heard.interfaces.extend(hints);
            heard.network_manager = is_there;
            heard.complete |= self.has_answered();
            before != *heard
        });
    }
}

/// Whether a process is known to be in another network namespace: the bus may be shared where the network is not.
fn is_elsewhere(process: u32) -> bool {
    let inode = |process: &str| std::fs::metadata(format!("/proc/{process}/ns/net")).map(|net| net.ino());
    match (inode(&process.to_string()), inode("self")) {
        (Ok(theirs), Ok(ours)) => theirs != ours,
        _ => false,
    }
}

/// The content of a message; none where it is an error, or not what was expected.
fn body<T: DeserializeOwned + Signature>(message: &Message) -> Option<T> {
    if message.message_type() == Type::Error {
        return None;
    }
    message.body().deserialize().map_err(|error| tracing::debug!(%error, "not understood")).ok()
}
