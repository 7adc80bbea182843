//! Runs what was built: the tests, the demonstration, the benchmarks.
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::{
    build, paths, process,
    setup::{self, ensure, mptcpd, network_manager, programs, prometheus},
};

/// The crate whose tests work on the running kernel, one at a time.
const KERNEL_TESTS: &str = "tests";

/// Those of them that are run a second time: what they ask for is the same whoever manages.
const AGAIN: [&str; 2] = ["events", "vpn"];

/// Who manages then.
const MANAGER: (&str, &str) = ("TEST_MANAGER", "daemon");

/// Builds, then runs all tests or those whose names contain a filter.
pub fn test(filters: &[String]) -> Result<()> {
    require_root("the tests")?;
    ensure(setup::TEST)?;
    build::for_tests()?;
    if process::attempt(process::cargo().args(["nextest", "--version"]))?.status.success() {
        // The documentation's examples first, so that the last lines are those of the tests.
        process::run(process::cargo().args(["test", "--quiet", "--doc", "--"]).args(filters))?;
        let [mut all, mut again] = [process::cargo(), process::cargo()];
        tell_programs(&mut all)?;
        all.args(["nextest", "run", "--no-fail-fast"]).args(filters);
        let chosen = AGAIN.map(|name| format!("binary({name})")).join("+");
        again.args(["nextest", "run", "--no-fail-fast", "--no-tests=pass", "-E", &chosen]).args(filters);
        let results = [process::run(&mut all), process::run(again.env(MANAGER.0, MANAGER.1))];
        return results.into_iter().collect();
    }
    let mut pure = process::cargo();
    pure.args(["test", "--no-fail-fast", "--workspace", "--exclude", KERNEL_TESTS, "--"]).args(filters);
    let mut kernel = process::cargo();
    tell_programs(&mut kernel)?;
    kernel
        .args(["test", "--no-fail-fast", "--package", KERNEL_TESTS, "--", "--test-threads=1"])
        .args(filters);
    let mut again = process::cargo();
    again.args(["test", "--no-fail-fast", "--package", KERNEL_TESTS]);
    again.args(AGAIN.iter().flat_map(|name| ["--test", name])).args(["--", "--test-threads=1"]).args(filters);
    let again = again.env(MANAGER.0, MANAGER.1);
    let results = [process::run(&mut pure), process::run(&mut kernel), process::run(again)];
    results.into_iter().collect()
}

/// Builds for release and shows the daemon at work.
pub fn demo(args: &[String]) -> Result<()> {
    require_root("the demonstration")?;
    ensure(setup::DEMO)?;
    build::for_lab()?;
    process::run(Command::new(paths::target().join("release/demo")).args(args))
}

/// Builds, for release or not, and runs one benchmark; it finds mptcpd in the variable `MPTCPD`.
pub fn bench(name: &str, release: bool, args: &[String]) -> Result<()> {
    require_root("the benchmarks")?;
    if !paths::workspace().join(format!("tests/benches/{name}.rs")).is_file() {
        bail!("there is no benchmark {name}: the folder tests/benches has those there are");
    }
    ensure(setup::BENCH)?;
    build::all(release)?;
    let mut cargo = process::cargo();
    cargo.env("MPTCPD", mptcpd::path()?);
    // The daemon's state file is in memory, as it is in /run; no disk is to be measured.
    cargo.env("TMPDIR", "/dev/shm");
    let profile = if release { "bench" } else { "dev" };
    cargo.args(["bench", "--profile", profile, "--package", "tests", "--bench", name, "--"]);
    process::run(cargo.args(args))
}

/// The tests find Prometheus and its tool in the variables `PROMETHEUS` and `PROMTOOL`, the servers in theirs, and the
/// folder with NetworkManager in `NETWORK_MANAGER`.
fn tell_programs(tests: &mut Command) -> Result<()> {
    tests.env("PROMETHEUS", prometheus::path()?).env("PROMTOOL", prometheus::promtool()?);
    tests.envs(programs::variables()?);
    tests.env("NETWORK_MANAGER", network_manager::path()?);
    Ok(())
}

/// Fails unless this process is root.
pub fn require_root(what: &str) -> Result<()> {
    if !geteuid().is_root() {
        bail!("{what} need root, for network namespaces and eBPF: become root and run this again");
    }
    Ok(())
}
