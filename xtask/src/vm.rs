//! Other kernels: boots one of Debian's under qemu's software emulation, with this machine's root file system, shared
//! read-only below a layer in memory, as its own; runs one command there as root.
pub mod matrix;

mod baseline;
mod guest;
mod initrd;

pub use guest::Guest;

use std::{
    ffi::OsString,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::Result;

use crate::{
    run::require_root,
    setup::{self, ensure, kernels},
};

/// Runs a command under a kernel of each series; the status is the first one that is not 0.
pub fn command(series: &[&str], command: &[OsString], limit: Duration) -> Result<ExitCode> {
    prepare()?;
    let mut status = 0;
    for series in series {
        let kernel = kernels::get(series)?;
        eprintln!("vm: Linux {}", kernel.release);
        let outcome = Guest { kernel: &kernel, command, limit, output: Stdio::inherit() }.run()?;
        if status == 0 {
            status = outcome.status;
        }
    }
    Ok(ExitCode::from(status))
}

/// Brings what guests need, beside their kernels.
pub fn prepare() -> Result<()> {
    require_root("other kernels")?;
    ensure(setup::VM)
}
