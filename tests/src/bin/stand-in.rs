//! Takes the place of two programs that the kernel's own MPTCP tests call: of `pm_nl_ctl`, or of `ip`, by the name that it
//! is called by. `cargo xtask conformance` puts it there.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use tests::stand_in::{ctl, ip};

fn main() -> ExitCode {
    let mut words = env::args_os();
    let called = words.next().unwrap_or_default();
    let words: Vec<_> = words.collect();
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some("ip") => ip::run(&words),
        _ => ctl::run(&words),
    }
}
