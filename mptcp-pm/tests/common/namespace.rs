//! A network namespace for each test, and `ip` in it.
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs a test in a new network namespace, which ends with it.
pub fn run(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter();
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The same for a test that awaits something.
#[allow(dead_code, reason = "not every test program awaits")]
pub fn run_async<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test()));
}

/// Moves this thread into a new network namespace, which ends with it.
pub fn enter() {
    unshare(CloneFlags::CLONE_NEWNET)
        .expect("this test makes a network namespace: run it as root (CAP_SYS_ADMIN)");
    assert!(
        Path::new("/proc/sys/net/mptcp").exists(),
        "this test drives the kernel's MPTCP: run it on a kernel with CONFIG_MPTCP"
    );
}

/// Runs `ip` in the namespace of this thread; what it prints.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip(8) of iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
