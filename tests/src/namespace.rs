//! An anonymous network namespace: held by a descriptor and a thread, so it ends with this process.

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::{io, panic};

/// A network namespace without a name: the kernel removes it, and every device in it, when this process ends,
/// however it ends.
pub struct Namespace {
    handle: File,
    keeper: Pid,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

impl Namespace {
    /// Makes an empty namespace and the thread that keeps it.
    ///
    /// # Errors
    /// When the kernel refuses (`CLONE_NEWNET` needs `CAP_SYS_ADMIN`).
    pub fn new(name: &str) -> Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let (ready, made) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("ns-{name}"))
            .spawn(move || keep(&ready, &queue))
            .context("start the namespace's thread")?;
        let (handle, keeper) = made
            .recv()
            .context("wait for the namespace's thread")?
            .with_context(|| format!("make a network namespace for {name} (are you root?)"))?;
        Ok(Self { handle, keeper, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` on a thread of its own inside the namespace; may borrow; a panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("enter a namespace of our own");
            work()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Starts a child process inside the namespace. Its parent is the thread that keeps the namespace, so a
    /// parent-death signal reaches it when the namespace ends, not when the calling thread does.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        let (answer, started) = mpsc::sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(|| anyhow!("the namespace is closed"))?;
        jobs.send(Job { command, answer }).map_err(|_| anyhow!("the namespace's thread has ended"))?;
        Ok(started.recv().context("wait for the namespace's thread")??)
    }

    /// A thread inside the namespace; `ip link … netns ID` takes it.
    pub fn id(&self) -> Pid {
        self.keeper
    }

    /// What identifies the namespace on this machine: the number in `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.handle.metadata()?.ino())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn keep(ready: &mpsc::SyncSender<io::Result<(File, Pid)>>, queue: &mpsc::Receiver<Job>) {
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .and_then(|()| Ok((File::open("/proc/thread-self/ns/net")?, gettid())));
    drop(ready.send(made));
    for mut job in queue {
        // Nobody waits for the answer only when the caller has panicked.
        drop(job.answer.send(job.command.spawn()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_apart_from_the_machine_and_from_others() {
        let (one, two) = (Namespace::new("one").unwrap(), Namespace::new("two").unwrap());
        let inode = || File::open("/proc/thread-self/ns/net").unwrap().metadata().unwrap().ino();
        assert_eq!(one.run(inode), one.inode().unwrap());
        assert_ne!(one.inode().unwrap(), two.inode().unwrap());
        assert_ne!(one.inode().unwrap(), inode());
    }

    #[test]
    fn a_panic_inside_reaches_the_caller() {
        let namespace = Namespace::new("panic").unwrap();
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| namespace.run(|| panic!("inside"))));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "inside");
    }
}
