//! The daemon's interface on D-Bus, on a bus of the test's own with the policy that is shipped.
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use serde_json::Value;
use tests::daemon::{Daemon, PATIENCE, await_that};
use tests::running::{Running, goes_on};
use tests::traffic::{Protocol, Server};
use tests::{Child, Family, Host, Lab, Outage, Scenario, kernel};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::{Connection, Proxy, connection};

const NAME: &str = "mptcp_pm.Daemon1";
const PATH: &str = "/mptcp_pm/Daemon1";
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/dbus/mptcp_pm.Daemon1.conf");
const DOCUMENT: &str = include_str!("../../docs/dbus.md");
const CONFIG: &str = "profile = \"heavy\"\nmanager = \"daemon\"\n";
const NOBODY: &str = "65534";

/// What Debian's system.conf allows, as far as it matters here.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus"/></policy>
<include>POLICY</include>EXTRA</busconfig>"#;

struct Bus {
    runtime: Runtime,
    child: Child,
    socket: PathBuf,
}

impl Bus {
    fn start(host: &Arc<Host>, extra: &str) -> Result<Self> {
        let (socket, file) = (Daemon::bus(host), host.scratch().join("bus.conf"));
        let text = BUS
            .replace("SOCKET", &socket.to_string_lossy())
            .replace("POLICY", POLICY)
            .replace("EXTRA", extra);
        fs::write(&file, text)?;
        let argument = format!("--config-file={}", file.display());
        let child = host.command("dbus-daemon").args([&argument, "--nofork", "--nopidfile"]).spawn()?;
        await_that(
            "the bus",
            || Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok()),
            |there| *there,
        )
        .context("dbus-daemon does not start: `cargo xtask setup` installs it")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, child, socket })
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }

    fn connect(&self) -> Result<Connection> {
        let connect = async { connection::Builder::address(self.address().as_str())?.build().await };
        Ok(self.runtime.block_on(connect)?)
    }

    fn proxy(&self, connection: &Connection) -> Result<Proxy<'static>> {
        Ok(self.runtime.block_on(Proxy::new(connection, NAME, PATH, NAME))?)
    }
}

/// A network whose daemon is on a bus.
fn start(extra: &str) -> Result<(Bus, Running)> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let bus = Bus::start(lab.host("client"), extra)?;
    let daemon = Daemon::start(lab.host("client"), CONFIG)?;
    let run = Running { daemon, server: Server::start(lab.host("server"), Protocol::Mptcp)?, lab };
    run.await_status("the daemon in charge", |status| status["manager"] == "daemon")?;
    Ok((bus, run))
}

#[test]
fn root_asks_sets_and_is_told_what_happens_to_paths() -> Result<()> {
    let (mut bus, run) = start("")?;
    let _inside = bus.runtime.enter();
    let connection = bus.connect()?;
    let daemon = bus.proxy(&connection)?;
    let mut told = bus.runtime.block_on(daemon.receive_signal("PathChanged"))?;
    bus.runtime.block_on(daemon.call::<_, _, ()>("Subscribe", &()))?;
    let mut next = |wanted: &str, uplink: &str| -> Result<u32> {
        let heard = async {
            while let Some(message) = told.next().await {
                let body = message.body();
                let (token, change, at, local, remote): (u32, String, String, String, String) =
                    body.deserialize()?;
                if (change.as_str(), at.as_str()) == (wanted, uplink) {
                    ensure!(local.contains(':') && remote.starts_with("10.9.0.2:"), "{local} {remote}");
                    return Ok(token);
                }
            }
            anyhow::bail!("the bus has gone")
        };
        let heard = bus.runtime.block_on(async { timeout(PATIENCE, heard).await });
        heard.with_context(|| format!("no {wanted} of {uplink}"))?
    };
    let talk = run.talk()?;
    let token = next("path-opened", "wifi0")?;
    assert_eq!(next("path-opened", "lte0")?, token);

    let status: String = bus.runtime.block_on(daemon.call("GetStatus", &()))?;
    let status: Value = serde_json::from_str(&status)?;
    assert_eq!(status["connections"]["listed"][0]["token"], token);
    let version: String = bus.runtime.block_on(daemon.get_property("Version"))?;
    assert_eq!(status["version"], version);

    let service =
        || -> Result<(String, String)> { Ok(bus.runtime.block_on(daemon.call("GetService", &(token,)))?) };
    assert_eq!(service()?, ("aggregate".into(), "profile".into()));
    let set = |to: &str| bus.runtime.block_on(daemon.call::<_, _, ()>("SetService", &(token, to)));
    set("single")?;
    assert_eq!(service()?, ("single".into(), "hand".into()));
    assert_eq!(next("path-closed", "lte0")?, token);
    assert_eq!(kernel::subflows(run.client())?.len(), 1);
    set("")?;
    assert_eq!(service()?, ("aggregate".into(), "profile".into()));
    next("path-opened", "lte0")?;
    goes_on(&talk)?;

    let wrong = set("fast").expect_err("is no service type").to_string();
    assert!(wrong.contains("InvalidArgs") && wrong.contains("\"fast\" is no service type"), "{wrong}");
    let gone = bus.runtime.block_on(daemon.call::<_, _, ()>("SetService", &(1_u32, "single")));
    let gone = gone.expect_err("there is none").to_string();
    assert!(gone.contains("no MPTCP connection has the token 0x00000001"), "{gone}");

    // Who has left is told nothing, and what is told is not made for nobody.
    drop((told, daemon));
    bus.runtime.block_on(connection.close())?;
    let left = || Ok(run.daemon.log());
    await_that("nobody who listens", left, |log| log.contains("nobody on D-Bus listens any more"))?;
    run.lab.link("lte").outage(Outage::Down)?;
    goes_on(&talk)?;

    // Without its bus the daemon goes on.
    bus.child.kill()?;
    await_that("the end of the bus to be noticed", left, |log| log.contains("D-Bus has gone"))?;
    run.daemon.status()?;
    let next_bus = Bus::start(run.client(), "")?;
    let _inside = next_bus.runtime.enter();
    let connection = next_bus.connect()?;
    let owners = next_bus.runtime.block_on(DBusProxy::new(&connection))?;
    let owned = || Ok(next_bus.runtime.block_on(owners.name_has_owner(NAME.try_into()?))?);
    await_that("the interface on the next bus", owned, |is_there| *is_there)?;
    run.daemon.stop()
}

/// `busctl` as another user.
fn call(run: &Running, bus: &Bus, method: &[&str]) -> Result<String> {
    let address = format!("--address={}", bus.address());
    let words = ["--reuid", NOBODY, "--clear-groups", "--", "busctl", &address, "call", NAME, PATH];
    let output = run.client().command("setpriv").args(words).args(method).output()?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

#[test]
fn others_may_not_and_where_the_bus_lets_them_not_set() -> Result<()> {
    let look = [NAME, "GetStatus"];
    let set = [NAME, "SetService", "us", "1", "single"];
    for (extra, looks) in [
        ("", false),
        (r#"<policy context="mandatory"><allow send_destination="mptcp_pm.Daemon1"/></policy>"#, true),
    ] {
        let (bus, run) = start(extra)?;
        // The folders of the lab are root's.
        for folder in run.client().scratch().ancestors().take(2) {
            fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        let seen = call(&run, &bus, &look)?;
        assert_eq!(seen.starts_with("s \"{"), looks, "{seen}");
        let said = call(&run, &bus, &set)?;
        let expected = if looks { "only root may change something" } else { "Access denied" };
        assert!(said.contains(expected), "{said}");
        let described = call(&run, &bus, &["org.freedesktop.DBus.Introspectable", "Introspect"])?;
        assert!(described.contains("PathChanged"), "{described}");
    }
    Ok(())
}

#[test]
fn the_document_has_the_interface_as_it_is() -> Result<()> {
    let (bus, _run) = start("")?;
    let _inside = bus.runtime.enter();
    let connection = bus.connect()?;
    let xml = bus.runtime.block_on(bus.proxy(&connection)?.introspect()).context("introspect")?;
    let ours = xml.split("  <interface ").find(|part| part.starts_with(&format!("name=\"{NAME}\"")));
    let ours = format!("<interface {}", ours.context("our interface")?.trim_end());
    let (_, block) = DOCUMENT.split_once("```xml\n").context("an XML block")?;
    let documented = block.split("```").next().unwrap_or_default().trim_end();
    let lines = |text: &str| {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(lines(documented), lines(&ours), "{ours}");
    Ok(())
}
