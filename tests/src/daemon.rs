//! The daemon under test, running in a host of the lab.
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{Child, Command, Host};

/// How long anything may take that the daemon does at once, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
        }
    }
}

impl Daemon {
    /// Starts it with this configuration and waits until it says that it is ready (`sd_notify`).
    ///
    /// # Errors
    /// With its log when it ends instead, or is not ready in time.
    pub fn start(host: &Arc<Host>, config: &str) -> Result<Self> {
        Self::start_logging(host, config, "debug")
    }

    /// The same, with another `RUST_LOG`: what is logged takes time.
    ///
    /// # Errors
    /// Those of [`Daemon::start`].
    pub fn start_logging(host: &Arc<Host>, config: &str, level: &str) -> Result<Self> {
        let files = Files::of(host);
        fs::write(&files.config, config)?;
        // The notification takes the socket's place anew: that of a predecessor is in the way.
        drop(fs::remove_file(&files.notify));
        let notify = UnixDatagram::bind(&files.notify).context("bind the notification socket")?;
        let log = fs::File::create(&files.log)?;
        let child = host
            .command(binary()?)
            .args(["run", "--config"])
            .arg(&files.config)
            .arg("--socket")
            .arg(&files.socket)
            .arg("--runtime-dir")
            .arg(&files.runtime)
            .env("NOTIFY_SOCKET", &files.notify)
            .env("RUST_LOG", level)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut daemon = Self { host: Arc::clone(host), child, files };
        daemon.await_ready(&notify)?;
        Ok(daemon)
    }

    fn await_ready(&mut self, notify: &UnixDatagram) -> Result<()> {
        let end = Instant::now() + PATIENCE;
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
        bail!("the daemon is not ready after {PATIENCE:?}:\n{}", self.log())
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
        fs::write(&self.files.config, config).context("write the configuration")
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
    pub fn stop(mut self) -> Result<()> {
        self.child.signal(Signal::SIGTERM)?;
        let status = self.child.wait_timeout(PATIENCE)?;
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

/// Looks again and again until a condition holds, for what no event tells.
///
/// # Errors
/// With what was expected and what there is when it does not hold in time.
pub fn await_that<T: std::fmt::Debug>(
    expected: &str,
    look: impl Fn() -> Result<T>,
    holds: impl Fn(&T) -> bool,
) -> Result<T> {
    let end = Instant::now() + PATIENCE;
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
