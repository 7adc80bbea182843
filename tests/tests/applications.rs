//! Debian's programs, unmodified, over both accesses: started by `mptcp-pm exec`, which any kernel with MPTCP allows.
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::mptcpify::Mptcpify;
use serde_json::Value;
use tests::daemon::{Daemon, await_that};
use tests::servers::{Accepted, Server, exec, words};
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

/// A configuration under which MPTCP is not switched on.
const NO_UPLINKS: &str = "[[uplink]]\nmatch = { name = \"*\" }\nrole = \"off\"\n";

/// What the running kernel lacks is told by name, and what to do instead.
#[test]
fn the_status_says_which_way_serves() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let has_hook = client.run(|| Mptcpify::attach(&Kernel::default(), &[]).is_ok());
    // As some distributions have it; the daemon changes it for as long as there are uplinks.
    client.set_sysctl("net.mptcp.enabled", "0")?;
    let daemon = Daemon::start(client, NO_UPLINKS)?;
    let feature = || {
        let status = daemon.status()?;
        let features = status["ebpf"].as_array().context("features")?;
        anyhow::Ok(features.iter().find(|feature| feature["name"] == "mptcpify").cloned())
    };
    let reload = |config: &str| {
        daemon.write_config(config)?;
        let reloaded = daemon.command(&["reload"])?.output()?;
        ensure!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
        Ok(())
    };
    assert_eq!(feature()?, None, "nobody has asked for it");
    let rule = "[[application]]\nmatch = { process = \"curl\" }\nmptcp = true\n";
    reload(&[rule, NO_UPLINKS].concat())?;
    let off = "net.mptcp.enabled is 0 until an uplink is used";
    assert_eq!(feature()?.context("the feature")?["absent"], off);
    reload(rule)?;
    let is_on = |told: &Option<Value>| told.as_ref().is_some_and(|now| now["absent"] != off);
    let told = await_that("MPTCP on, and a try", feature, is_on)?.context("the feature")?;
    let absent = told["absent"].as_str();
    let instead = "; use `mptcp-pm exec -- COMMAND` to start programs with MPTCP";
    assert_eq!(absent.is_none(), has_hook, "{told}");
    assert!(absent.is_none_or(|reason| reason.contains("mptcpify") && reason.ends_with(instead)), "{told}");
    daemon.stop()
}

/// What is said of the options that programs must not need: README.md, "Applications".
#[test]
fn what_an_mptcp_socket_cannot_do_is_refused_when_it_is_asked_for() -> Result<()> {
    const SCRIPT: &str = "
import errno, socket
TCP, ANY = socket.IPPROTO_TCP, socket.SOL_SOCKET
options = dict(TCP_MD5SIG=(TCP, 14), TCP_AO_ADD_KEY=(TCP, 38), TCP_REPAIR=(TCP, 19), TCP_ULP=(TCP, 31),
    TCP_USER_TIMEOUT=(TCP, 18), TCP_SYNCNT=(TCP, 7), TCP_LINGER2=(TCP, 8), TCP_WINDOW_CLAMP=(TCP, 10), IP_TTL=(0, 2),
    IP_MTU_DISCOVER=(0, 10), SO_ZEROCOPY=(ANY, 60), TCP_NODELAY=(TCP, 1), SO_KEEPALIVE=(ANY, 9))
made = socket.socket()
assert made.getsockopt(ANY, 38) == 262
for name, (level, option) in options.items():
    try:
        made.setsockopt(level, option, b'tls' if name == 'TCP_ULP' else 1)
        print(name, 'is set')
    except OSError as error:
        print(name, errno.errorcode[error.errno])
try:
    made.getsockopt(0, 80, 16)
except OSError as error:
    print('SO_ORIGINAL_DST', errno.errorcode[error.errno])
";
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let command = words(&exec()?, &["python3", "-c", SCRIPT]);
    let output = lab.host("client").command(&command[0]).args(&command[1..]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = String::from_utf8(output.stdout)?;
    // ENOTSUP is another name of EOPNOTSUPP.
    let refused =
        seen.lines().filter(|line| line.ends_with(" ENOPROTOOPT") || line.ends_with("NOTSUP")).count();
    let set: Vec<&str> = seen.lines().filter_map(|line| line.strip_suffix(" is set")).collect();
    assert_eq!((refused, set), (12, vec!["TCP_NODELAY", "SO_KEEPALIVE"]), "{seen}");
    Ok(())
}

/// What OpenSSL's programs read: the kernel is to encrypt (kTLS). The version shows that it is read.
const KTLS: &str = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = both\n\
                    [both]\nOptions = KTLS\nMaxProtocol = TLSv1.2\n";

/// A server that is to leave encryption to the kernel does it by itself where the kernel refuses, as over MPTCP.
#[test]
fn with_ktls_switched_on_openssl_encrypts_by_itself_over_mptcp() -> Result<()> {
    let stage = Stage::start()?;
    let (client, far, way) = (stage.client(), stage.lab.host("server"), exec()?);
    let folder = far.scratch();
    std::fs::write(folder.join("openssl.cnf"), KTLS)?;
    let content: Vec<u8> = (0..BYTES).map(|at| (at / 251) as u8 ^ at as u8).collect();
    std::fs::write(folder.join("file"), &content)?;
    let certify = "cd $0 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 2 \
                   -subj /CN=x";
    let made = far.command("sh").args(["-c", certify]).arg(folder).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let serve =
        "cd $0 && OPENSSL_CONF=$0/openssl.cnf exec openssl s_server -accept 4433 -key key -cert cert -WWW";
    let serve = words(&way, &["sh", "-c", serve, &folder.display().to_string()]);
    let mut server =
        far.command(&serve[0]).args(&serve[1..]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let listens = || Ok(far.command("ss").args(["-HlntO", "sport = :4433"]).output()?.stdout);
    await_that("OpenSSL's server", listens, |seen| !seen.is_empty())?;
    let to = stage.target("encrypted");
    let fetch =
        words(&way, &["curl", "-vsSfk", "-o", &to.display().to_string(), "https://10.9.0.2:4433/file"]);
    let before = Accepted::by(far)?;
    let output = client.command(&fetch[0]).args(&fetch[1..]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("SSL connection using TLSv1.2"), "{said}");
    ensure!(std::fs::read(&to)? == content, "another file has arrived");
    let seen = Accepted::by(far)?.since(before);
    ensure!(seen.mptcp == 1 && seen.joined >= 1, "{seen:?}");
    ensure!(server.wait_timeout(std::time::Duration::ZERO)?.is_none(), "the server has ended");
    Ok(())
}

/// The program takes the place of the command: nobody stands between it and who waits for it.
#[test]
fn exec_passes_signals_exit_status_and_what_was_loaded_before() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let run = |command: &[&str]| {
        let command = words(&exec()?, command);
        client.command(&command[0]).args(&command[1..]).env("GODEBUG", "multipathtcp=0").output()
    };
    assert_eq!(run(&["sh", "-c", "exit 7"])?.status.code(), Some(7));
    assert_eq!(run(&["sh", "-c", "kill -TERM $$"])?.status.signal(), Some(15));
    let kept = run(&["sh", "-c", "echo $GODEBUG"])?;
    assert_eq!(
        String::from_utf8_lossy(&kept.stdout),
        "multipathtcp=1,multipathtcp=0\n",
        "the last one holds"
    );
    let absent = run(&["no-such-program"])?;
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    let expected = "mptcp-pm: no program is called no-such-program: check its name, or give its path\n";
    assert_eq!((absent.status.code(), said.as_str()), (Some(1), expected));
    client.set_sysctl("net.mptcp.enabled", "0")?;
    let protocol = "import socket; print(socket.socket().getsockopt(socket.SOL_SOCKET, 38))";
    let off = run(&["python3", "-c", protocol])?;
    assert_eq!(String::from_utf8_lossy(&off.stdout), "6\n", "{}", String::from_utf8_lossy(&off.stderr));
    assert!(String::from_utf8_lossy(&off.stderr).contains("there is no MPTCP here"));
    Ok(())
}
