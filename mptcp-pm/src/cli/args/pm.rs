//! The commands that speak to the kernel's path managers, as they are written.
use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand, ValueEnum};

use super::JsonArgs;
use crate::cli::values::{self, Target};

/// The ids that an address of ours may have; 0 is the initial subflow's.
const IDS: std::ops::RangeInclusive<i64> = 1..=255;
/// The ports that exist.
const PORTS: std::ops::RangeInclusive<i64> = 1..=65535;

/// `endpoint`.
#[derive(Clone, Debug, Subcommand)]
pub enum EndpointCommand {
    /// List the endpoints, or the local addresses of one connection
    #[command(after_long_help = ENDPOINT_JSON)]
    List {
        /// The connection whose local addresses to list
        #[arg(long, value_parser = values::token)]
        token: Option<u32>,
        /// How to print.
        #[command(flatten)]
        output: JsonArgs,
    },
    /// Add an endpoint
    Add(AddArgs),
    /// Change the flags of an endpoint
    Change(ChangeArgs),
    /// Delete an endpoint, and the subflows from it
    Delete {
        /// Its id; 0 is the address of initial subflows, which must be named
        id: u8,
        /// Its address, to be sure
        #[arg(required_if_eq("id", "0"))]
        addr: Option<IpAddr>,
    },
    /// Delete all endpoints, also those that others have made
    Flush,
}

const ENDPOINT_JSON: &str = "\
JSON: an array of objects, one for each endpoint:
  id         its id, 0 to 255
  addr       its address, a string
  port       the port announced with it, 0 for none
  interface  the interface its subflows are bound to, null for none
  ifindex    the index of that interface, null for none
  flags      an array of \"signal\", \"subflow\", \"backup\", \"fullmesh\",
             \"implicit\", \"laminar\"";

/// `endpoint add`.
#[derive(Clone, Debug, Args)]
#[command(
    group = clap::ArgGroup::new("flags").multiple(true).required(true),
    override_usage = "mptcp-pm endpoint add [OPTIONS] <FLAG>... <ADDR>",
    after_help = "Flags: at least one of --signal, --subflow, --backup, --fullmesh, --laminar.",
)]
pub struct AddArgs {
    /// An address of this machine
    pub addr: IpAddr,
    /// Its id; the kernel chooses one if there is none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(IDS))]
    pub id: Option<u8>,
    /// The interface that its subflows are bound to
    #[arg(long, value_name = "IFACE")]
    pub dev: Option<String>,
    /// The port to announce with it, on which the kernel then listens
    #[arg(long, requires = "signal", conflicts_with = "subflow",
        value_parser = clap::value_parser!(u16).range(PORTS))]
    pub port: Option<u16>,
    /// Announce the address to the peer (ADD_ADDR)
    #[arg(long, group = "flags")]
    pub signal: bool,
    /// Create a subflow from the address
    #[arg(long, group = "flags")]
    pub subflow: bool,
    /// Its subflows stand by
    #[arg(long, group = "flags")]
    pub backup: bool,
    /// Create a subflow from the address to every address of the peer
    #[arg(long, group = "flags", conflicts_with = "signal")]
    pub fullmesh: bool,
    /// Only answer the peer's announcements from the address (Linux 6.18)
    #[arg(long, group = "flags")]
    pub laminar: bool,
}

/// `endpoint change`.
#[derive(Clone, Debug, Args)]
#[command(
    group = clap::ArgGroup::new("changes").multiple(true).required(true),
    override_usage = "mptcp-pm endpoint change [OPTIONS] <CHANGE>... <ID|ADDR>",
    after_help = "Changes: at least one of --backup, --no-backup, --fullmesh, --no-fullmesh.",
)]
pub struct ChangeArgs {
    /// Its id or its address
    #[arg(value_name = "ID|ADDR", value_parser = values::target)]
    pub target: Target,
    /// The port announced with it, where it has one
    #[arg(long, value_parser = clap::value_parser!(u16).range(PORTS))]
    pub port: Option<u16>,
    /// Its subflows stand by
    #[arg(long, group = "changes", conflicts_with = "no_backup")]
    pub backup: bool,
    /// Its subflows are used like others
    #[arg(long, group = "changes")]
    pub no_backup: bool,
    /// Subflows to every address of the peer; existing ones are made anew
    #[arg(long, group = "changes", conflicts_with = "no_fullmesh")]
    pub fullmesh: bool,
    /// No subflows to every address of the peer; existing ones are made anew
    #[arg(long, group = "changes")]
    pub no_fullmesh: bool,
}

/// `limits`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_long_help = LIMITS_JSON)]
pub struct LimitsArgs {
    /// What to do with them; without, they are shown.
    #[command(subcommand)]
    pub command: Option<LimitsCommand>,
    /// How to print.
    #[command(flatten)]
    pub output: JsonArgs,
}

const LIMITS_JSON: &str = "\
JSON: an object:
  subflows           subflows of a connection beside the initial one
  add_addr_accepted  announced addresses of the peer that are accepted";

/// What to do with the limits.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LimitsCommand {
    /// Show the limits
    #[command(after_long_help = LIMITS_JSON)]
    Show(JsonArgs),
    /// Change the limits: of subflows at once, of accepted addresses for connections made from now on
    Set(SetLimitsArgs),
}

/// `limits set`.
#[derive(Clone, Copy, Debug, Args)]
#[command(group = clap::ArgGroup::new("limits").multiple(true).required(true))]
pub struct SetLimitsArgs {
    /// Subflows of a connection beside the initial one
    #[arg(long, value_name = "N", group = "limits")]
    pub subflows: Option<u32>,
    /// Announced addresses of the peer that are accepted
    #[arg(long, value_name = "N", group = "limits")]
    pub add_addr_accepted: Option<u32>,
}

/// `subflow`; for connections of the userspace path manager.
#[derive(Clone, Debug, Subcommand)]
pub enum SubflowCommand {
    /// Create a subflow
    #[command(override_usage = "\
        mptcp-pm subflow create [OPTIONS] --token <TOKEN>
           --local <ADDR> --local-id <N> --remote <ADDR:PORT>")]
    Create {
        /// The connection
        #[arg(long, value_parser = values::token)]
        token: u32,
        /// An address of this machine
        #[arg(long, value_name = "ADDR")]
        local: IpAddr,
        /// The id of that address in this connection
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(IDS))]
        local_id: u8,
        /// The interface that the subflow is bound to
        #[arg(long, value_name = "IFACE")]
        dev: Option<String>,
        /// An address and port of the peer
        #[arg(long, value_name = "ADDR:PORT", value_parser = values::socket)]
        remote: SocketAddr,
        /// The subflow stands by
        #[arg(long)]
        backup: bool,
    },
    /// Destroy a subflow
    #[command(override_usage = "\
        mptcp-pm subflow destroy --token <TOKEN>
           --local <ADDR:PORT> --remote <ADDR:PORT>")]
    Destroy {
        /// The connection
        #[arg(long, value_parser = values::token)]
        token: u32,
        /// Its address and port on this machine
        #[arg(long, value_name = "ADDR:PORT", value_parser = values::socket)]
        local: SocketAddr,
        /// Its address and port at the peer
        #[arg(long, value_name = "ADDR:PORT", value_parser = values::socket)]
        remote: SocketAddr,
    },
}

/// `announce`; for connections of the userspace path manager.
#[derive(Clone, Debug, Args)]
pub struct AnnounceArgs {
    /// The connection
    #[arg(long, value_parser = values::token)]
    pub token: u32,
    /// The address; one that is not of this machine is for peers behind its address translation
    pub addr: IpAddr,
    /// Its id in this connection
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(IDS))]
    pub id: u8,
    /// The port to announce with it
    #[arg(long, value_parser = clap::value_parser!(u16).range(PORTS))]
    pub port: Option<u16>,
    /// The interface of the address
    #[arg(long, value_name = "IFACE")]
    pub dev: Option<String>,
}

/// `withdraw`; for connections of the userspace path manager.
#[derive(Clone, Debug, Args)]
pub struct WithdrawArgs {
    /// The connection
    #[arg(long, value_parser = values::token)]
    pub token: u32,
    /// The id of the address in this connection; 0 is the initial subflow's
    #[arg(long, value_name = "N")]
    pub id: u8,
}

/// `priority`.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "\
    mptcp-pm priority --token <TOKEN> --local <ADDR[:PORT]>
           --remote <ADDR:PORT> <PRIORITY>")]
pub struct PriorityArgs {
    /// The connection
    #[arg(long, value_parser = values::token)]
    pub token: u32,
    /// The subflow's address on this machine, with its port if there are several
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::address_or_socket)]
    pub local: SocketAddr,
    /// The subflow's address and port at the peer
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::socket)]
    pub remote: SocketAddr,
    /// What the subflow becomes
    pub priority: Priority,
}

/// What a subflow is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// It stands by
    Backup,
    /// It is used
    Active,
}
