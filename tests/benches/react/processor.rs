//! Which processor the clock has, and which the daemons.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Who is to have a processor.
#[derive(Clone, Copy)]
pub enum Of {
    /// The thread that makes the changes and looks for what comes of them; what it starts, too.
    Clock,
    /// Every daemon.
    Daemons,
}

/// Gives a process the first of this machine's processors, or all others; where there is one only, they share it.
pub fn take(process: Pid, of: Of) -> Result<()> {
    let all = sched_getaffinity(Pid::from_raw(1)).context("read which processors there are")?;
    let mut chosen = CpuSet::new();
    let there = (0..CpuSet::count()).filter(|&number| all.is_set(number).unwrap_or(false));
    let (first, others): (Vec<_>, Vec<_>) = there.enumerate().partition(|(index, _)| *index == 0);
    let numbers = match of {
        Of::Daemons if !others.is_empty() => others,
        Of::Clock | Of::Daemons => first,
    };
    numbers.into_iter().try_for_each(|(_, number)| chosen.set(number))?;
    sched_setaffinity(process, &chosen).with_context(|| format!("give {process} a processor"))
}
