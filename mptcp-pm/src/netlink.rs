//! The only code that speaks netlink: the MPTCP path manager's generic-netlink family and sock_diag.
#[macro_use]
mod attributes;
pub mod diag;
pub mod diag_wire;
pub mod mptcp;
pub mod mptcp_wire;
pub mod transport;

#[cfg(test)]
mod tests;
