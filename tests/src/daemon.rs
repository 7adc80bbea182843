//! The daemon under test, running in a host of the lab.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{Child, Command, Host};

/// How long anything may take that the daemon does at once, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration that says who manages: unless the test does, the kernel, whose subflows are there as soon as their
/// endpoints are, and are the same on every kernel; or who this variable names. What the daemon does by default is for those
/// that name no file.
fn managed(config: &str) -> String {
    if config.contains("manager = ") {
        return config.to_owned();
    }
    let manager = std::env::var("TEST_MANAGER").unwrap_or_else(|_| "kernel".to_owned());
    format!("manager = \"{manager}\"\n{config}")
}

/// A way to start it as on a kernel without types (BTF), so that it does without its eBPF programs, whose verification takes
/// a second here and minutes under emulation.
pub const WITHOUT_PROGRAMS: [&str; 6] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"];

/// The same, or as many seconds as this variable says: an emulated machine is some thirty times as slow.
fn patience() -> Duration {
    let told = std::env::var("PATIENCE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    told.map_or(PATIENCE, Duration::from_secs)
}

/// A running `mptcp-pm run`; dropping it kills it, which leaves what it put into the kernel.
pub struct Daemon {
    host: Arc<Host>,
    child: Child,
    files: Files,
}

/// The files of the daemons of one host: a successor finds what its predecessor left.
#[derive(Clone)]
struct Files {
    config: PathBuf,
    socket: PathBuf,
    runtime: PathBuf,
    log: PathBuf,
    notify: PathBuf,
    bus: PathBuf,
}

impl Files {
    fn of(host: &Host) -> Self {
        let file = |name| host.scratch().join(name);
        Self {
            config: file("mptcp-pm.toml"),
            socket: file("control"),
            runtime: file("runtime"),
            log: file("log"),
            notify: file("notify"),
            bus: file("bus"),
        }
    }
}

impl Daemon {
    /// Starts it with this configuration and waits until it says that it is ready (`sd_notify`).
    ///
    /// # Errors
    /// With its log when it ends instead, or is not ready in time.
    pub fn start(host: &Arc<Host>, config: &str) -> Result<Self> {
        Self::start_through(host, config, &[])
    }

    /// The same by way of a command that executes its arguments at its end.
    ///
    /// # Errors
    /// Those of [`Daemon::start`].
    pub fn start_through(host: &Arc<Host>, config: &str, way: &[&str]) -> Result<Self> {
        Self::ready(host, || Self::launch(host, Some(config), way))
    }

    /// The same, and waits until the connections that begin from then on are the daemon's; the configuration says so.
    ///
    /// # Errors
    /// Those of [`Daemon::start`], and with its log when it does not take charge.
    pub fn start_in_charge(host: &Arc<Host>, config: &str, way: &[&str]) -> Result<Self> {
        let daemon = Self::start_through(host, config, way)?;
        let charge = |status: &Value| status["manager"] == "daemon";
        daemon.await_that("the daemon in charge", || daemon.status(), charge)?;
        Ok(daemon)
    }

    /// Starts it without naming a configuration, so that the defaults hold, and waits until it is ready.
    ///
    /// # Errors
    /// Those of [`Daemon::start`].
    pub fn start_without_file(host: &Arc<Host>) -> Result<Self> {
        Self::ready(host, || Self::launch(host, None, &[]))
    }

    fn ready(host: &Arc<Host>, launch: impl FnOnce() -> Result<Self>) -> Result<Self> {
        let notify = notification(host)?;
        let mut daemon = launch()?;
        daemon.await_ready(&notify)?;
        Ok(daemon)
    }

    /// Starts it without waiting; without a configuration it is not told of any file.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn launch(host: &Arc<Host>, config: Option<&str>, way: &[&str]) -> Result<Self> {
        let files = Files::of(host);
        let log = fs::File::create(&files.log)?;
        let binary = binary()?.to_string_lossy().into_owned();
        let mut words = way.iter().copied().chain([binary.as_str()]);
        let mut command = host.command(words.next().unwrap_or_default()).args(words).arg("run");
        if let Some(config) = config {
            fs::write(&files.config, managed(config))?;
            command = command.arg("--config").arg(&files.config);
        }
        let child = command
            .arg("--socket")
            .arg(&files.socket)
            .arg("--runtime-dir")
            .arg(&files.runtime)
            .env("NOTIFY_SOCKET", &files.notify)
            // Never the machine's own: it would speak of other interfaces.
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", files.bus.display()))
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { host: Arc::clone(host), child, files })
    }

    /// Starts one that is to refuse: its exit code, and what it says.
    ///
    /// # Errors
    /// When it does not end.
    pub fn refusal(host: &Arc<Host>, config: &str) -> Result<(Option<i32>, String)> {
        let mut daemon = Self::launch(host, Some(config), &[])?;
        let status = daemon.child.wait_timeout(PATIENCE)?.context("the daemon runs, and was to refuse")?;
        Ok((status.code(), daemon.log()))
    }

    /// Runs `mptcp-pm cleanup` for the daemons of this host.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn cleanup(host: &Arc<Host>) -> Result<Output> {
        host.command(binary()?).args(["cleanup", "--runtime-dir"]).arg(Files::of(host).runtime).output()
    }

    /// The control socket of this host's daemons.
    pub fn socket(host: &Host) -> PathBuf {
        Files::of(host).socket
    }

    /// Where this host's daemons look for the system's D-Bus.
    pub fn bus(host: &Host) -> PathBuf {
        Files::of(host).bus
    }

    /// The folder of the state file of this host's daemons.
    pub fn runtime_dir(host: &Host) -> PathBuf {
        Files::of(host).runtime
    }

    fn await_ready(&mut self, notify: &UnixDatagram) -> Result<()> {
        let end = Instant::now() + patience();
        notify.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut buffer = [0; 256];
        while Instant::now() < end {
            if let Ok(length) = notify.recv(&mut buffer)
                && buffer[..length].starts_with(b"READY=1")
            {
                return Ok(());
            }
            if let Some(status) = self.child.wait_timeout(Duration::ZERO)? {
                bail!("the daemon ended with {status}:\n{}", self.log());
            }
        }
        bail!("the daemon is not ready after {:?}:\n{}", patience(), self.log())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.files.log).unwrap_or_else(|error| error.to_string())
    }

    /// A command of its command line, with its socket.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        Ok(self.host.command(binary()?).args(words).env("MPTCP_PM_SOCKET", &self.files.socket))
    }

    /// `mptcp-pm status --json`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn status(&self) -> Result<Value> {
        let output = self.command(&["status", "--json"])?.output()?;
        ensure!(output.status.success(), "status: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("read the status")
    }

    /// Replaces the configuration's file; the daemon is not told.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, config: &str) -> Result<()> {
        fs::write(&self.files.config, managed(config)).context("write the configuration")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal)
    }

    /// Stops it as a service manager does, and waits for its end.
    ///
    /// # Errors
    /// With its log when it does not end, or not well.
    pub fn stop(self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Ends it by a signal, and waits.
    ///
    /// # Errors
    /// With its log when it does not end, or not well.
    pub fn end(mut self, signal: Signal) -> Result<()> {
        self.child.signal(signal)?;
        let status = self.child.wait_timeout(patience())?;
        let log = self.log();
        ensure!(status.is_some_and(|status| status.success()), "stopped with {status:?}:\n{log}");
        Ok(())
    }

    /// Ends it by SIGKILL.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.child.kill()
    }

    /// Waits for a condition, and fails with what was expected, what there is, and the log.
    ///
    /// # Errors
    /// When the condition does not hold in time.
    pub fn await_that<T: std::fmt::Debug>(
        &self,
        expected: &str,
        look: impl Fn() -> Result<T>,
        holds: impl Fn(&T) -> bool,
    ) -> Result<T> {
        await_that(expected, look, holds).with_context(|| format!("log of the daemon:\n{}", self.log()))
    }
}

/// The socket on which a daemon says that it is ready; that of a predecessor is in the way.
fn notification(host: &Host) -> Result<UnixDatagram> {
    let file = Files::of(host).notify;
    drop(fs::remove_file(&file));
    let socket = UnixDatagram::bind(&file).context("bind the notification socket")?;
    // As systemd's: the daemon may be another user.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o777))?;
    Ok(socket)
}

/// Looks again and again until a condition holds, for what no event tells.
///
/// # Errors
/// With what was expected and what there is when it does not hold in time.
pub fn await_that<T: std::fmt::Debug>(
    expected: &str,
    look: impl Fn() -> Result<T>,
    holds: impl Fn(&T) -> bool,
) -> Result<T> {
    let end = Instant::now() + patience();
    loop {
        let seen = look()?;
        if holds(&seen) {
            return Ok(seen);
        }
        ensure!(Instant::now() < end, "expected {expected}, found {seen:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program that `cargo xtask build` left beside this one.
///
/// # Errors
/// Where it is not there.
pub fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let found =
        this.ancestors().skip(1).take(2).map(|dir| dir.join("mptcp-pm")).find(|file| is_program(file));
    found.context("the daemon is not built: use `cargo xtask test`, or `cargo xtask build` first")
}

fn is_program(file: &Path) -> bool {
    file.is_file()
}
