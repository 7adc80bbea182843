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

#[path = "steering/network.rs"]
mod network;
#[path = "steering/options.rs"]
mod options;
#[path = "steering/outage.rs"]
mod outage;
#[path = "steering/turns.rs"]
mod turns;

use anyhow::Result;
use clap::Parser;
use options::{Cell, Options};
use std::thread;
use tests::bench::Report;
use turns::Turns;

fn main() -> Result<()> {
    let options = Options::parse();
    let cells = options.cells();
    options.check(cells.iter().flat_map(|cell| words(*cell)))?;
    let mut whole = Report::new("steering", "see each case; peer: the stock kernel");
    let mut failures = [0; 2];
    for cell in cells {
        let turns = thread::scope(|scope| scope.spawn(|| play(cell, &options)).join());
        let turns = turns.unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
        turns.report.print();
        println!();
        whole.take(turns.report);
        failures = [0, 1].map(|side| failures[side] + turns.failures[side]);
        // What there is stays when a later cell is interrupted.
        whole.write()?;
    }
    let [ours, stock] = failures.map(|count: usize| count as f64);
    whole.row("repetitions that failed", ours, Some(stock));
    if ours + stock > 0.0 {
        eprintln!("repetitions that failed: {ours} of ours, {stock} of the stock kernel's");
    }
    whole.write()
}

fn words(cell: Cell) -> Vec<&'static str> {
    match cell {
        Cell::Outage => outage::words(),
    }
}

fn play(cell: Cell, options: &Options) -> Result<Turns<'_>> {
    tests::keep_time();
    let play = match cell {
        Cell::Outage => outage::play,
    };
    play(options)
}
