//! Service types: which one each connection has, by whose it is and where it leads, and who may change that.
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cgroup::Cgroup;
use tests::daemon::Daemon;
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
    /// The slice of a service type, beneath a cgroup.
    slice: Option<(&'a str, &'a Path)>,
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
        let binary = tests::daemon::binary()?.display().to_string();
        let slice = who.slice.map(|(service, beneath)| {
            format!("{binary} slice run {service} --cgroup-root {} -- ", beneath.display())
        });
        let slice = slice.unwrap_or_default();
        let script = format!("{enter}exec {slice}setpriv --reuid={uid} --clear-groups -- \"$@\"");
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

#[test]
fn a_connection_has_the_type_of_the_first_rule_that_its_owner_matches() -> Result<()> {
    let cgroup = Cgroup::make()?;
    let path = cgroup.path().to_owned();
    let config = rule("process = \"tele*\", uid = 0", "interactive")
        + &rule(&format!("uid = {NOBODY}"), "aggregate")
        + &rule(&format!("cgroup = \"{path}\""), "single");
    let stage = Stage::start(&config)?;

    let named = stage.talk(Who { name: Some("telephone"), ..Who::default() })?;
    let seen = stage.await_service(&named, &by_rule("interactive", 1, 2))?;
    let owner = json!({ "process": "telephone", "pid": named.child.id(), "uid": 0, "cgroup": seen["owner"]["cgroup"] });
    assert_eq!(seen["owner"], owner);

    let inside = stage.talk(Who { cgroup: Some(cgroup.folder()), ..Who::default() })?;
    let seen = stage.await_service(&inside, &by_rule("single", 3, 8))?;
    assert_eq!(seen["owner"]["cgroup"], path);

    let nobodys = stage.talk(Who {
        name: Some("telephone"),
        uid: Some(NOBODY),
        cgroup: Some(cgroup.folder()),
        slice: None,
    })?;
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

#[test]
fn where_the_other_end_is_decides_and_so_does_the_port() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let peer = Talker::listen(lab.host("server"))?;
    let first = Talker::listen(lab.host("server"))?;
    let config = format!("profile = \"heavy\"\n{}", rule(&format!("port = {}", first.port), "single"))
        + &rule("remote = \"10.9.0.0/16\"", "interactive");
    let stage = Stage::in_lab(lab, peer, &config)?;
    let by_remote = stage.talk(Who::default())?;
    stage.await_service(&by_remote, &by_rule("interactive", 2, 6))?;
    let by_port = Talker::connect(stage.client(), first.port, Who::default())?;
    stage.await_service(&by_port, &by_rule("single", 1, 3))?;
    Ok(())
}

#[test]
fn without_privileges_for_ebpf_rules_about_the_other_end_still_hold() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let peer = Talker::listen(lab.host("server"))?;
    let port = format!("port = {}", peer.port);
    let config = "manager = \"daemon\"\n".to_owned()
        + &rule("process = \"talker\"", "single")
        + &rule(&format!("process = \"*\", {port}"), "aggregate")
        + &rule(&port, "interactive");
    let way = ["setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon", "--"];
    let daemon = Daemon::start_through(lab.host("client"), &config, &way)?;
    let in_charge = |status: &Value| status["manager"] == "daemon";
    let status = daemon.await_that("the daemon in charge", || daemon.status(), in_charge)?;
    let features = status["ebpf"].as_array().context("features")?;
    let owner = features.iter().find(|feature| feature["name"] == "owner").context("the feature owner")?;
    let absent = owner["absent"].as_str().unwrap_or_default();
    assert!(absent.contains("(needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)"), "{owner}");
    let talker = Talker::connect(lab.host("client"), peer.port, Who::default())?;
    let seen = await_service(&daemon, talker.port, &by_rule("interactive", 3, 8))?;
    assert_eq!(seen["owner"]["process"], Value::Null);
    Ok(())
}

#[test]
fn a_slice_gives_its_type_to_what_runs_in_it_where_no_rule_says_otherwise() -> Result<()> {
    let cgroup = Cgroup::make()?;
    let stage = Stage::start(&rule("process = \"daybook\"", "interactive"))?;
    let slice = |service| Who { slice: Some((service, cgroup.folder())), ..Who::default() };
    let one = stage.talk(slice("single"))?;
    let seen = stage.await_service(&one, &json!({ "type": "single", "by": "slice" }))?;
    let path = format!("{}/mptcp.slice/mptcp-single.slice", cgroup.path());
    assert_eq!(seen["owner"]["cgroup"], path);
    let other = stage.talk(Who { name: Some("daybook"), ..slice("aggregate") })?;
    stage.await_service(&other, &by_rule("interactive", 1, 2))?;
    let beneath = cgroup.folder().display().to_string();
    let nowhere = stage.client().scratch().display().to_string();
    let list = stage.succeed(&["slice", "list", "--cgroup-root", &beneath, "--root", &nowhere])?;
    let expected = "/mptcp.slice/mptcp-aggregate.slice: aggregate, 1 processes\n\
                    /mptcp.slice/mptcp-single.slice: single, 1 processes\n";
    assert_eq!(list, expected);
    let explained = stage.succeed(&["explain", "--config", "/dev/null", "--cgroup", &path])?;
    assert!(explained.starts_with("no rule matches; its slice says single\n"), "{explained}");
    drop((one, other));
    drop(stage);
    Ok(())
}

/// Of a listener that the daemon has seen begin the process is known, of an older one what its sockets tell.
#[test]
fn an_accepted_connection_belongs_to_who_listens() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let older = Talker::start(lab.host("client"), Who { uid: Some(NOBODY), ..Who::default() }, &["listen"])?;
    let peer = Talker::listen(lab.host("server"))?;
    let config = rule("process = \"talker\"", "single")
        + &rule("process = \"daybook\"", "interactive")
        + &rule(&format!("port = {}, uid = {NOBODY}", older.port), "aggregate");
    let stage = Stage::in_lab(lab, peer, &config)?;
    let who = Who { name: Some("daybook"), ..Who::default() };
    let listener = Talker::start(stage.client(), who, &["listen"])?;
    let caller = |port: u16| {
        let to = format!("10.1.0.2:{port}");
        Talker::start(stage.lab.host("server"), Who::default(), &["connect", &to])
    };
    let _one = caller(listener.port)?;
    let seen = stage.await_service(&listener, &by_rule("interactive", 2, 5))?;
    assert_eq!((&seen["opened_by"], &seen["owner"]["pid"]), (&json!("peer"), &json!(listener.child.id())));
    let _two = caller(older.port)?;
    let seen = stage.await_service(&older, &by_rule("aggregate", 3, 8))?;
    assert_eq!((&seen["owner"]["process"], &seen["owner"]["pid"]), (&Value::Null, &Value::Null));
    Ok(())
}

#[test]
fn a_connection_is_given_a_type_by_hand_and_left_to_the_rules_again() -> Result<()> {
    let stage = Stage::start(&rule("process = \"talker\"", "interactive"))?;
    let (talker, other) = (stage.talk(Who::default())?, stage.talk(Who::default())?);
    let seen = stage.await_service(&talker, &by_rule("interactive", 1, 2))?;
    let token = seen["token"].to_string();
    let said = stage.succeed(&["service", "set", &token, "single"])?;
    let hexadecimal = format!("{:#010x}", seen["token"].as_u64().context("a token")?);
    assert_eq!(said, format!("connection {hexadecimal} is single until it ends\n"));
    let by_hand = json!({ "type": "single", "by": "hand" });
    stage.await_service(&talker, &by_hand)?;
    stage.await_service(&other, &by_rule("interactive", 1, 2))?;
    stage.reload("service = \"aggregate\"\n")?;
    stage.await_service(&talker, &by_hand)?;
    stage.await_service(&other, &json!({ "type": "aggregate", "by": "configuration" }))?;
    stage.succeed(&["service", "reset", &hexadecimal])?;
    stage.await_service(&talker, &json!({ "type": "aggregate", "by": "configuration" }))?;
    stage.reload(&rule("uid = 0", "handover"))?;
    stage.await_service(&talker, &by_rule("handover", 1, 2))?;
    Ok(())
}

#[test]
fn who_may_not_and_what_cannot_is_told_with_a_remedy() -> Result<()> {
    let stage = Stage::start("")?;
    let said = stage.fail(&["service", "set", "1", "single"])?;
    let expected =
        "no MPTCP connection has the token 0x00000001: see `mptcp-pm status` for those that there are\n";
    assert_eq!(said, format!("mptcp-pm: {expected}"));
    let talker = stage.talk(Who::default())?;
    let seen = stage.await_service(&talker, &by_profile())?;
    let socket = stage.client().scratch().join("control");
    // As if the group's members were everybody.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
    let binary = stage.client().scratch().join("mptcp-pm");
    fs::copy(tests::daemon::binary()?, &binary)?;
    let set = ["service", "set", &seen["token"].to_string(), "single", "--socket"];
    let output = stage
        .client()
        .command("setpriv")
        .args([&format!("--reuid={NOBODY}"), "--clear-groups", "--"])
        .arg(binary)
        .args(set)
        .arg(socket)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "mptcp-pm: only root may change something: run it as root, or with sudo\n");
    stage.await_service(&talker, &by_profile())?;
    Ok(())
}

/// One from before the daemon is the kernel's; one from before its successor is known by its user alone.
#[test]
fn older_connections_have_what_can_act_on_them() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let peer = Talker::listen(lab.host("server"))?;
    let by_kernel = Talker::connect(lab.host("client"), peer.port, Who::default())?;
    let config = rule("process = \"talker\"", "single") + &rule(&format!("uid = {NOBODY}"), "interactive");
    let stage = Stage::in_lab(lab, peer, &config)?;
    let seen = stage.await_service(&by_kernel, &Value::Null)?;
    assert_eq!(seen["owner"]["uid"], 0);
    let said = stage.fail(&["service", "set", &seen["token"].to_string(), "single"])?;
    assert!(said.contains("the kernel manages the paths of connection 0x"), "{said}");
    assert!(said.contains("use manager = \"daemon\", for connections made from then on"), "{said}");

    let nobodys = stage.talk(Who { uid: Some(NOBODY), ..Who::default() })?;
    stage.await_service(&nobodys, &by_rule("single", 1, 2))?;
    let Stage { daemon, peer, lab } = stage;
    daemon.end(nix::sys::signal::Signal::SIGUSR1)?;
    let stage = Stage::in_lab(lab, peer, &config)?;
    let seen = stage.await_service(&nobodys, &by_rule("interactive", 2, 5))?;
    assert_eq!(seen["owner"], json!({ "process": null, "pid": null, "uid": 65534, "cgroup": null }));
    Ok(())
}

#[test]
fn where_the_kernel_manages_the_status_says_once_that_types_do_not_act() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let daemon = Daemon::start(lab.host("client"), "service = \"single\"\n")?;
    let peer = Talker::listen(lab.host("server"))?;
    let _talker = Talker::connect(lab.host("client"), peer.port, Who::default())?;
    let status = daemon.status()?;
    let finding = json!({
        "object": "service types",
        "reason": "without effect while the kernel manages the paths: set manager = \"daemon\"",
        "given_up": true,
    });
    assert_eq!(status["findings"], json!([finding]));
    daemon.stop()
}

/// The service type decides which subflows there are and what they are for, also when it is changed by hand.
#[test]
fn each_subflow_has_its_part_and_the_status_says_why() -> Result<()> {
    let stage = Stage::start("")?;
    let talker = stage.talk(Who::default())?;
    let look = || Ok(connection(&stage.daemon.status()?, talker.port).cloned().unwrap_or_default());
    let roles = |seen: &Value| -> Vec<Value> {
        let subflows = seen["subflows"].as_array().into_iter().flatten();
        subflows.map(|subflow| subflow["role"].clone()).collect()
    };
    let both = |seen: &Value| roles(seen) == [json!("carries"), json!("stands-by")];
    let seen = stage.daemon.await_that("one carries, one stands by", look, both)?;
    let reasons = seen["subflows"].as_array().into_iter().flatten().map(|subflow| &subflow["reason"]);
    assert!(reasons.clone().all(Value::is_string), "{seen}");
    let text = stage.succeed(&["status"])?;
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for reason in reasons.filter_map(Value::as_str) {
        assert!(one_line.contains(&format!("({reason})")), "{reason}: {text}");
    }
    stage.succeed(&["service", "set", &seen["token"].to_string(), "single"])?;
    let one = |seen: &Value| seen["subflows"].as_array().is_some_and(|subflows| subflows.len() == 1);
    stage.daemon.await_that("a single subflow", look, one)?;
    Ok(())
}
