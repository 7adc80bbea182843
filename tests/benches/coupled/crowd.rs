//! A thousand connections, opened and closed while others send. What they leave is looked at by who calls:
//! nothing in the maps, no name in the kernel.
use crate::flows::{Flow, end};
use crate::network::one_bottleneck;
use crate::record::Record;
use anyhow::{Context, Result};
use mptcp_pm::bpf::coupled::Algorithm;
use std::time::Instant;
use tests::traffic::{Job, Options, Protocol, Server, start};

const CONNECTIONS: usize = 1000;
/// How many are open at a time.
const AT_ONCE: usize = 25;

pub fn measure(record: &mut Record) -> Result<()> {
    let lab = one_bottleneck(2)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let names = Algorithm::ALL.map(Algorithm::name);
    let load = names.iter().map(|name| Flow::mptcp(name).start(&lab, &server)).collect::<Result<_>>()?;
    let begin = Instant::now();
    for first in (0..CONNECTIONS).step_by(AT_ONCE) {
        let transfers = (first..first + AT_ONCE).map(|number| {
            let congestion = Some(names[number % names.len()].to_owned());
            let options = Options { congestion, ..Options::bytes(10_000) };
            start(lab.host("client"), &server, Job::BulkUp, options)
        });
        for transfer in transfers.collect::<Result<Vec<_>>>()? {
            anyhow::ensure!(transfer.join().context("one of many")?.intact());
        }
    }
    let rate = rate(begin);
    end(&lab, server, load)?;
    record.add("crowd: connections opened and closed under load, a second", rate);
    Ok(())
}

fn rate(begin: Instant) -> f64 {
    CONNECTIONS as f64 / begin.elapsed().as_secs_f64()
}
