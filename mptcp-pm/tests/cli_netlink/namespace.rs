//! Network namespaces and the programs that run in them.
use std::process::{Command, Output};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::unistd::{Pid, gettid};
use serde_json::Value;

use crate::common;
pub use crate::common::ip;

/// Far more than anything here takes; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a new network namespace, which ends with it.
pub fn run(test: impl FnOnce() + Send) {
    common::run(|| {
        prepare();
        test();
    });
}

fn prepare() {
    ip("link set lo up");
    // A new namespace begins with the machine's settings.
    sysctl("net.ipv4.conf.all.rp_filter=0");
    sysctl("net.ipv4.conf.default.rp_filter=0");
}

/// What is run in another namespace.
type Job = Box<dyn FnOnce() + Send>;

/// Another network namespace, which ends with it.
pub struct Other {
    id: Pid,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Other {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            common::enter();
            prepare();
            tell.send(gettid()).unwrap();
            queue.iter().for_each(|job| job());
        });
        Self { id: told.recv().expect("its namespace"), jobs: Some(jobs), thread: Some(thread) }
    }

    /// Runs something inside, and waits for its result.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || tell.send(work()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        told.recv().expect("no panic inside")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The address that the server of [`two_uplinks`] listens at.
pub const SERVER: &str = "10.9.0.1";

/// This namespace gets two uplinks, `wan0` (10.1.0.2) and `wan1` (10.2.0.2), to the other one, where [`SERVER`] is.
pub fn two_uplinks() -> Other {
    let other = Other::new();
    other.run(|| ip(&format!("addr add {SERVER}/32 dev lo")));
    for (index, metric) in [(1, 100), (2, 200)] {
        let (here, there) = (format!("wan{}", index - 1), format!("lan{index}"));
        ip(&format!("link add {here} type veth peer name {there} netns {}", other.id));
        ip(&format!("addr add 10.{index}.0.2/24 dev {here}"));
        other.run(move || {
            ip(&format!("addr add 10.{index}.0.1/24 dev {there}"));
            ip(&format!("link set {there} up"));
        });
        ip(&format!("link set {here} up"));
        ip(&format!("route add default via 10.{index}.0.1 dev {here} metric {metric}"));
    }
    other
}

/// Sets a sysctl in the namespace of this thread.
pub fn sysctl(setting: &str) {
    let output = Command::new("sysctl").args(["-qw", setting]).output().expect("sysctl(8) of procps");
    assert!(output.status.success(), "sysctl {setting}: {}", stderr(&output));
}

/// The program, to be run in the namespace of this thread.
pub fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mptcp-pm"));
    command.args(arguments.split_whitespace());
    command
}

/// Runs the program.
pub fn output(arguments: &str) -> Output {
    program(arguments).output().expect("runs")
}

/// What the program prints when all goes well.
pub fn done(arguments: &str) -> String {
    let output = output(arguments);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments}");
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON that the program prints when all goes well.
pub fn json(arguments: &str) -> Value {
    serde_json::from_str(&done(arguments)).expect("is JSON")
}

/// Why the program fails, without its name; it prints nothing else.
pub fn refused(arguments: &str) -> String {
    let output = output(arguments);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{arguments}");
    let message = stderr(&output);
    message.strip_prefix("mptcp-pm: ").unwrap_or_else(|| panic!("{message}")).trim_end().to_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
