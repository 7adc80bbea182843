//! The bytes of the `mptcp_pm` generic-netlink family (`include/uapi/linux/mptcp_pm.h`, as of 7.3).
pub mod command;
pub mod controller;
pub mod event;

/// The name of the family.
pub const FAMILY: &str = "mptcp_pm";
/// The name of its multicast group of events (since 5.12).
pub const EVENT_GROUP: &str = "mptcp_pm_events";
