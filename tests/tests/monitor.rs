//! `monitor` beside a daemon: what becomes of each path is told with its uplink, at once, to everybody who follows it.
use std::io::{BufRead as _, BufReader, Read};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::daemon::{Daemon, PATIENCE};
use tests::running::{NAMED_PROVIDERS, Running};
use tests::traffic::{Job, Options, Server, Transfer, start};
use tests::{Child, Command, Family, Host, Outage, require};

const ENDPOINTS: [&str; 2] = ["10.1.0.2 subflow dev wifi0", "10.2.0.2 subflow dev lte0"];

/// A running `mptcp-pm monitor`.
struct Monitor {
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

impl Monitor {
    /// Starts it and waits until it hears the daemon.
    fn start(running: &Running, words: &[&str]) -> Result<Self> {
        let monitor = Self::launch(running.daemon.command(words)?)?;
        monitor.await_daemon(running)?;
        Ok(monitor)
    }

    fn launch(command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (output, complaints) = (child.take_stdout(), child.take_stderr());
        Ok(Self {
            lines: lines(output.context("its output")?),
            complaints: lines(complaints.context("its complaints")?),
            child,
        })
    }

    /// Only an event tells that it hears the daemon.
    fn await_daemon(&self, running: &Running) -> Result<()> {
        self.await_line(running.client(), &running.server, |line| {
            line.contains("path-opened") || line.contains(" path opened ")
        })
    }

    /// Opens connections until a line tells of one.
    fn await_line(&self, client: &Arc<Host>, server: &Server, told: impl Fn(&str) -> bool) -> Result<()> {
        for _ in 0..100 {
            ensure!(start(client, server, Job::BulkUp, Options::bytes(1))?.join()?.intact());
            if self.lines.try_iter().any(|line| told(&line)) {
                return Ok(());
            }
        }
        bail!("nothing is told of, complaints: {:?}", self.complaints.try_iter().collect::<Vec<_>>())
    }

    /// The next line that is waited for.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).with_context(|| format!("no {what}"))?;
            if wanted(&line) {
                return Ok(line);
            }
        }
    }

    /// The next event that is waited for.
    fn event(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_default();
        Ok(parse(&self.until(what, |line| wanted(&parse(line)))?))
    }

    /// The next event of a kind, of one connection on one uplink.
    fn path(&self, word: &str, token: &Value, uplink: &str) -> Result<Value> {
        self.event(&format!("{word} of {token} on {uplink}"), |event| {
            event["event"] == word && event["token"] == *token && event["uplink"] == uplink
        })
    }

    /// The opening of a connection's first path.
    fn opening(&self, transfer: &Transfer) -> Result<Value> {
        transfer.wait_for(1, PATIENCE)?;
        let local = transfer.local().context("it has an address")?.to_string();
        self.event(&format!("opening of {local}"), |event| {
            event["event"] == "path-opened" && event["local"] == local.as_str()
        })
    }

    fn complaint(&self) -> Result<String> {
        self.complaints.recv_timeout(PATIENCE).context("no complaint")
    }

    /// Ends it as a user does.
    fn stop(mut self) -> Result<()> {
        self.child.signal(Signal::SIGINT)?;
        let status = self.child.wait_timeout(PATIENCE)?;
        ensure!(status.is_some_and(|status| status.success()), "it ends with {status:?}");
        Ok(())
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

#[test]
fn the_life_of_each_path_is_told_to_everybody_who_follows() -> Result<()> {
    require()?;
    let running = Running::start("two-providers", Family::V4, NAMED_PROVIDERS)?;
    running.await_endpoints(&ENDPOINTS)?;
    let follow = |_| Monitor::start(&running, &["monitor", "--json"]);
    let monitors: Vec<Monitor> = (0..3).map(follow).collect::<Result<_>>()?;
    const SIZE: u64 = 20 << 20;
    let transfer = start(running.client(), &running.server, Job::BulkUp, Options::bytes(SIZE))?;
    let mut opened = Vec::new();
    for monitor in &monitors {
        let first = monitor.opening(&transfer)?;
        let join = monitor.path("path-opened", &first["token"], "lte0")?;
        assert_eq!((&first["uplink"], &first["provider"]), (&json!("wifi0"), &json!("Alpha")));
        assert_eq!((&first["kind"], &first["opened_by"]), (&json!("initial"), &json!("us")));
        assert_eq!((&join["kind"], &join["provider"]), (&json!("join"), &json!("Beta")));
        opened.push([first, join]);
    }
    ensure!(transfer.join()?.intact());
    let Running { daemon, server, lab: _lab } = running;
    // Its end of the connection is open as long as it is there.
    drop(server);
    for (monitor, opened) in monitors.iter().zip(&opened) {
        let is_closing =
            |event: &Value| event["event"] == "path-closed" && event["token"] == opened[0]["token"];
        let mut closed = [monitor.event("a closing", is_closing)?, monitor.event("another", is_closing)?];
        closed.sort_by_key(|event| event["uplink"] == "lte0");
        closed.iter().zip(opened).for_each(|(closed, opened)| belongs_together(closed, opened));
        let sum = |name: &str| closed.iter().filter_map(|event| event["figures"][name].as_u64()).sum::<u64>();
        // MPTCP sends some data over both paths, when one of them seems late.
        assert!((SIZE..SIZE * 12 / 10).contains(&sum("acknowledged_bytes")), "{closed:#?}");
        assert!(sum("sent_bytes") >= sum("acknowledged_bytes"), "{closed:#?}");
    }
    monitors.into_iter().try_for_each(Monitor::stop)?;
    daemon.stop()
}

fn belongs_together(closed: &Value, opened: &Value) {
    for field in ["local", "remote", "uplink", "provider", "kind"] {
        assert_eq!(closed[field], opened[field], "{field}");
    }
    let seconds = |value: &Value| value.as_f64().expect("a time");
    let end = seconds(&opened["time"]) + seconds(&closed["duration_seconds"]);
    // Both are from one clock, each carried over to the wall clock by itself.
    assert!((end - seconds(&closed["time"])).abs() < 0.1, "{opened:#} {closed:#}");
    assert!(closed["figures"]["rtt_min_seconds"].as_f64() > Some(0.0), "{closed:#}");
}

#[test]
fn a_silent_outage_is_an_alarm_that_names_the_uplink() -> Result<()> {
    require()?;
    let running = Running::start("two-providers", Family::V4, NAMED_PROVIDERS)?;
    // Or the uplink would be left before the second alarm.
    running.lab.host("server").set_sysctl("net.ipv4.icmp_echo_ignore_all", "1")?;
    running.await_endpoints(&ENDPOINTS)?;
    let objects = Monitor::start(&running, &["monitor", "--json"])?;
    let words = Monitor::start(&running, &["monitor"])?;
    let transfer = start(running.client(), &running.server, Job::BulkUp, Options::bytes(1 << 30))?;
    let token = objects.opening(&transfer)?["token"].clone();
    // Both carry before one of them falls silent.
    running.daemon.await_that(
        "data over lte0",
        || running.daemon.status(),
        |status| acknowledged(status, &token, "lte0").is_some_and(|bytes| bytes > 100_000),
    )?;
    running.lab.link("lte").outage(Outage::Silent)?;
    let alarm = objects.path("path-timeout", &token, "lte0")?;
    assert_eq!((&alarm["provider"], &alarm["in_a_row"]), (&json!("Beta"), &json!(1)));
    let again = objects.path("path-timeout", &token, "lte0")?;
    assert_eq!((&again["local"], &again["in_a_row"]), (&alarm["local"], &json!(2)));
    // The timer doubles (RFC 6298, section 5.5). It is longer than the round trip.
    let timer = |event: &Value| event["timer_seconds"].as_f64().context("a timer");
    assert!(timer(&alarm)? > 0.08 && timer(&again)? > 1.5 * timer(&alarm)?, "{alarm:#} {again:#}");
    let token = format!(" path timeout     {:#010x} ", token.as_u64().context("a number")?);
    words.until("alarm in words", |line| line.contains(&token))?;
    let details = words.until("its details", |line| line.starts_with("    "))?;
    assert!(details.contains(": no answer for "), "{details}");
    drop(transfer);
    objects.stop()?;
    words.stop()
}

/// What the peer has acknowledged of a connection over an interface, according to a status.
fn acknowledged(status: &Value, token: &Value, interface: &str) -> Option<u64> {
    let listed = status["connections"]["listed"].as_array()?;
    let connection = listed.iter().find(|connection| connection["token"] == *token)?;
    let subflows = connection["subflows"].as_array()?;
    let subflow = subflows.iter().find(|subflow| subflow["interface"] == interface)?;
    subflow["figures"]["acknowledged_bytes"].as_u64()
}

#[test]
fn it_outlives_the_daemon_and_finds_the_next_one() -> Result<()> {
    require()?;
    let running = Running::start("two-providers", Family::V4, NAMED_PROVIDERS)?;
    running.await_endpoints(&ENDPOINTS)?;
    let monitor = Monitor::start(&running, &["monitor", "--json"])?;
    let Running { daemon, server, lab } = running;
    daemon.end(Signal::SIGUSR1)?;
    let complaint = monitor.complaint()?;
    assert!(complaint.contains("the daemon has ended"), "{complaint}");
    let client = lab.host("client");
    // The kernel's events go on.
    monitor.await_line(client, &server, |line| line.contains("\"established\""))?;
    let running = Running { daemon: Daemon::start(client, NAMED_PROVIDERS)?, server, lab };
    monitor.await_daemon(&running)?;
    let complaint = monitor.complaint()?;
    assert!(complaint.contains("a daemon is there"), "{complaint}");
    assert_eq!(monitor.complaints.try_recv().ok(), None);
    monitor.stop()?;
    running.daemon.stop()
}

#[test]
fn without_a_daemon_nothing_is_complained_of() -> Result<()> {
    require()?;
    let Running { daemon, server, lab } = Running::start("two-providers", Family::V4, NAMED_PROVIDERS)?;
    let command = daemon.command(&["monitor"])?;
    daemon.stop()?;
    let monitor = Monitor::launch(command)?;
    monitor.await_line(lab.host("client"), &server, |line| line.contains(" established "))?;
    let Monitor { child, complaints, .. } = monitor;
    child.signal(Signal::SIGTERM)?;
    assert_eq!(complaints.recv().ok(), None);
    Ok(())
}
