//! A thousand connections over an uplink that goes silent: when 99 % of them have moved.
//!
//! Each sends a small message every 200 ms and waits for the answer. It has moved when it is answered for the first time
//! after the loss: nothing comes over the lost path then. Half an interval of that, in the mean, is its own pause.

use crate::network::{Make, Network, PAIR};
use crate::options::{Words, words as of};
use crate::run::Run;
use anyhow::{Context, Result};
use std::thread;
use std::time::{Duration, Instant};
use tests::Outage;
use tests::bench::milliseconds;
use tests::by_hand::Role;
use tests::crowd::{Crowd, Talk};
use tests::pair::{Begin, LINKS};

/// Repetitions, unless an argument says otherwise.
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 1000;
/// 5000 messages a second are what two processors carry beside the emulator without being busy.
const TALK: Talk =
    Talk { message: 100, in_a_row: 1, interval: Duration::from_millis(200), gap: Duration::from_millis(1) };
/// They talk for this long before, once all subflows are there.
const BEFORE: Duration = Duration::from_secs(2);
/// Answers that had arrived before the loss have been read by then, and none can have come by the other path.
const GRACE: Duration = Duration::from_millis(30);
/// For so long they may take; what has not moved then counts as this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// The words of the sub-cells.
pub fn words() -> Vec<&'static str> {
    of::<Role>().collect()
}

/// Runs the chosen sub-cells.
pub fn play(run: &mut Run) -> Result<()> {
    run.begin("crowd", "ms", ROUNDS);
    let options = run.options.clone();
    for second in options.pick::<Role>() {
        let make = Make { pair: PAIR, begin: Begin::First, roles: [Role::InUse, second] };
        run.measure(second.word(), ["half have moved", "99 %", "all"], |side| {
            repetition(&Network::start(side, &make, &options)?)
        });
    }
    run.end()
}

fn repetition(network: &Network) -> Result<[f64; 3]> {
    let crowd = Crowd::start([network.client(), network.server()], CONNECTIONS, TALK)?;
    network.await_subflows(2 * CONNECTIONS)?;
    thread::sleep(BEFORE);
    network.lab.link(LINKS[0]).outage(Outage::Silent)?;
    crowd.mark(GRACE);
    let begin = Instant::now();
    while crowd.answered().len() < CONNECTIONS && begin.elapsed() < PATIENCE {
        thread::sleep(LOOK);
    }
    let mut moved = crowd.answered();
    crowd.end().context("a connection has ended")?;
    moved.resize(CONNECTIONS, PATIENCE);
    moved.sort_unstable();
    let at = |share: usize| milliseconds(moved[(CONNECTIONS * share).div_ceil(100) - 1]);
    Ok([at(50), at(99), at(100)])
}
