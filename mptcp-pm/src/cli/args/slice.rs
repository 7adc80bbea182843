//! The commands about slices, as they are written.
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;

use super::super::values;
use super::JsonArgs;
use crate::core::service::Service;

/// `slice`.
#[derive(Clone, Debug, Subcommand)]
pub enum SliceCommand {
    /// Run a command in the slice of a service type
    ///
    /// Its connections, and those of what it starts, have that service type, unless a rule of the configuration says
    /// otherwise. Where systemd runs it makes a scope there (systemd-run), for the user who asks; elsewhere the cgroup is
    /// made beneath the root of the hierarchy, which only root may. The command is executed in place of this one. Service
    /// types act where the daemon manages (manager = "daemon").
    Run {
        /// The service type
        #[arg(value_name = "TYPE", value_parser = values::service_type())]
        service: Service,
        /// Make the cgroup beneath this one, without systemd
        #[arg(long, value_name = "DIR")]
        cgroup_root: Option<PathBuf>,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Put a systemd service into the slice of a service type, from its next start on
    ///
    /// Writes a drop-in file below /etc/systemd/system; the service's own files stay as they are.
    Unit {
        /// The service, as in ssh or ssh.service
        #[arg(value_parser = values::systemd_service)]
        unit: String,
        /// The service type
        #[arg(value_name = "TYPE", value_parser = values::service_type())]
        service: Service,
        /// Where the system's files are
        #[command(flatten)]
        root: RootArgs,
    },
    /// Take a systemd service out of its slice again, from its next start on
    Remove {
        /// The service
        #[arg(value_parser = values::systemd_service)]
        unit: String,
        /// Where the system's files are
        #[command(flatten)]
        root: RootArgs,
    },
    /// List the services that were put into slices, and the slices with how many processes are in them
    #[command(after_long_help = LIST_JSON)]
    List {
        /// Where the system's files are
        #[command(flatten)]
        root: RootArgs,
        /// Look for slices beneath this cgroup
        #[arg(long, value_name = "DIR")]
        cgroup_root: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        output: JsonArgs,
    },
}

/// Where the system's files are.
#[derive(Clone, Debug, clap::Args)]
pub struct RootArgs {
    /// Work on the system below this folder; systemd is not told
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

const LIST_JSON: &str = "\
JSON: an object:
  units   those that were put into slices: unit, service (the type)
  slices  those that exist: path (of the cgroup, from the root of the
          hierarchy), service, processes (how many are inside)";
