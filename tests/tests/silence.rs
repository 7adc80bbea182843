//! The object `silence` on the running kernel: it notices when nothing comes back, on the subflows of its own namespace.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::silence::{Alarm, Silence};
use tests::daemon::{PATIENCE, await_that};
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Family, Lab, Outage, Scenario};
use tokio::runtime::Runtime;

struct Net {
    runtime: Runtime,
    silence: Silence,
    lab: Lab,
}

impl Net {
    fn start() -> Result<Self> {
        let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let silence = {
            let _inside = runtime.enter();
            attach_in(&lab, "client", &runtime)?
        };
        ensure!(silence.absent().is_empty(), "{:?}", silence.absent());
        Ok(Self { runtime, silence, lab })
    }

    fn next(&mut self) -> Result<Alarm> {
        let next = async { tokio::time::timeout(PATIENCE, self.silence.next()).await };
        let alarm = self.runtime.block_on(next).context("no alarm")??;
        println!("{alarm:?}");
        Ok(alarm)
    }
}

fn attach_in(lab: &Lab, host: &str, runtime: &Runtime) -> Result<Silence> {
    lab.host(host).run(|| {
        let _inside = runtime.enter();
        Silence::attach().context("attaching silence")
    })
}

#[test]
fn an_upload_whose_path_goes_silent_is_late_and_then_silent() -> Result<()> {
    let mut net = Net::start()?;
    let server = Server::start(net.lab.host("server"), Protocol::Mptcp)?;
    let upload = traffic::start(net.lab.host("client"), &server, Job::BulkUp, Options::bytes(40 << 20))?;
    upload.wait_for(10 << 20, PATIENCE)?;
    while let Some(alarm) = net.silence.waiting() {
        println!("before: {alarm:?}");
    }
    net.lab.link("wifi").outage(Outage::Silent)?;
    net.next()?;
    net.next()?;
    std::thread::sleep(Duration::from_millis(500));
    net.lab.link("wifi").outage(Outage::None)?;
    net.next()?;
    println!("{:?}", net.silence.counts()?);
    upload.join()?;
    println!("{:?}", net.silence.counts()?);
    while let Some(alarm) = net.silence.waiting() {
        println!("after: {alarm:?}");
    }
    // It keeps its end open until then.
    drop(server);
    await_that("no subflow under watch", || Ok(net.silence.watched()?), |watched| *watched == 0)?;
    Ok(())
}
