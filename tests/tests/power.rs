//! On battery a second radio has no subflow while another uplink carries, and gets one when that fails.
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tests::daemon::{Daemon, PATIENCE, await_that};
use tests::desktop::{Desktop, inject_uevent};
use tests::kernel;
use tests::running::{Running, goes_on, uplink};
use tests::traffic::{Job, Options, Protocol, Server, start};
use tests::{Family, Host, Lab, Outage, Scenario};
use tokio::runtime::Runtime;

const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const MOBILE: &str = "10.2.0.2 subflow dev wwan0";
const MOBILE_STANDS_BY: &str = "10.2.0.2 subflow backup dev wwan0";
const HOLD_BACK: &str = "on-battery = \"hold-back\"\n";
const MANAGED: &str = "manager = \"daemon\"\n";
const PATH: &str = "/org/freedesktop/UPower";

/// Two accesses, the second of which has the name of a modem's interface.
fn lab() -> Result<Lab> {
    let mut scenario = Scenario::load("two-providers")?;
    let ends = scenario.cables.iter_mut().flat_map(|cable| &mut cable.end);
    for end in ends.filter(|end| end.interface == "lte0") {
        end.interface = "wwan0".into();
    }
    Lab::start(&scenario, Family::V4)
}

/// What stands for UPower.
struct Battery {
    in_use: bool,
}

#[zbus::interface(name = "org.freedesktop.UPower")]
impl Battery {
    #[zbus(property)]
    fn on_battery(&self) -> bool {
        self.in_use
    }
}

/// It on a host's bus; dropping it takes it away.
struct UPower {
    // Before the runtime in which it runs.
    connection: zbus::Connection,
    runtime: Runtime,
}

impl UPower {
    fn start(host: &Host, in_use: bool) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = format!("unix:path={}", tests::desktop::socket(host).display());
        let connection = runtime.block_on(async {
            let builder = zbus::connection::Builder::address(address.as_str())?;
            builder.serve_at(PATH, Battery { in_use })?.name("org.freedesktop.UPower")?.build().await
        })?;
        Ok(Self { connection, runtime })
    }

    fn set(&self, in_use: bool) -> Result<()> {
        self.runtime.block_on(async {
            let battery = self.connection.object_server().interface::<_, Battery>(PATH).await?;
            let mut present = battery.get_mut().await;
            present.in_use = in_use;
            present.on_battery_changed(battery.signal_emitter()).await?;
            Ok(())
        })
    }
}

#[test]
fn with_endpoints_the_second_radio_is_held_back_when_no_connection_needs_it() -> Result<()> {
    let lab = lab()?;
    let client = Arc::clone(lab.host("client"));
    let _desktop = Desktop::start(&client)?;
    let upower = UPower::start(&client, false)?;
    let run = Running::in_lab(lab, HOLD_BACK)?;
    run.await_endpoints(&[WIFI, MOBILE_STANDS_BY])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    upower.set(true)?;
    run.await_endpoints(&[WIFI])?;
    run.await_subflows(&["10.1.0.2"])?;
    goes_on(&talk)?;
    let says = |status: &serde_json::Value| {
        let reason = uplink(status, "wwan0").and_then(|wwan| wwan["rests"].as_str());
        status["desktop"]["on_battery"] == true && reason.is_some_and(|reason| reason.contains("battery"))
    };
    run.await_status("the reason", says)?;
    upower.set(false)?;
    run.await_endpoints(&[WIFI, MOBILE_STANDS_BY])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    drop(talk);

    // What began without Wi-Fi is not cut off when that comes back.
    upower.set(true)?;
    run.await_endpoints(&[WIFI])?;
    client.ip("link set wifi0 down")?;
    run.await_endpoints(&[MOBILE])?;
    let talk = run.talk()?;
    client.ip("link set wifi0 up")?;
    client.ip("route replace default via 10.1.0.1 dev wifi0 metric 600")?;
    run.await_endpoints(&[WIFI])?;
    run.await_subflows(&["10.1.0.2"])?;
    goes_on(&talk)?;
    // Without UPower nobody knows.
    drop(upower);
    run.await_endpoints(&[WIFI, MOBILE_STANDS_BY])
}

#[test]
fn a_silent_path_wakes_the_radio_that_is_held_back() -> Result<()> {
    let lab = lab()?;
    let client = Arc::clone(lab.host("client"));
    let _desktop = Desktop::start(&client)?;
    let _upower = UPower::start(&client, true)?;
    let daemon = Daemon::start_in_charge(&client, MANAGED, &[])?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    run.await_endpoints(&[WIFI, MOBILE_STANDS_BY])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2"])?;
    let download = start(&client, &run.server, Job::BulkDown, Options::bytes(1 << 30))?;
    download.wait_for(4 << 20, PATIENCE)?;
    ensure!(kernel::counter(&client, "MPJoinSynTx")? == 0, "joins on battery");
    run.lab.link("wifi").outage(Outage::Silent)?;
    goes_on(&talk)?;
    download.wait_for(download.bytes() + (1 << 20), PATIENCE)?;
    run.await_subflows(&["10.2.0.2", "10.2.0.2"])?;
    Ok(())
}

/// Without UPower the kernel's word counts; it tells when that changes.
#[test]
fn without_upower_the_kernel_tells_of_the_battery() -> Result<()> {
    let lab = lab()?;
    let client = Arc::clone(lab.host("client"));
    let supplies = client.scratch().join("power_supply");
    let write = |file: &str, text: &str| -> Result<()> {
        let file = supplies.join(file);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, text).context("write what stands for sysfs")
    };
    for (file, text) in
        [("AC/type", "Mains\n"), ("AC/online", "1\n"), ("BAT0/type", "Battery\n"), ("BAT0/status", "Full\n")]
    {
        write(file, text)?;
    }
    let mount = format!("mount --bind {} /sys/class/power_supply && exec \"$@\"", supplies.display());
    let way = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"];
    let daemon = Daemon::start_through(&client, HOLD_BACK, &way)?;
    let look = || kernel::endpoints(&client);
    let await_endpoints = |expected: &[&str]| {
        await_that(&format!("{expected:?}"), look, |seen| seen == expected).with_context(|| daemon.log())
    };
    await_endpoints(&[WIFI, MOBILE_STANDS_BY])?;
    write("AC/online", "0\n")?;
    write("BAT0/status", "Discharging\n")?;
    inject_uevent(&client, "power_supply")?;
    await_endpoints(&[WIFI])?;
    write("AC/online", "1\n")?;
    inject_uevent(&client, "power_supply")?;
    await_endpoints(&[WIFI, MOBILE_STANDS_BY]).map(drop)
}
