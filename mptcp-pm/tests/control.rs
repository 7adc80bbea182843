//! The program against a control socket: who may ask, who may change, what is printed, which code it exits with.
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mptcp_pm::config::Control;
use mptcp_pm::control::{Call, Feed, Reply, Server};
use nix::unistd::Group;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Somebody without any right.
const NOBODY: u32 = 65534;

/// A daemon's socket that the group `daemon` may use, and the program where anybody can run it.
struct Stage {
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("opens the folder");
        fs::copy(env!("CARGO_BIN_EXE_mptcp-pm"), folder.path().join("mptcp-pm")).expect("copies the program");
        let control = Control { socket: folder.path().join("control"), group: "daemon".into() };
        let server = Server::bind(&control).expect("binds: these tests need root");
        let (calls, taken) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(calls, Feed::default()));
        tasks.spawn(answer(taken));
        Self { folder, _tasks: tasks }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Runs the program as a user in a group; the server goes on meanwhile.
    async fn run(&self, uid: u32, gid: u32, words: &'static [&'static str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        command.arg(self.folder.path().join("mptcp-pm")).args(words);
        command.env("MPTCP_PM_SOCKET", self.socket());
        tokio::task::spawn_blocking(move || command.output().expect("runs setpriv")).await.expect("ends")
    }
}

/// A daemon that says who asks.
async fn answer(mut taken: mpsc::Receiver<Call>) {
    while let Some(call) = taken.recv().await {
        let _ = call.reply.send(Reply::Ok(json!({"request": call.request, "uid": call.peer.uid})));
    }
}

fn daemon_group() -> u32 {
    Group::from_name("daemon").expect("readable").expect("Debian has it").gid.as_raw()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn root_may_ask_and_change() {
    let stage = Stage::new();
    let status = stage.run(0, 0, &["status", "--json"]).await;
    let printed: Value = serde_json::from_slice(&status.stdout).expect("is JSON");
    assert_eq!(printed, json!({"request": {"request": "status"}, "uid": 0}));
    let reload = stage.run(0, 0, &["reload"]).await;
    assert_eq!(reload.status.code(), Some(0), "{}", stderr(&reload));
}

/// In a mount namespace with an /etc of its own.
#[tokio::test]
async fn commands_that_are_not_told_ask_at_the_socket_of_the_configuration() {
    let stage = Stage::new();
    let program = stage.folder.path().join("mptcp-pm");
    let script = format!(
        "mount -t tmpfs none /etc && mkdir /etc/mptcp-pm &&
         printf '[control]\\nsocket = \"%s\"\\n' {} > /etc/mptcp-pm/mptcp-pm.toml && exec {} status --json",
        stage.socket().display(),
        program.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env_remove("MPTCP_PM_SOCKET");
    let status = tokio::task::spawn_blocking(move || command.output().expect("runs unshare"));
    let status = status.await.expect("ends");
    let printed: Value =
        serde_json::from_slice(&status.stdout).unwrap_or_else(|_| panic!("{}", stderr(&status)));
    assert_eq!(printed, json!({"request": {"request": "status"}, "uid": 0}));
}

#[tokio::test]
async fn the_group_may_ask_and_not_change() {
    let stage = Stage::new();
    let status = stage.run(NOBODY, daemon_group(), &["status", "--json"]).await;
    let printed: Value = serde_json::from_slice(&status.stdout).expect("is JSON");
    assert_eq!(printed["uid"], NOBODY);
    let reload = stage.run(NOBODY, daemon_group(), &["reload"]).await;
    assert_eq!(reload.status.code(), Some(1));
    assert_eq!(stderr(&reload), "mptcp-pm: only root may change something: run it as root, or with sudo\n");
}

#[tokio::test]
async fn others_may_nothing() {
    let stage = Stage::new();
    for words in [&["status"][..], &["reload"]] {
        let output = stage.run(NOBODY, NOBODY, words).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).starts_with("mptcp-pm: no permission for "), "{}", stderr(&output));
    }
}

#[test]
fn exit_codes_tell_failure_from_wrong_usage() {
    let code = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mptcp-pm")).args(words).output().expect("runs");
        output.status.code()
    };
    assert_eq!(code(&["completions", "bash"]), Some(0));
    assert_eq!(code(&["config", "check", "/nonexistent"]), Some(1));
    assert_eq!(code(&["status", "--socket", "/nonexistent/control"]), Some(1));
    assert_eq!(code(&["frobnicate"]), Some(2));
    assert_eq!(code(&["endpoint", "add", "192.0.2.1", "--signal", "--fullmesh"]), Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mptcp-pm"));
    let mut child = program.args(["completions", "bash"]).stdout(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

/// What there is to say where no rule is about MPTCP.
const TCP: &str = "no rule with mptcp matches; its TCP sockets stay TCP\n";

/// A configuration with two rules, in a file of its own.
fn rules() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = "[[application]]\nmatch = { process = \"ssh\", port = 22 }\nservice = \"interactive\"\n\
                [[application]]\nmatch = { cgroup = \"/system.slice\" }\nservice = \"aggregate\"\n";
    fs::write(file.path(), text).expect("writes");
    file
}

fn explain(file: &tempfile::NamedTempFile, words: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mptcp-pm"));
    command.args(["explain", "--config"]).arg(file.path()).args(words.split_whitespace());
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{words}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("is text").replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn a_rule_is_explained_from_the_file_alone() {
    let file = rules();
    assert_eq!(
        explain(&file, "--process ssh --remote 192.0.2.9:22"),
        format!("FILE:1: rule 1 decides: interactive\n{TCP}")
    );
    let passed = "FILE:1: rule 1 does not match: ";
    assert_eq!(
        explain(&file, "--process ssh --remote 192.0.2.9 --cgroup /system.slice/ssh.service"),
        format!("{passed}port\nFILE:4: rule 2 decides: aggregate\n{TCP}")
    );
    assert_eq!(
        explain(&file, "--uid 0 --accepted-on 22"),
        format!(
            "{passed}process\nFILE:4: rule 2 does not match: cgroup\n\
             no rule matches; the profile light says handover\n{TCP}"
        )
    );
    let object: Value =
        serde_json::from_str(&explain(&file, "--cgroup /system.slice --json")).expect("is JSON");
    let expected = json!({
        "service": "aggregate",
        "by": "rule",
        "rule": 2,
        "line": 4,
        "passed_over": [{"rule": 1, "line": 1, "condition": "process"}],
        "mptcp": {"becomes": false, "rule": null, "line": null, "passed_over": []},
    });
    assert_eq!(object, expected);
    fs::write(file.path(), "service = \"single\"\n").expect("writes");
    assert_eq!(explain(&file, ""), format!("no rule matches; FILE says service = \"single\"\n{TCP}"));
}
