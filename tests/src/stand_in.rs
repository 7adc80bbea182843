//! What the kernel's own MPTCP tests call in place of the kernel's tools: their words in, their lines out, and in between
//! the client of the path managers that the command line and the daemon use.
pub mod ctl;
mod event;
pub mod ip;
mod words;

use std::future::Future;

use anyhow::{Context, Result};

/// Runs what speaks to the kernel.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start the event loop")?.block_on(work)
}
