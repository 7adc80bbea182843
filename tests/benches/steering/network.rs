//! A fresh network for one side: nothing carries over from one repetition to the next.

use crate::options::{Options, Side, Words};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tests::by_hand::{self, Role};
use tests::daemon::{Daemon, await_that};
use tests::pair::{Begin, INTERFACES, Pair, Path};
use tests::traffic::{Options as Traffic, Transfer};
use tests::{Family, Host, Lab, kernel};

/// Unless a cell says otherwise.
pub const PAIR: Pair = Pair([Path::new(50.0, 20.0), Path::new(20.0, 80.0)]);

/// The daemon goes before the traffic (10) and after the emulator (20).
const WAY: [&str; 4] = ["chrt", "--fifo", "15", "env"];
/// It does not log each step, unless that is what is wanted.
const LOG: &str = "info";
/// It logs what may be replayed, and how such a line begins.
const RECORDING: &str = "trace";
const RECORDED: &str = " recorded ";

/// Congestion control of both ends, asked for by each socket: as the default of a namespace the kernel takes none that is
/// not free for all (`TCP_CONG_NON_RESTRICTED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Congestion(pub &'static str);

impl Congestion {
    /// Traffic that uses it.
    pub fn of(self, traffic: Traffic) -> Traffic {
        Traffic { congestion: Some(self.0.to_owned()), ..traffic }
    }
}

impl Words for Congestion {
    const ALL: &'static [(&'static str, Self)] = &[("cubic", Self("cubic")), ("bbr", Self("bbr"))];
}

impl Words for Role {
    const ALL: &'static [(&'static str, Self)] = &[("both", Self::InUse), ("backup", Self::Backup)];
}

/// Small messages: 500 bytes each way every 20 ms.
pub fn messages(traffic: Traffic) -> Traffic {
    Traffic { request: 500, response: 500, interval: Duration::from_millis(20), ..traffic }
}

/// What a network is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Make {
    /// The paths.
    pub pair: Pair,
    /// The path that connections begin on.
    pub begin: Begin,
    /// Roles of the paths; for ours, only whether the other one carries counts.
    pub roles: [Role; 2],
}

/// A network with a client, steered or not, and a stock server.
pub struct Network {
    // Ends before the network does.
    daemon: Option<Daemon>,
    pub lab: Lab,
    /// Where what the daemon's core was told is to be written.
    record: Option<PathBuf>,
}

impl Network {
    /// Builds it; on our side, the daemon is in charge of new connections.
    pub fn start(side: Side, make: &Make, options: &Options) -> Result<Self> {
        let mut scenario = make.pair.scenario(make.begin)?;
        for name in ["client", "server"] {
            // Or each connection would begin with what the one before has learned.
            let sysctl = &mut scenario.node(name)?.sysctl;
            sysctl.insert("net.ipv4.tcp_no_metrics_save".into(), "1".into());
        }
        let lab = Lab::start(&scenario, Family::V4)?;
        let daemon = match side {
            Side::Ours => Some(start(&lab, make, options)?),
            Side::Stock | Side::Kept | Side::Tcp => {
                roles(lab.host("client"), make.roles)?;
                None
            }
        };
        let record = options.record.clone().filter(|_| daemon.is_some());
        Ok(Self { daemon, lab, record })
    }

    /// The side that is steered or not.
    pub fn client(&self) -> &Arc<Host> {
        self.lab.host("client")
    }

    /// The stock host.
    pub fn server(&self) -> &Arc<Host> {
        self.lab.host("server")
    }

    /// Waits until the client has so many established subflows.
    pub fn await_subflows(&self, count: usize) -> Result<()> {
        let look = || kernel::subflows(self.client());
        let found = await_that(&format!("{count} subflows"), look, |seen| seen.len() >= count);
        found.map(drop).with_context(|| self.log())
    }

    /// Fails when a transfer is over that was to go on.
    pub fn goes_on(&self, transfer: &Transfer) -> Result<()> {
        ensure!(!transfer.is_over(), "the connection has ended; {}", self.log());
        Ok(())
    }

    /// Waits until no subflow is left of an earlier connection.
    pub fn await_none(&self) -> Result<()> {
        let none = await_that("no subflows", || kernel::subflows(self.client()), Vec::is_empty);
        none.map(drop).with_context(|| self.log())
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        let log = self.daemon.as_ref().map(Daemon::log);
        log.map_or_else(|| "no daemon".to_owned(), |log| format!("log of the daemon:\n{log}"))
    }
}

/// Gives both paths their roles, as an administrator does.
pub fn roles(client: &Host, [first, second]: [Role; 2]) -> Result<()> {
    by_hand::set_up(client, &[(INTERFACES[0], first), (INTERFACES[1], second)])
}

fn start(lab: &Lab, make: &Make, options: &Options) -> Result<Daemon> {
    let service = if make.roles.contains(&Role::Backup) { "handover" } else { "aggregate" };
    let ours = options.ours.clone().unwrap_or_else(|| format!("service = \"{service}\""));
    let level = options.log.or(options.record.as_ref().map(|_| RECORDING)).unwrap_or(LOG);
    let log = format!("RUST_LOG={level}");
    let way: Vec<&str> = WAY.into_iter().chain([log.as_str()]).collect();
    Daemon::start_in_charge(lab.host("client"), &format!("manager = \"daemon\"\n{ours}\n"), &way)
}

impl Drop for Network {
    fn drop(&mut self) {
        let Some(file) = &self.record else { return };
        let log = self.log();
        let lines = log.lines().filter_map(|line| Some(format!("{}\n", line.split_once(RECORDED)?.1)));
        if let Err(error) = fs::write(file, lines.collect::<String>()) {
            eprintln!("write {}: {error}", file.display());
        }
    }
}
