//! What watching costs: an unshaped transfer with and without the programs of `path_stats`, the time of each program's
//! run, and reader and daemon beside ten thousand subflows that all move data.
//!
//! The transfer goes between two namespaces over one veth pair; nothing limits it but the processors, which sender and
//! receiver share. The programs are attached in both namespaces, as if either host ran the daemon. Transfers with and
//! without them alternate; the order changes from pair to pair. The kernel's statistics of the programs, which cost
//! time themselves, are switched on (`BPF_ENABLE_STATS`) only for transfers of their own.
//!
//! The crowd is there twice: the paths of its connections are the kernel's, then, as by default, the daemon's.
//!
//! Arguments: the number of pairs (0 leaves out the transfers), then the number of connections (0 leaves out the crowd).

#[path = "overhead/crowd.rs"]
mod crowd;
#[path = "overhead/goodput.rs"]
mod goodput;
#[path = "overhead/runs.rs"]
mod runs;

use anyhow::{Context, Result};
use tests::bench::Report;

/// Transfers with and without, unless an argument says otherwise.
const PAIRS: usize = 12;
/// Connections of two subflows each, unless an argument says otherwise.
const CONNECTIONS: usize = 5000;

/// What both measure in; the transfer takes the first cable alone, since nobody tells it of the other.
const NETWORK: &str = "two-cables";

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let numbers = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let numbers: Vec<usize> =
        numbers.map(|number| number.parse()).collect::<Result<_, _>>().context("read the arguments")?;
    let mut report = Report::new("overhead", "see each case; peer: without");
    let pairs = numbers.first().copied().unwrap_or(PAIRS);
    if pairs > 0 {
        goodput::compare(&mut report, pairs)?;
    }
    let connections = numbers.get(1).copied().unwrap_or(CONNECTIONS);
    if connections > 0 {
        for manager in ["kernel", "daemon"] {
            crowd::measure(&mut report, connections, manager)?;
        }
    }
    report.finish()
}
