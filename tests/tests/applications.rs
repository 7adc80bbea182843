//! Debian's programs, unmodified, over both accesses: started by `mptcp-pm exec`, which any kernel with MPTCP allows.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::mptcpify::Mptcpify;
use tests::daemon::Daemon;
use tests::servers::{Accepted, Server, exec};
use tests::{Family, Host, Lab, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";

/// Long enough for both accesses to be worth while: about a second.
const BYTES: usize = 6 << 20;

/// Both accesses, a daemon that puts both to use, and servers that speak MPTCP.
struct Stage {
    lab: Lab,
    _daemon: Daemon,
}

impl Stage {
    fn start() -> Result<Self> {
        let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
        let daemon = Daemon::start(lab.host("client"), HEAVY)?;
        Ok(Self { lab, _daemon: daemon })
    }

    fn client(&self) -> &Arc<Host> {
        self.lab.host("client")
    }

    /// Payload and headers that each access has carried to the client.
    fn carried(&self) -> [u64; 2] {
        ["wifi", "lte"].map(|link| self.lab.link(link).counters().down.delivered.bytes)
    }

    /// Has a command fetch the file, and says what connections that made, and what each access carried.
    fn fetch(&self, server: &Server, command: &[String], to: &Path) -> Result<(Accepted, [u64; 2])> {
        let (before, carried) = (server.accepted()?, self.carried());
        let output = self.client().command(&command[0]).args(&command[1..]).output()?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        ensure!(server.is_same(to)?, "{command:?}: another file has arrived");
        let now = self.carried();
        Ok((server.accepted()?.since(before), [now[0] - carried[0], now[1] - carried[1]]))
    }

    fn target(&self, name: &str) -> PathBuf {
        self.client().scratch().join(name)
    }
}

/// Words, those of a way first.
fn words(way: &[String], words: &[&str]) -> Vec<String> {
    way.iter().cloned().chain(words.iter().map(|&word| word.to_owned())).collect()
}

#[test]
fn programs_that_exec_starts_use_both_accesses_and_others_stay_tcp() -> Result<()> {
    let stage = Stage::start()?;
    let host = stage.lab.host("server");
    let (way, none) = (exec()?, Vec::new());
    let web = Server::nginx(host, &way, BYTES)?;
    let ssh = Server::sshd(host, &way, BYTES)?;
    let url = web.url("10.9.0.2".parse()?);
    let to = stage.target("file");
    let out = to.display().to_string();
    let python = format!("import urllib.request; urllib.request.urlretrieve({url:?}, {out:?})");
    let key = ssh.file.with_file_name("key").display().to_string();
    let copy = format!(
        "exec ssh -F none -i {key} -p {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         root@10.9.0.2 cat {} >{out}",
        ssh.port,
        ssh.file.display()
    );
    let programs: [(&Server, &[&str]); 4] = [
        (&web, &["curl", "-sSf", "-o", &out, &url]),
        (&web, &["wget", "-q", "-O", &out, &url]),
        (&web, &["python3", "-c", &python]),
        (&ssh, &["sh", "-c", &copy]),
    ];
    for (server, command) in programs {
        let (seen, carried) = stage.fetch(server, &words(&way, command), &to)?;
        println!("{}: {seen:?}, {carried:?} bytes", command[0]);
        assert!(seen.mptcp == 1 && seen.joined >= 1, "{command:?}: {seen:?}");
        assert!(carried.iter().all(|bytes| *bytes > BYTES as u64 / 20), "{command:?}: {carried:?}");
    }
    let (seen, carried) = stage.fetch(&web, &words(&none, programs[0].1), &to)?;
    assert_eq!((seen.mptcp, seen.tcp), (0, 1), "nobody has asked for MPTCP");
    assert!(carried[1] < 10_000, "plain TCP goes over one access: {carried:?}");
    Ok(())
}

/// What the running kernel lacks is told by name, and what to do instead.
#[test]
fn the_status_says_which_way_serves() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let has_hook = client.run(|| Mptcpify::attach(&Kernel::default(), &[]).is_ok());
    let daemon = Daemon::start(client, "")?;
    let feature = || {
        let status = daemon.status()?;
        let features = status["ebpf"].as_array().context("features")?;
        anyhow::Ok(features.iter().find(|feature| feature["name"] == "mptcpify").cloned())
    };
    assert_eq!(feature()?, None, "nobody has asked for it");
    daemon.write_config("[[application]]\nmatch = { process = \"curl\" }\nmptcp = true\n")?;
    let reloaded = daemon.command(&["reload"])?.output()?;
    ensure!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    let told = feature()?.context("the feature")?;
    let absent = told["absent"].as_str();
    let instead = "; use `mptcp-pm exec -- COMMAND` to start programs with MPTCP";
    assert_eq!(absent.is_none(), has_hook, "{told}");
    assert!(absent.is_none_or(|reason| reason.contains("mptcpify") && reason.ends_with(instead)), "{told}");
    daemon.stop()
}
