//! The command line as it is written; what it means is decided elsewhere.
pub mod pm;
pub mod service;
pub mod slice;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::values;
use crate::config::Config;

/// Drives the kernel's Multipath TCP, so that several accesses serve as one
///
/// Every path onto the Internet that appears is put to use for MPTCP connections, every path that fails is left
/// at once. The commands `endpoint`, `limits`, `subflow`, `announce`, `withdraw` and `priority` speak to the
/// kernel and need no daemon.
#[derive(Debug, Parser)]
#[command(name = "mptcp-pm", version, max_term_width = 80, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line is wrong.";

const STATUS_JSON: &str = "JSON: an object; docs/json.md describes it, with an example.";

const METRICS_FORMAT: &str = "\
OpenMetrics 1.0; docs/metrics.md lists the metrics. Works without [metrics] in
the configuration, which is for an endpoint that listens.";
const TOP_KEYS: &str = "\
Needs the daemon and a terminal of 40 columns and 10 lines or more. Rates need
the daemon's eBPF programs. The key ? shows all keys, q leaves. For programs
there is `status --json`.";

const MONITOR_JSON: &str = "\
Needs CAP_NET_ADMIN, and no daemon. Where one runs it adds what it measures:
each subflow is told of twice, by the kernel when its path manager takes notice
(sub-established, sub-closed), and by the daemon with its uplink and provider
(path-opened) and its last figures (path-closed). Token and both ends say what
belongs together; the order of the two is not certain. path-timeout is an alarm:
nothing came back while the retransmission timer ran. A daemon that starts later
is found at the kernel's next event. Ends with 0 at SIGINT or SIGTERM, and when
nobody reads any more.

JSON: one object on one line for each event, written at once. A field that is
not told is left out:
  time           seconds since 1970: when it was read; of path-... when it was
  event          created, established, closed; announced, removed (by the
                 peer); sub-established, sub-closed, sub-priority;
                 listener-created, listener-closed; a number for what is newer;
                 path-opened, path-closed, path-timeout (by the daemon);
                 \"lost\" when events were dropped: read the status
  token          the connection, a number
  local, remote  address and port, a string; port 0 where none is told
  local_id, remote_id
                 the ids of the addresses
  backup         the peer asked for backup
  ifindex, interface
                 what the subflow is bound to
  error          why a subflow has ended, as in \"ECONNREFUSED\"
  reset_reason   the reason in the peer's MP_TCPRST (RFC 8684)
  server_side    with created and established: this end accepted it
  deny_join_id0  true when the peer refuses subflows to its first address
With path-... also:
  uplink         the name of its interface; \"other\" where it has none
  provider       the uplink's, as the configuration names it
  kind           \"initial\" or \"join\"
  opened_by      \"us\" or \"peer\"
  adopted        true when it is older than the daemon
  in_a_row       how often the retransmission timer has expired since something
                 was acknowledged
  timer_seconds  how long it ran
  duration_seconds
                 from path-opened to path-closed
  figures        what it delivered, as in docs/json.md";

const DOCTOR_JSON: &str = "\
Exits with 1 when there is a problem, with 0 when there are only notes.

JSON: an array of objects, one for each finding:
  check     a word for what was looked at, which stays the same
  severity  \"problem\" when it keeps connections from a second subflow,
            \"note\" when it is only good to know
  finding   what is wrong
  remedy    what to do about it";

const HOOK: &str = "\
For the script 90-mptcp-pm in NetworkManager's dispatcher.d. It asks for a look
at what the kernel does not report, as are endpoints that others make, and tells
which interface is a VPN's (VPN_IP_IFACE), which NetworkManager tells nobody
else. Without a daemon there is nothing to do, and that is no failure.";

const EXEC_LIMITS: &str = "\
The program is executed in place of this one: signals, standard streams and exit
status are its own. A library is loaded into it and what it starts (LD_PRELOAD),
which asks for MPTCP wherever it asks for TCP; what the kernel refuses stays TCP.
For programs in Go, which ask the kernel themselves, GODEBUG says the same. Not
reached: programs that are linked statically, run with privileges of their own
(setuid), or run already.

Where the kernel has the hook (Linux 6.6), [[application]] with mptcp = true in
the configuration needs none of this.

Exit codes of its own: 1 when the program cannot be started.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    Run(RunArgs),
    /// Show uplinks, endpoints and connections, and why something is not as desired
    #[command(after_long_help = STATUS_JSON)]
    Status(StatusArgs),
    /// Print once what a scrape of the metrics shows
    #[command(after_long_help = METRICS_FORMAT)]
    Metrics(SocketArgs),
    /// Watch what each uplink and each connection delivers, on a screen of its own
    #[command(after_long_help = TOP_KEYS)]
    Top(TopArgs),
    /// Follow what happens to MPTCP connections, one line for each event
    #[command(after_long_help = MONITOR_JSON)]
    Monitor(MonitorArgs),
    /// Show or change the endpoints of the kernel's path manager
    #[command(subcommand)]
    Endpoint(pm::EndpointCommand),
    /// Show or change the limits of the kernel's path manager
    Limits(pm::LimitsArgs),
    /// Create or destroy a subflow of one connection
    #[command(subcommand)]
    Subflow(pm::SubflowCommand),
    /// Announce an address to the peer of one connection (ADD_ADDR)
    Announce(pm::AnnounceArgs),
    /// Withdraw an announced address from the peer of one connection (RM_ADDR)
    Withdraw(pm::WithdrawArgs),
    /// Make a subflow backup or active (MP_PRIO)
    Priority(pm::PriorityArgs),
    /// Set the service type of a connection by hand
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Say which rule of the configuration decides on a connection
    #[command(after_long_help = service::EXPLAIN_JSON)]
    Explain(service::ExplainArgs),
    /// Put commands and systemd services into the cgroup of a service type
    #[command(subcommand)]
    Slice(slice::SliceCommand),
    /// Start a program with MPTCP, where the kernel cannot give it to those that ask for TCP
    #[command(after_long_help = EXEC_LIMITS)]
    Exec(ExecArgs),
    /// Find out why there is no second subflow
    #[command(after_long_help = DOCTOR_JSON)]
    Doctor(DoctorArgs),
    /// Work on configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Remove what a daemon that is gone left in the kernel
    Cleanup(CleanupArgs),
    /// Have the daemon read its configuration again
    Reload(SocketArgs),
    /// Tell the daemon what NetworkManager's dispatcher has to tell
    #[command(after_long_help = HOOK)]
    Hook(HookArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, or write the pages of all commands
    Man {
        /// Write one page for each command into this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration [default: /etc/mptcp-pm/mptcp-pm.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The control socket [default: what the configuration says]
    #[arg(long, value_name = "PATH", env = "MPTCP_PM_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Where the daemon remembers what it owns in the kernel
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
}

/// Where the daemon remembers what it owns in the kernel, unless told otherwise.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/mptcp-pm";

/// `hook`.
#[derive(Clone, Debug, clap::Args)]
pub struct HookArgs {
    /// The interface, as the dispatcher says it; may be empty
    pub interface: String,
    /// What has happened, as the dispatcher says it: up, down, vpn-up, ...
    pub action: String,
    /// The VPN's interface, where there is one
    #[arg(long, value_name = "NAME", env = "VPN_IP_IFACE")]
    pub vpn: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: SocketArgs,
}

/// `cleanup`.
#[derive(Clone, Debug, clap::Args)]
pub struct CleanupArgs {
    /// Where the daemon remembered what it owns in the kernel
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
    /// Only give new connections back to the kernel's path manager: endpoints, rules and routes stay, so that living
    /// connections keep their paths
    #[arg(long)]
    pub keep_paths: bool,
}

/// `exec`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExecArgs {
    /// The library that is loaded into the program [default: the one that is installed with this program]
    #[arg(long, value_name = "FILE", env = "MPTCP_PM_PRELOAD")]
    pub library: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// `status`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// How to print.
    #[command(flatten)]
    pub output: JsonArgs,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: SocketArgs,
}

/// `monitor`.
#[derive(Clone, Debug, clap::Args)]
pub struct MonitorArgs {
    /// How to print.
    #[command(flatten)]
    pub output: JsonArgs,
    /// Where the daemon is, if there is one.
    #[command(flatten)]
    pub daemon: SocketArgs,
}

/// `top`.
#[derive(Clone, Debug, clap::Args)]
pub struct TopArgs {
    /// How often to ask the daemon, from 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = values::interval)]
    pub interval: Duration,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: SocketArgs,
}

/// `doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// How to print.
    #[command(flatten)]
    pub output: JsonArgs,
    /// The configuration by which to judge [default: /etc/mptcp-pm/mptcp-pm.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Tell what this kernel can do and what not, found out by trying: needs root
    #[arg(long, conflicts_with = "config")]
    pub kernel: bool,
}

/// How a command prints.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct JsonArgs {
    /// Print JSON, which is stable
    #[arg(long)]
    pub json: bool,
}

/// Where the daemon is.
#[derive(Clone, Debug, clap::Args)]
pub struct SocketArgs {
    /// The daemon's control socket [default: the one that /etc/mptcp-pm/mptcp-pm.toml names, or else
    /// /run/mptcp-pm/control]
    #[arg(long, value_name = "PATH", env = "MPTCP_PM_SOCKET")]
    pub socket: Option<PathBuf>,
}

impl SocketArgs {
    /// Its path. A configuration that cannot be read, or is wrong, says nothing of it.
    pub fn path(&self) -> PathBuf {
        let configured = || Config::load_or_default(None).unwrap_or_default().control.socket;
        self.socket.clone().unwrap_or_else(configured)
    }
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a file, and say all that is wrong with it
    Check {
        /// The file
        file: PathBuf,
    },
}
