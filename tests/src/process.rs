//! Child processes inside a namespace that never outlive the lab.

use crate::namespace::Namespace;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// A command to be run inside a namespace; like [`std::process::Command`].
///
/// It runs under setpriv(1), which asks the kernel for its death with that of the lab. Until setpriv has done so,
/// a few milliseconds after the start, a kill -9 of the lab leaves the child behind.
pub struct Command {
    namespace: Arc<Namespace>,
    program: String,
    inner: std::process::Command,
}

impl Command {
    pub(crate) fn new(namespace: Arc<Namespace>, program: impl AsRef<OsStr>) -> Self {
        // The kernel kills the child when its parent, the namespace's thread, ends; also after kill -9.
        let mut inner = std::process::Command::new("setpriv");
        inner.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
        Self { namespace, program: program.as_ref().to_string_lossy().into_owned(), inner }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.inner.current_dir(folder);
        self
    }

    /// Sets standard input.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.inner.stdin(stdio);
        self
    }

    /// Sets standard output.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.inner.stdout(stdio);
        self
    }

    /// Sets standard error.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.inner.stderr(stdio);
        self
    }

    /// Starts it. A program that does not exist ends with status 127 and a message on its standard error.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn spawn(self) -> Result<Child> {
        let inner = self.namespace.spawn(self.inner).with_context(|| format!("start {}", self.program))?;
        Ok(Child { inner: Some(inner), program: self.program })
    }

    /// Runs it to its end and collects what it prints; standard input is empty.
    ///
    /// # Errors
    /// When no process can be made or read; an exit status other than 0 is not an error here.
    pub fn output(self) -> Result<Output> {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?.wait_with_output()
    }
}

/// A running child; dropping it kills and reaps it.
pub struct Child {
    /// None only after `wait_with_output` took it.
    inner: Option<std::process::Child>,
    program: String,
}

impl Child {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.inner.as_ref().map_or(0, std::process::Child::id)
    }

    /// Sends a signal, by process id.
    ///
    /// # Errors
    /// When it has ended and been waited for already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.program))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.inner().wait().with_context(|| format!("wait for {}", self.program))
    }

    /// Waits until it ends, or `None` after `timeout`.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.inner().try_wait().with_context(|| format!("look at {}", self.program))? {
            return Ok(Some(status));
        }
        let (ended, end) = mpsc::channel();
        let pid = self.pid();
        // WNOWAIT leaves the process to be reaped by its owner, so its id cannot be taken by another.
        thread::spawn(move || {
            let result = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let _ = ended.send(result.is_ok());
        });
        match end.recv_timeout(timeout) {
            Ok(_) => self.wait().map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Reads its standard output and error to the end and waits.
    ///
    /// # Errors
    /// When it cannot be read or waited for.
    pub fn wait_with_output(mut self) -> Result<Output> {
        let inner = self.inner.take().context("the child is gone")?;
        inner.wait_with_output().with_context(|| format!("read what {} prints", self.program))
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        // It may have ended by itself.
        drop(self.inner().kill());
        self.wait()
    }

    /// Its standard input, if piped and not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.inner().stdin.take()
    }

    /// Its standard output, if piped and not taken before.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.inner().stdout.take()
    }

    /// Its standard error, if piped and not taken before.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.inner().stderr.take()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.id().cast_signed())
    }

    fn inner(&mut self) -> &mut std::process::Child {
        self.inner.as_mut().expect("only wait_with_output takes it, with the child itself")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(mut inner) = self.inner.take() {
            // Both fail only when it has ended already.
            drop(inner.kill());
            drop(inner.wait());
        }
    }
}
