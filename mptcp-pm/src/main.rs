//! The `mptcp-pm` program.
fn main() {}
