//! The lab: networks of namespaces with emulated links, on which every claim is tested.

pub mod bench;
pub mod daemon;
mod emulator;
mod host;
mod lab;
mod link;
mod namespace;
mod process;
pub mod queue;
mod require;
mod rng;
pub mod scenario;
mod scratch;
pub mod traffic;

pub use emulator::{Direction, keep_time};
pub use host::{Address, Host};
pub use lab::Lab;
pub use link::{Link, LinkCounters, Outage};
pub use namespace::Namespace;
pub use process::{Child, Command};
pub use require::require;
pub use rng::Rng;
pub use scenario::{Family, Scenario};
