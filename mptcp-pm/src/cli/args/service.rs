//! The commands about service types, as they are written.
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::values;
use super::{JsonArgs, SocketArgs};
use crate::core::service::Service;

/// `service`.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceCommand {
    /// Give a living connection a service type, whatever the configuration says
    ///
    /// It holds until the connection ends, or the daemon does. Only root may do it.
    Set {
        /// The connection's token, as `status` shows it
        #[arg(value_parser = values::token)]
        token: u32,
        /// The service type
        #[arg(value_name = "TYPE", value_parser = values::service_type())]
        service: Service,
        /// Where the daemon is.
        #[command(flatten)]
        daemon: SocketArgs,
    },
    /// Leave the service type of a connection to the configuration again
    Reset {
        /// The connection's token, as `status` shows it
        #[arg(value_parser = values::token)]
        token: u32,
        /// Where the daemon is.
        #[command(flatten)]
        daemon: SocketArgs,
    },
}

/// `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The name of the process, as in /proc/PID/comm
    #[arg(long, value_name = "NAME")]
    pub process: Option<String>,
    /// The id of the user that it runs as
    #[arg(long, value_name = "N")]
    pub uid: Option<u32>,
    /// The path of its cgroup, from the root of the hierarchy
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// The other end of the connection
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::address_or_socket)]
    pub remote: Option<SocketAddr>,
    /// The connection is accepted by this machine, on this port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub accepted_on: Option<u16>,
    /// The configuration [default: /etc/mptcp-pm/mptcp-pm.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: JsonArgs,
}

/// The long help of `explain`.
pub const EXPLAIN_JSON: &str = "\
What is not told is not known: no rule about it applies. Needs no daemon.

JSON: an object:
  service      the service type
  by           \"rule\", \"slice\" (its cgroup is of mptcp-pm slice),
               \"configuration\" (the key service), or \"profile\"
  rule, line   with \"rule\": the number of its [[application]] and its line
  passed_over  the rules before it that say something about service types, each
               with rule, line, and the first condition that does not hold
  mptcp        whether TCP sockets of the process become MPTCP: becomes (true or
               false), the rule that decides and its line (null: none does), and
               passed_over, the rules with mptcp before it";
