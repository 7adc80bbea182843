//! Debian's own servers in hosts of the lab, with a configuration of their own, and a file that clients fetch from them.
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::daemon::{await_that, binary};
use crate::{Child, Host, Rng, kernel};

/// What programs become when `mptcp-pm exec` starts them, to be put before their names.
///
/// # Errors
/// Where the daemon is not built.
pub fn exec() -> Result<Vec<String>> {
    Ok(vec![binary()?.display().to_string(), "exec".to_owned(), "--".to_owned()])
}

/// Words, those of a way first.
pub fn words(way: &[String], words: &[&str]) -> Vec<String> {
    way.iter().cloned().chain(words.iter().map(|&word| word.to_owned())).collect()
}

/// A running server; dropping it kills it.
pub struct Server {
    host: Arc<Host>,
    /// The port that it listens on.
    pub port: u16,
    /// The file that it gives out.
    pub file: PathBuf,
    hash: String,
    _child: Child,
}

/// Connections that a host has accepted, by its kernel's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// MPTCP connections that are established.
    pub mptcp: u64,
    /// Further subflows of them.
    pub joined: u64,
    /// All TCP connections, subflows included.
    pub tcp: u64,
}

impl Accepted {
    /// By now.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn by(host: &Host) -> Result<Self> {
        Ok(Self {
            mptcp: kernel::counter(host, "MPCapableACKRX")?,
            joined: kernel::counter(host, "MPJoinAckRx")?,
            tcp: kernel::accepted(host)?,
        })
    }

    /// Since an earlier look.
    pub fn since(self, before: Self) -> Self {
        Self {
            mptcp: self.mptcp - before.mptcp,
            joined: self.joined - before.joined,
            tcp: self.tcp - before.tcp,
        }
    }
}

impl Server {
    /// Starts nginx, by way of a command that executes its arguments, and waits until it listens. It gives out a file of so
    /// many bytes at `/file`.
    ///
    /// # Errors
    /// When it is not there, or does not listen; with its log.
    pub fn nginx(host: &Arc<Host>, way: &[String], bytes: usize) -> Result<Self> {
        const PORT: u16 = 8080;
        let dir = host.scratch().join("nginx");
        fs::create_dir_all(&dir)?;
        let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].iter().fold(
            String::new(),
            |mut all, what| {
                let _ = write!(all, "{what}_temp_path {}/{what}; ", dir.display());
                all
            },
        );
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/log;\n\
             events {{}}\n\
             http {{ access_log off; {places}\n  \
             server {{ listen 0.0.0.0:{PORT}; listen [::]:{PORT}; root {dir}; }} }}\n",
            dir = dir.display()
        );
        fs::write(dir.join("nginx.conf"), config)?;
        let words = ["-p".into(), dir.clone().into(), "-c".into(), dir.join("nginx.conf").into()];
        Self::start(host, way, program("NGINX")?, words, &dir, PORT, bytes)
    }

    /// Starts sshd, likewise. Who has the key beside the file may become root, which it does not leave the namespaces by.
    ///
    /// # Errors
    /// When it is not there, or does not listen; with its log.
    pub fn sshd(host: &Arc<Host>, way: &[String], bytes: usize) -> Result<Self> {
        const PORT: u16 = 2222;
        let dir = host.scratch().join("sshd");
        fs::create_dir_all(&dir)?;
        for key in ["host_key", "key"] {
            let file = dir.join(key);
            let made = host
                .command("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(file)
                .output()?;
            ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr));
        }
        let config = format!(
            "Port {PORT}\nHostKey {dir}/host_key\nAuthorizedKeysFile {dir}/key.pub\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin prohibit-password\n",
            dir = dir.display()
        );
        fs::write(dir.join("sshd_config"), config)?;
        // The user whom sshd becomes before anybody has logged in, and its empty folder, in a mount namespace of its own.
        let users = fs::read_to_string("/etc/passwd").context("read the list of users")?;
        fs::write(dir.join("passwd"), users + "\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")?;
        let script = format!(
            "mount --bind '{dir}/passwd' /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && exec \"$@\"",
            dir = dir.display()
        );
        let apart = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned);
        let way: Vec<String> = way.iter().cloned().chain(apart).collect();
        let words = ["-D".into(), "-e".into(), "-f".into(), dir.join("sshd_config").into()];
        Self::start(host, &way, program("SSHD")?, words, &dir, PORT, bytes)
    }

    fn start(
        host: &Arc<Host>,
        way: &[String],
        program: OsString,
        words: [OsString; 4],
        dir: &Path,
        port: u16,
        bytes: usize,
    ) -> Result<Self> {
        let file = dir.join("file");
        let mut content = vec![0; bytes];
        Rng::new(bytes as u64).fill(&mut content);
        fs::write(&file, &content)?;
        let log = dir.join("log");
        let output = fs::File::create(&log)?;
        let all: Vec<OsString> = way.iter().map(OsString::from).chain([program]).chain(words).collect();
        let child = host
            .command(&all[0])
            .args(&all[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let look = || {
            let listening = host.command("ss").args(["-HlntO", &format!("sport = :{port}")]).output()?;
            Ok(String::from_utf8(listening.stdout)?)
        };
        await_that(&format!("{} listening", all[way.len()].display()), look, |seen| !seen.is_empty())
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self { host: Arc::clone(host), port, file, hash: hash(&content), _child: child })
    }

    /// The host's connections.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn accepted(&self) -> Result<Accepted> {
        Accepted::by(&self.host)
    }

    /// Where the file is to be had by HTTP.
    pub fn url(&self, address: IpAddr) -> String {
        format!("http://{}/file", std::net::SocketAddr::new(address, self.port))
    }

    /// Whether a file has the same content.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_same(&self, file: &Path) -> Result<bool> {
        let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        Ok(hash(&content) == self.hash)
    }
}

fn hash(content: &[u8]) -> String {
    format!("{:x?}", Sha256::digest(content))
}

fn program(variable: &str) -> Result<OsString> {
    let program = env::var_os(variable);
    program.with_context(|| format!("where is the server? use `cargo xtask test`, which sets {variable}"))
}
