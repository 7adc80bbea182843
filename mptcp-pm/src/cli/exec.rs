//! `exec`: starts a program whose C library asks for MPTCP, for kernels that let nobody else decide it.
use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::args::ExecArgs;
use super::program::become_program;

/// The library that is loaded into the program; `mptcp-preload` is its source.
const LIBRARY: &str = "libmptcp_preload.so";

/// Where it is beside the program, as it is built and as it is installed.
const PLACES: [&str; 2] = [".", "../lib/mptcp-pm"];

/// Becomes the program, so that signals and the exit status are its own.
///
/// # Errors
/// When the library is not there or the program cannot be started.
pub(super) fn run(args: &ExecArgs) -> Result<Infallible> {
    let library = library(args.library.as_deref())?;
    if let Err(error) = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)) {
        eprintln!("mptcp-pm: there is no MPTCP here, the program gets TCP: {error}: see `mptcp-pm doctor`");
    }
    // What Go wants, too.
    let go = with_former("GODEBUG", OsStr::new("multipathtcp=1"), b',');
    let preload = with_former("LD_PRELOAD", library.as_os_str(), b':');
    become_program(&args.command, |command| command.env("LD_PRELOAD", preload).env("GODEBUG", go))
}

/// A variable's value with one more word; the former ones come after it, so that in GODEBUG the owner's choice holds.
fn with_former(variable: &str, word: &OsStr, separator: u8) -> OsString {
    let mut value = word.to_owned();
    if let Some(former) = env::var_os(variable).filter(|former| !former.is_empty()) {
        value.push(OsStr::from_bytes(&[separator]));
        value.push(former);
    }
    value
}

fn library(told: Option<&Path>) -> Result<PathBuf> {
    let found = match told {
        Some(file) => std::path::absolute(file).context("cannot find the present folder")?,
        None => beside_this()?,
    };
    if !found.is_file() {
        bail!("there is no library {}: install the package anew, or use --library", found.display());
    }
    // The loader knows no way to write those in a path (ld.so(8)).
    if found.as_os_str().as_bytes().iter().any(|byte| b" \t\n:".contains(byte)) {
        bail!("{} has a blank or a colon in it, which LD_PRELOAD cannot say: move it", found.display());
    }
    Ok(found)
}

fn beside_this() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot find the program mptcp-pm itself")?;
    let dir = this.parent().unwrap_or(Path::new("/"));
    let places = PLACES.map(|place| dir.join(place).join(LIBRARY));
    let found = places.iter().find(|file| file.is_file());
    found.map(|file| file.canonicalize().context("cannot find the library")).unwrap_or_else(|| {
        let places = places.each_ref().map(|place| place.display().to_string()).join(" and ");
        bail!("the library {LIBRARY} is not in {places}: install the package anew, or use --library")
    })
}
