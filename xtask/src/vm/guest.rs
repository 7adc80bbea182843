//! One run of a command in a guest.
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::{fd::OwnedFd, unix::ffi::OsStrExt, unix::fs::MetadataExt, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::initrd;
use crate::{
    paths, process,
    setup::{emulator, kernels::Kernel},
};

const GUEST: &str = include_str!("guest.sh");

const MEMORY: &str = "2G";
const PROCESSORS: &str = "2";

/// Not `la57`: no guest needs pages five levels deep.
const PROCESSOR: &str = "max,-la57";

/// With `cx16`, guests of qemu 7.2 fail around cmpxchg16b. Without it Linux 7 keeps nothing beside sockets for eBPF programs
/// (`kmalloc_nolock`, mm/slub.c), so this is for who has no newer emulator.
const OLD_PROCESSOR: &str = "max,-cx16,-la57";

const KERNEL_OPTIONS: &str = "console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on tsc=reliable \
                              no_timer_check mitigations=off";

/// A command, and the kernel under which it is to run: in this process's folder, with its PATH and nothing else of its
/// environment.
pub struct Guest<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The command and its arguments.
    pub command: &'a [OsString],
    /// How long the guest may take altogether.
    pub limit: Duration,
    /// Where the command's output and errors go, both as one.
    pub output: Stdio,
}

/// What came of it.
pub struct Outcome {
    /// The command's exit status.
    pub status: u8,
    /// What it wrote, if that was to be piped.
    pub output: String,
}

impl Guest<'_> {
    /// Boots, runs the command, and waits for the guest's end.
    ///
    /// Fails when the guest does not come up or does not tell a status in time; then with what its console shows.
    pub fn run(self) -> Result<Outcome> {
        let run = Folder::new()?;
        let path = |name: &str| run.0.join(name);
        let write = |name: &str, bytes: &[u8]| {
            fs::write(path(name), bytes).with_context(|| format!("writing {}", path(name).display()))
        };
        write("guest.sh", GUEST.as_bytes())?;
        write("settings", &self.settings()?)?;
        write("command", &self.script()?)?;
        write("initrd", &initrd::build(self.kernel)?)?;
        let mut server = Server::start(&run.0)?;
        let child = self.emulator(&run.0)?.stdout(self.output).spawn().context("starting qemu")?;
        let ended = child.wait_with_output().context("waiting for qemu")?;
        server.stop();
        let told = fs::read_to_string(path("status")).unwrap_or_default();
        match told.trim().parse() {
            Ok(status) => Ok(Outcome { status, output: String::from_utf8_lossy(&ended.stdout).into_owned() }),
            Err(_) => bail!("{}", self.kernel.failed(&ended, &path("console"))),
        }
    }

    fn settings(&self) -> Result<Vec<u8>> {
        let values: [(&str, PathBuf); 4] = [
            ("RELEASE", PathBuf::from(&self.kernel.release)),
            ("MODULES", self.kernel.modules()),
            ("KMOD", emulator::kmod_file()?),
            ("BUSYBOX", emulator::busybox()?),
        ];
        let line = |(name, value): (&str, PathBuf)| {
            [name.as_bytes(), b"=", &quoted(value.as_os_str()), b"\n"].concat()
        };
        Ok(values.into_iter().flat_map(line).collect())
    }

    fn script(&self) -> Result<Vec<u8>> {
        let here = env::current_dir().context("finding the current folder")?;
        let path = env::var_os("PATH").unwrap_or_default();
        let words = self.command.iter().flat_map(|word| [quoted(word), b" ".to_vec()].concat());
        let start = [
            b"export HOME=/root TERM=dumb PATH=",
            &quoted(&path)[..],
            b"\ncd ",
            &quoted(here.as_os_str()),
            b" || exit 126\n",
        ];
        Ok(start.concat().into_iter().chain(words).chain(*b"\n").collect())
    }

    fn emulator(&self, run: &Path) -> Result<Command> {
        let path = |name: &str| run.join(name).display().to_string();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.limit.as_secs().to_string()]).arg(emulator::qemu()?);
        command.args(["-accel", "tcg,thread=multi", "-cpu", processor()?, "-smp", PROCESSORS, "-m", MEMORY]);
        command.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
        command.args(["-numa", "node,memdev=memory", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(run.join("initrd"));
        command.args(["-append", &format!("{KERNEL_OPTIONS} vm.run={}", run.display())]);
        command.args(["-chardev", &format!("socket,id=root,path={}", path("root.sock"))]);
        command.args(["-device", "vhost-user-fs-pci,chardev=root,tag=root", "-device", "virtio-rng-pci"]);
        for port in [
            format!("file,id=console,path={}", path("console")),
            "stdio,id=output,signal=off".to_owned(),
            format!("file,id=status,path={}", path("status")),
        ] {
            let id = port.split(['=', ',']).nth(2).unwrap_or_default();
            command.args(["-serial", &format!("chardev:{id}"), "-chardev", &port]);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }
}

impl Kernel {
    fn failed(&self, ended: &std::process::Output, console: &Path) -> String {
        let why = match ended.status.code() {
            Some(124 | 137) => "did not end in time",
            _ => "told no status",
        };
        let shown = fs::read(console).unwrap_or_default();
        let output = String::from_utf8_lossy(&ended.stdout);
        format!(
            "the guest with Linux {} {why} ({}); its output:\n{output}\nits console:\n{}",
            self.release,
            ended.status,
            String::from_utf8_lossy(&shown)
        )
    }
}

/// The processor that a guest sees.
fn processor() -> Result<&'static str> {
    let version = process::output(Command::new(emulator::qemu()?).arg("--version"))?;
    Ok(if version.starts_with("QEMU emulator version 7.") { OLD_PROCESSOR } else { PROCESSOR })
}

/// A word as a shell reads it.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// The files of one run, which go with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let dir = paths::cache()?.join("runs").join(std::process::id().to_string());
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing the old {}", dir.display()))?;
        }
        fs::create_dir_all(dir.join("root")).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Serves this machine's root file system to the guest, read-only on this side too, in a mount namespace of its own.
struct Server(Child);

/// Mounts `/` at $1, read-only, and what the guest needs of other file systems at its place there; becomes the server $2.
const SERVE: &str = "root=$1 server=$2; shift 2
for dir in / \"$@\"; do
    mount --bind \"$dir\" \"$root$dir\" && mount -o remount,bind,ro \"$root$dir\" || exit
done
exec \"$server\" --fd=0 -o source=\"$root\" -o cache=always -o sandbox=chroot -f";

impl Server {
    fn start(run: &Path) -> Result<Self> {
        let socket = run.join("root.sock");
        // It gets a socket that listens already, as its standard input: nobody has to wait until it has made one.
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
        let log = fs::File::create(run.join("server.log")).context("creating the log of virtiofsd")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SERVE, "sh"]);
        command.arg(run.join("root")).arg(emulator::virtiofsd()?).args(elsewhere()?);
        command.stdin(OwnedFd::from(listener)).stdout(log.try_clone()?).stderr(log);
        command.spawn().map(Self).context("starting virtiofsd")
    }

    fn stop(&mut self) {
        // It has ended when the guest has, unless there never was one.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Folders that are needed and not in the root file system itself.
fn elsewhere() -> Result<Vec<PathBuf>> {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let workspace = paths::workspace().canonicalize().context("finding the workspace")?;
    let wanted = [workspace, paths::target(), paths::cache()?];
    Ok(wanted
        .into_iter()
        .filter(|dir| device(dir).is_some_and(|on| Some(on) != device(Path::new("/"))))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["plain", "", "two words", "it's", "$HOME `x` \\ \"", "a\nb"] {
            let script = [b"printf %s ", &quoted(OsStr::new(word))[..]].concat();
            let out = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), word);
        }
    }
}
