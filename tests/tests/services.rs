//! Service types: which one each connection has, by whose it is and where it leads, and who may change that.
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::daemon::{Daemon, await_that};
use tests::{Child, Family, Host, Lab, Scenario};

/// Somebody without any right.
const NOBODY: &str = "65534";

/// The daemon on the host `client`, and a peer on the host `server` that gives back what it gets.
struct Stage {
    daemon: Daemon,
    peer: Talker,
    lab: Lab,
}

impl Stage {
    fn start(config: &str) -> Result<Self> {
        let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
        let peer = Talker::listen(lab.host("server"))?;
        Self::in_lab(lab, peer, config)
    }

    fn in_lab(lab: Lab, peer: Talker, config: &str) -> Result<Self> {
        let config = format!("manager = \"daemon\"\n{config}");
        let stage = Self { daemon: Daemon::start(lab.host("client"), &config)?, peer, lab };
        let in_charge = |status: &Value| status["manager"] == "daemon";
        stage.daemon.await_that("the daemon in charge", || stage.daemon.status(), in_charge)?;
        Ok(stage)
    }

    fn client(&self) -> &Arc<Host> {
        self.lab.host("client")
    }

    fn talk(&self, who: Who<'_>) -> Result<Talker> {
        Talker::connect(self.client(), self.peer.port, who)
    }

    /// Waits until the status says this of a connection's service type.
    fn await_service(&self, talker: &Talker, expected: &Value) -> Result<Value> {
        await_service(&self.daemon, talker.port, expected)
    }

    fn reload(&self, config: &str) -> Result<()> {
        self.daemon.write_config(&format!("manager = \"daemon\"\n{config}"))?;
        self.succeed(&["reload"]).map(drop)
    }

    fn succeed(&self, words: &[&str]) -> Result<String> {
        let output = self.daemon.command(words)?.output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The words of a command that has to fail.
    fn fail(&self, words: &[&str]) -> Result<String> {
        let output = self.daemon.command(words)?.output()?;
        ensure!(!output.status.success(), "{words:?} succeeds");
        Ok(String::from_utf8(output.stderr)?)
    }
}

/// As whom a program runs.
#[derive(Clone, Copy, Default)]
struct Who<'a> {
    name: Option<&'a str>,
    uid: Option<&'a str>,
    cgroup: Option<&'a Path>,
}

/// A program that talks until it is dropped.
struct Talker {
    port: u16,
    child: Child,
}

impl Talker {
    fn listen(host: &Arc<Host>) -> Result<Self> {
        Self::start(host, Who::default(), &["listen"])
    }

    fn connect(host: &Arc<Host>, port: u16, who: Who<'_>) -> Result<Self> {
        Self::start(host, who, &["connect", &format!("10.9.0.2:{port}")])
    }

    fn start(host: &Arc<Host>, who: Who<'_>, words: &[&str]) -> Result<Self> {
        let program = program(host, who.name.unwrap_or("talker"))?;
        let uid = who.uid.unwrap_or("0");
        let cgroup = who.cgroup.map(|folder| folder.join("cgroup.procs").display().to_string());
        // A process enters a cgroup by itself, before it is another program.
        let enter = cgroup.map(|file| format!("echo $$ > {file} && ")).unwrap_or_default();
        let script = format!("{enter}exec setpriv --reuid={uid} --clear-groups -- \"$@\"");
        let mut child = host
            .command("sh")
            .args(["-c", &script, "sh"])
            .arg(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.take_stdout().context("open the output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().parse().with_context(|| format!("{words:?} is not ready"))?;
        Ok(Self { port, child })
    }
}

/// The talking program under a name of its own, where everybody may run it.
fn program(host: &Host, name: &str) -> Result<PathBuf> {
    let folder = host.scratch();
    for folder in folder.ancestors().take(2) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let file = folder.join(name);
    if !file.exists() {
        fs::copy(env!("CARGO_BIN_EXE_talker"), &file)?;
    }
    Ok(file)
}

/// The connection with a local port, as the status shows it.
fn connection(status: &Value, port: u16) -> Option<&Value> {
    let ends_so = |connection: &&Value| {
        connection["local"].as_str().is_some_and(|local| local.ends_with(&format!(":{port}")))
    };
    status["connections"]["listed"].as_array()?.iter().find(ends_so)
}

fn await_service(daemon: &Daemon, port: u16, expected: &Value) -> Result<Value> {
    let look = || Ok(connection(&daemon.status()?, port).cloned().unwrap_or_default());
    daemon.await_that(&format!("{expected}"), look, |seen| seen["service"] == *expected)
}

fn by_rule(service: &str, rule: usize, line: usize) -> Value {
    json!({ "type": service, "by": "rule", "rule": rule, "line": line })
}

fn by_profile() -> Value {
    json!({ "type": "handover", "by": "profile" })
}

/// One table of three lines.
fn rule(conditions: &str, service: &str) -> String {
    format!("[[application]]\nmatch = {{ {conditions} }}\nservice = \"{service}\"\n")
}

/// A cgroup of the test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Result<Self> {
        let table = fs::read_to_string("/proc/self/mounts")?;
        let mount = table.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next()? == "cgroup2").then_some(place)
        });
        let folder = format!("mptcp-pm-services-{}", std::process::id());
        let folder = Path::new(mount.context("find a cgroup2 hierarchy")?).join(folder);
        fs::create_dir(&folder).context("make a cgroup")?;
        Ok(Self(folder))
    }

    fn path(&self) -> String {
        format!("/{}", self.0.file_name().unwrap_or_default().to_string_lossy())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes leave it when they have ended, a moment after they were waited for.
        let left = || Ok(fs::remove_dir(&self.0).is_ok());
        drop(await_that("an empty cgroup", left, |gone| *gone));
    }
}

#[test]
fn a_connection_has_the_type_of_the_first_rule_that_its_owner_matches() -> Result<()> {
    let cgroup = Cgroup::make()?;
    let path = cgroup.path();
    let config = rule("process = \"tele*\", uid = 0", "interactive")
        + &rule(&format!("uid = {NOBODY}"), "aggregate")
        + &rule(&format!("cgroup = \"{path}\""), "single");
    let stage = Stage::start(&config)?;

    let named = stage.talk(Who { name: Some("telephone"), ..Who::default() })?;
    let seen = stage.await_service(&named, &by_rule("interactive", 1, 2))?;
    let owner = json!({ "process": "telephone", "pid": named.child.id(), "uid": 0, "cgroup": seen["owner"]["cgroup"] });
    assert_eq!(seen["owner"], owner);

    let inside = stage.talk(Who { cgroup: Some(&cgroup.0), ..Who::default() })?;
    let seen = stage.await_service(&inside, &by_rule("single", 3, 8))?;
    assert_eq!(seen["owner"]["cgroup"], path);

    let nobodys = stage.talk(Who { name: Some("telephone"), uid: Some(NOBODY), cgroup: Some(&cgroup.0) })?;
    let seen = stage.await_service(&nobodys, &by_rule("aggregate", 2, 5))?;
    assert_eq!(seen["owner"]["uid"].to_string(), NOBODY);

    let other = stage.talk(Who::default())?;
    let seen = stage.await_service(&other, &by_profile())?;
    assert_eq!(seen["owner"]["process"], "talker");
    let text = stage.succeed(&["status"])?;
    assert!(text.contains("interactive by rule 1, line 2, telephone (process "), "{text}");
    assert!(text.contains("\n  owner at work\n"), "{text}");
    Ok(())
}
