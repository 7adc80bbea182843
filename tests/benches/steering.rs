//! Steering, beside the stock kernel in the same run: what a connection suffers when a path goes silent, what its
//! messages and transfers take over two unequal paths, and what steering costs where there is nothing to steer.
//!
//! "Stock" is the kernel's own path manager with endpoints and limits made by `ip mptcp`; "ours" is the daemon on the
//! client; the server is a stock host on both sides. Both sides take turns, repetition by repetition. Traffic, daemon and
//! emulator run at real-time priority: what else runs on the machine is not measured. A repetition that fails is told of
//! and left out.
//!
//! ```text
//! cargo xtask bench steering                                   all cells
//! cargo xtask bench steering outage thin                       these
//! cargo xtask bench steering outage --only download,backup,cubic,silent --rounds 1
//! cargo xtask bench steering --help
//! ```

#[path = "steering/answer.rs"]
mod answer;
#[path = "steering/calm.rs"]
mod calm;
#[path = "steering/cost.rs"]
mod cost;
#[path = "steering/crowd.rs"]
mod crowd;
#[path = "steering/network.rs"]
mod network;
#[path = "steering/options.rs"]
mod options;
#[path = "steering/outage.rs"]
mod outage;
#[path = "steering/run.rs"]
mod run;
#[path = "steering/sizes.rs"]
mod sizes;
#[path = "steering/thin.rs"]
mod thin;

use anyhow::Result;
use clap::Parser;
use options::{Cell, Options};
use run::Run;
use std::{panic, thread};

fn main() -> Result<()> {
    let options = Options::parse();
    let cells = options.cells();
    options.check(cells.iter().flat_map(|cell| words(*cell)))?;
    let mut run = Run::new(options);
    for cell in cells {
        // Each begins with the priority that it wants.
        let played = thread::scope(|scope| scope.spawn(|| play(cell, &mut run)).join());
        played.unwrap_or_else(|payload| panic::resume_unwind(payload))?;
    }
    run.finish()
}

fn words(cell: Cell) -> Vec<&'static str> {
    match cell {
        Cell::Outage => outage::words(),
        Cell::Thin => thin::words(),
        Cell::Sizes => sizes::words(),
        Cell::Calm => calm::words(),
        Cell::Crowd => crowd::words(),
        Cell::Answer => Vec::new(),
        Cell::Cost => cost::words(),
    }
}

fn play(cell: Cell, run: &mut Run) -> Result<()> {
    if cell != Cell::Cost {
        tests::keep_time();
    }
    match cell {
        Cell::Outage => outage::play(run),
        Cell::Thin => thin::play(run),
        Cell::Sizes => sizes::play(run),
        Cell::Calm => calm::play(run),
        Cell::Crowd => crowd::play(run),
        Cell::Answer => answer::play(run),
        Cell::Cost => cost::play(run),
    }
}
