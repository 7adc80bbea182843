//! A host or router of the lab: what a test can do inside it.

use crate::namespace::Namespace;
use crate::process::Command;
use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::{fs, str};

/// A machine of the lab.
pub struct Host {
    name: String,
    namespace: Arc<Namespace>,
    scratch: PathBuf,
}

/// An address as `ip address` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface that has it.
    pub interface: String,
    /// The address and the length of its prefix.
    pub net: IpNet,
    /// Duplicate address detection has not ended yet.
    pub tentative: bool,
}

impl Host {
    pub(crate) fn new(name: &str, scratch: PathBuf) -> Result<Self> {
        let namespace = Arc::new(Namespace::new(name)?);
        Ok(Self { name: name.to_owned(), namespace, scratch })
    }

    /// Its name in the scenario.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A folder of its own, removed with the lab.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Runs `work` inside it; see [`Namespace::run`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work)
    }

    /// A command to be run inside it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self.namespace.clone(), program)
    }

    /// Runs one iproute2 command, words separated by blanks: `host.ip("addr del 10.1.0.2/24 dev wifi0")`.
    /// Returns what it prints.
    ///
    /// # Errors
    /// With the command and its error text when it fails.
    pub fn ip(&self, line: &str) -> Result<String> {
        let output = self.command("ip").args(line.split_whitespace()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {line} (on {}): {}", self.name, said.trim());
        String::from_utf8(output.stdout).context("read what ip prints")
    }

    /// Runs iproute2 commands in one process, in order, until one fails; `options` come first (`-6`).
    ///
    /// # Errors
    /// With the failing command and its error text.
    pub fn ip_batch(&self, options: &[&str], lines: &[String]) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(options)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.take_stdin().context("open the input of ip")?;
        // An early end of `ip` shows in its status and standard error.
        drop(input.write_all((lines.join("\n") + "\n").as_bytes()));
        drop(input);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", explain(&self.name, lines, said.trim()));
        Ok(())
    }

    /// The value of a sysctl, named as sysctl(8) does: `net.ipv4.conf.wifi0.rp_filter`.
    ///
    /// # Errors
    /// When this kernel has no such setting.
    pub fn sysctl(&self, name: &str) -> Result<String> {
        let value = self.run(|| fs::read_to_string(sysctl_path(name)));
        Ok(value.with_context(|| format!("read {name} on {}", self.name))?.trim().to_owned())
    }

    /// Sets a sysctl of this host only: names outside `net.` are refused, for they belong to the machine.
    ///
    /// # Errors
    /// When there is no such setting or the kernel refuses the value.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        ensure!(name.starts_with("net."), "set {name}: only net.* belongs to a namespace");
        self.run(|| fs::write(sysctl_path(name), value))
            .with_context(|| format!("set {name} to {value} on {}", self.name))
    }

    /// Its addresses, link-local ones included, loopback excluded.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let text = self.ip("-oneline address show up")?;
        Ok(text.lines().filter_map(parse_address).filter(|address| address.interface != "lo").collect())
    }
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// Adds the failing line itself to what `ip -batch` says of its number.
fn explain(host: &str, lines: &[String], said: &str) -> String {
    let number = said.rsplit(':').next().and_then(|number| number.trim().parse::<usize>().ok());
    match number.and_then(|number| lines.get(number.checked_sub(1)?)) {
        Some(line) => format!("ip {line} (on {host}): {said}"),
        None => format!("ip -batch (on {host}): {said}"),
    }
}

/// `2: wifi0    inet6 2001:db8:1::2/64 scope global tentative \ …`
fn parse_address(line: &str) -> Option<Address> {
    let mut words = line.split_whitespace().skip(1);
    let interface = words.next()?.split('@').next()?.to_owned();
    words.next().filter(|family| family.starts_with("inet"))?;
    let net = words.next()?.parse().ok()?;
    Some(Address { interface, net, tentative: words.any(|word| word == "tentative") })
}
