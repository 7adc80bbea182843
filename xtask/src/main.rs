//! Set-up, build, checks, demonstration and benchmarks: `cargo xtask COMMAND`.
fn main() {}
