//! NetworkManager at work inside a host of the lab, with a D-Bus of its own: Debian's programs, in a mount namespace in
//! which they are installed. The machine's own are neither used nor changed.
mod beacon;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

pub use beacon::{Beacon, Reached};

use crate::daemon::{PATIENCE, await_that};
use crate::{Child, Command, Family, Host};

/// Lays the unpacked packages over `/usr`, and makes `/etc`, `/run` and `/var/lib` writable without a trace. Where `/sys`
/// cannot be written to, NetworkManager takes what it finds for a container's, without udev.
const MOUNTS: &str = r#"
set -e
mount -t tmpfs tmpfs "$2"
for dir in etc usr; do mkdir "$2/$dir" "$2/$dir.work"; done
mount -t overlay -o "lowerdir=$1/usr:/usr,upperdir=$2/usr,workdir=$2/usr.work" overlay /usr
mount -t overlay -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/etc.work" overlay /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t sysfs -o ro sysfs /sys
mkdir -p /run/NetworkManager /run/mptcp-pm /var/lib/NetworkManager /etc/dbus-services
rm -rf /etc/NetworkManager
mkdir -p /etc/NetworkManager/conf.d /etc/NetworkManager/dispatcher.d/no-wait.d
mkdir -p /etc/NetworkManager/system-connections
touch "$3"
exec sleep infinity
"#;

/// Everybody may own and send everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <servicedir>/etc/dbus-services</servicedir>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"#;

const DISPATCHER: &str = "[D-BUS Service]
Name=org.freedesktop.nm_dispatcher
Exec=/usr/lib/NetworkManager/nm-dispatcher
";

const MANAGER: &str = "[main]
plugins=keyfile
dns=none
rc-manager=unmanaged
auth-polkit=false
no-auto-default=*
systemd-resolved=false
[logging]
level=DEBUG
";

/// The bus of a host, and what runs on it; dropping it ends all that.
pub struct Desktop {
    host: Arc<Host>,
    manager: Option<Child>,
    bus: Option<Child>,
    /// What keeps the mount namespace.
    keeper: Child,
}

/// The socket of a host's bus.
pub fn socket(host: &Host) -> PathBuf {
    host.scratch().join("bus")
}

impl Desktop {
    /// Starts the bus; the beacon tells NetworkManager whether the Internet is reached.
    ///
    /// # Errors
    /// When it is not there.
    pub fn start(host: &Arc<Host>) -> Result<Self> {
        let mut desktop = Self::without_bus(host)?;
        desktop.start_bus()?;
        Ok(desktop)
    }

    /// The same without starting the bus.
    ///
    /// # Errors
    /// When NetworkManager was not brought, or cannot be put in its place.
    pub fn without_bus(host: &Arc<Host>) -> Result<Self> {
        let root = std::env::var_os("NETWORK_MANAGER")
            .context("where is NetworkManager? use `cargo xtask test`, which sets NETWORK_MANAGER")?;
        let file = |name: &str| host.scratch().join(name);
        let (mounts, ready, log) = (file("mounts"), file("mounted"), file("mounts.log"));
        fs::create_dir(&mounts)?;
        let keeper = host
            .command("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", MOUNTS, "sh"])
            .arg(root)
            .args([&mounts, &ready])
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        await_that("the mounts", || Ok(ready.exists()), |ready| *ready)
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let desktop = Self { host: Arc::clone(host), manager: None, bus: None, keeper };
        desktop.install("/etc/dbus.conf", 0o644, &BUS.replace("SOCKET", &socket(host).to_string_lossy()))?;
        desktop.install("/etc/dbus-services/dispatcher.service", 0o644, DISPATCHER)?;
        desktop.install("/etc/NetworkManager/NetworkManager.conf", 0o644, MANAGER)?;
        Ok(desktop)
    }

    /// Starts the bus, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_bus(&mut self) -> Result<()> {
        let words = ["--config-file=/etc/dbus.conf", "--nofork", "--nopidfile"];
        self.bus = Some(self.service("dbus-daemon", &words)?);
        let look = || Ok(UnixStream::connect(socket(&self.host)).is_ok());
        await_that("the bus", look, |answers| *answers).with_context(|| self.log("dbus-daemon")).map(drop)
    }

    /// Ends the bus, however it pleases those on it.
    pub fn stop_bus(&mut self) {
        self.bus = None;
        drop(fs::remove_file(socket(&self.host)));
    }

    /// Starts NetworkManager, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_manager(&mut self) -> Result<()> {
        self.manager = Some(self.service("NetworkManager", &["--debug"])?);
        let look = || Ok(self.nmcli("-t -f RUNNING,STARTUP general").unwrap_or_default());
        await_that("NetworkManager", look, |said| said.trim() == "running:started")
            .with_context(|| self.log("NetworkManager"))
            .map(drop)
    }

    /// Ends NetworkManager as a service manager does.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_manager(&mut self) -> Result<()> {
        let Some(mut manager) = self.manager.take() else { return Ok(()) };
        manager.signal(nix::sys::signal::Signal::SIGTERM)?;
        manager.wait_timeout(PATIENCE)?.context("NetworkManager does not end").map(drop)
    }

    /// Runs nmcli with these words, separated by blanks; returns what it prints.
    ///
    /// # Errors
    /// With what it says when it fails.
    pub fn nmcli(&self, line: &str) -> Result<String> {
        let output = self.command("nmcli").args(line.split_whitespace()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nmcli {line}: {}", said.trim());
        String::from_utf8(output.stdout).context("read what nmcli prints")
    }

    /// Writes a file that only these programs see.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn install(&self, path: &str, mode: u32, text: &str) -> Result<()> {
        let source = self.host.scratch().join("installed");
        fs::write(&source, text)?;
        self.run("install", &["-D", "-m", &format!("{mode:o}"), &source.to_string_lossy(), path])
    }

    /// Makes a symbolic link that only these programs see.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn link(&self, target: &Path, path: &str) -> Result<()> {
        self.run("ln", &["-sf", &target.to_string_lossy(), path])
    }

    /// Runs a command to its end where NetworkManager is installed.
    ///
    /// # Errors
    /// With what it says when it fails.
    pub fn run(&self, program: &str, words: &[&str]) -> Result<()> {
        let output = self.command(program).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {words:?}: {}", said.trim());
        Ok(())
    }

    /// Stores a connection profile, in place of one with the same interface, and activates it.
    ///
    /// # Errors
    /// With what NetworkManager says.
    pub fn activate(&self, profile: &Profile) -> Result<()> {
        self.store(profile)?;
        self.nmcli(&format!("connection up {}", profile.interface)).map(drop)
    }

    /// Stores a connection profile, in place of one with the same interface.
    ///
    /// # Errors
    /// With what NetworkManager says.
    pub fn store(&self, profile: &Profile) -> Result<()> {
        let name = profile.interface;
        let file = format!("/etc/NetworkManager/system-connections/{name}.nmconnection");
        self.install(&file, 0o600, &profile.text())?;
        self.nmcli("connection reload").map(drop)
    }

    /// What a service of it has logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.host.scratch().join(format!("{name}.log"))
    }

    /// A command to be run where NetworkManager is installed.
    pub fn command(&self, program: &str) -> Command {
        let address = format!("unix:path={}", socket(&self.host).display());
        self.host
            .command("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()))
            .arg("--")
            .arg(program)
            .env("DBUS_SYSTEM_BUS_ADDRESS", address)
            .env("LC_ALL", "C")
    }

    fn service(&self, program: &str, words: &[&str]) -> Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.log_file(program))?;
        let command = self.command(program).args(words).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).spawn()
    }
}

/// Lets the kernel tell the namespace of a host that something has happened to a device (`uevent_net_rcv` in
/// lib/kobject_uevent.c).
///
/// # Errors
/// When the kernel refuses it.
pub fn inject_uevent(host: &Host, subsystem: &str) -> Result<()> {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
    };
    let body = format!("change@/devices/test\0ACTION=change\0DEVPATH=/devices/test\0SUBSYSTEM={subsystem}\0");
    // The header of a netlink message: its length with the header, NLMSG_MIN_TYPE, NLM_F_REQUEST, and two fields that do
    // not matter.
    let length = u32::try_from(body.len() + 16)?;
    let (kind, request) = (0x10_u16.to_ne_bytes(), 1_u16.to_ne_bytes());
    let message = [&length.to_ne_bytes()[..], &kind, &request, &[0; 8], body.as_bytes()].concat();
    host.run(|| {
        let family = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, family)?;
        let kernel = NetlinkAddr::new(0, 0);
        sendto(std::os::fd::AsRawFd::as_raw_fd(&socket), &message, &kernel, MsgFlags::empty())
    })
    .with_context(|| format!("tell of {subsystem}"))
    .map(drop)
}

/// A connection profile for an interface of the scenario `two-providers`.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The interface, and the profile's name.
    pub interface: &'static str,
    /// The family of its address.
    pub family: Family,
    /// The address in the network of the interface, its last byte.
    pub host: u8,
    /// `connection.metered`: `yes`, `no` or `unknown`.
    pub metered: &'static str,
    /// The `user` setting.
    pub user: Vec<(&'static str, &'static str)>,
}

impl Profile {
    /// For `wifi0` or `lte0`, with the address that the scenario gives it.
    pub const fn of(interface: &'static str) -> Self {
        Self { interface, family: Family::V4, host: 2, metered: "unknown", user: Vec::new() }
    }

    fn text(&self) -> String {
        let (net, metric) = if self.interface == "wifi0" { (1, 600) } else { (2, 700) };
        let metered = match self.metered {
            "yes" => 1,
            "no" => 2,
            _ => 0,
        };
        let host = self.host;
        let (family, other, address) = match self.family {
            Family::V6 => ("ipv6", "ipv4", format!("2001:db8:{net}::{host}/64,fe80::1")),
            _ => ("ipv4", "ipv6", format!("10.{net}.0.{host}/24,10.{net}.0.1")),
        };
        let user: String = self.user.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        format!(
            "[connection]\nid={name}\nuuid=00000000-0000-4000-8000-00000000000{net}\ntype=ethernet\n\
             interface-name={name}\nmetered={metered}\n\
             [{family}]\nmethod=manual\naddress1={address}\nroute-metric={metric}\n\
             [{other}]\nmethod=disabled\n[user]\n{user}",
            name = self.interface,
        )
    }
}
