//! Prometheus at work inside a host of the lab, bound to its loopback interface.
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::{env, fs};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::daemon::await_that;
use crate::{Child, Host, http};

/// A running server, which scrapes every second; dropping it kills it.
pub struct Prometheus {
    host: Arc<Host>,
    _child: Child,
}

/// Where its API is.
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

impl Prometheus {
    /// Starts one that scrapes a target as job `mptcp-pm` and evaluates these rules.
    ///
    /// # Errors
    /// When it is not there.
    pub fn start(host: &Arc<Host>, target: SocketAddr, rules: &str) -> Result<Self> {
        let file = |name: &str| host.scratch().join(name);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{rules}\"]\n\
             scrape_configs: [{{job_name: mptcp-pm, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        fs::write(file("prometheus.yml"), config).context("write the configuration of Prometheus")?;
        let log = fs::File::create(file("prometheus.log"))?;
        let child = host
            .command(program("PROMETHEUS")?)
            .arg(format!("--config.file={}", file("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", file("prometheus").display()))
            .arg(format!("--web.listen-address={API}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { host: Arc::clone(host), _child: child })
    }

    /// What its API says of a path below `/api/v1`; none while it starts.
    fn ask(&self, path: &str) -> Option<Value> {
        let answer = http::get_in(&self.host, API, &format!("/api/v1/{path}")).ok()?;
        serde_json::from_str(&answer.body).ok()
    }

    /// Waits until what the API says of a path makes this of it.
    ///
    /// # Errors
    /// With what it says in the end, and its log.
    pub fn await_answer(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let look = || Ok(self.ask(path));
        let good = |seen: &Option<Value>| {
            seen.as_ref().is_some_and(|seen| seen["status"] == "success" && holds(&seen["data"]))
        };
        let seen = await_that(&format!("an answer to {path}"), look, good).with_context(|| {
            fs::read_to_string(self.host.scratch().join("prometheus.log")).unwrap_or_default()
        })?;
        Ok(seen.map(|mut seen| seen["data"].take()).unwrap_or_default())
    }

    /// Waits until a query has a result: its series, each `{"metric": labels, "value": [time, text]}`.
    ///
    /// # Errors
    /// With what it says in the end, and its log.
    pub fn await_series(&self, query: &str) -> Result<Vec<Value>> {
        let path = format!("query?query={}", http::encode(query));
        let some = |data: &Value| data["result"].as_array().is_some_and(|series| !series.is_empty());
        let data = self.await_answer(&path, some)?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }
}

/// Runs promtool on what it reads from standard input and from files.
///
/// # Errors
/// When it is not there.
pub fn promtool(host: &Host, words: &[&str], input: &str) -> Result<Output> {
    let file = host.scratch().join("promtool.input");
    fs::write(&file, input).context("write the input of promtool")?;
    let command = host.command(program("PROMTOOL")?).args(words);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(fs::File::open(&file)?);
    piped.spawn()?.wait_with_output()
}

fn program(variable: &str) -> Result<OsString> {
    let program = env::var_os(variable);
    program.with_context(|| format!("where is Prometheus? use `cargo xtask test`, which sets {variable}"))
}
