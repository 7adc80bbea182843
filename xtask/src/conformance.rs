//! The kernel's own MPTCP tests, twice: with the tools that they bring, then with this project's code in their place. Both
//! have to come out alike.
use std::{
    ffi::OsString,
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build, paths, process,
    run::require_root,
    setup::{self, ensure, kernels, selftests},
    vm::{self, Guest},
};

/// What is run when nothing is named: quick ones. `-i` is for `ip mptcp` in place of `pm_nl_ctl`.
pub const SCRIPTS: [&str; 4] = ["pm_netlink.sh", "pm_netlink.sh -i", "userspace_pm.sh", "diag.sh"];

/// For one script under emulation.
const LIMIT: Duration = Duration::from_secs(3600);

/// Runs the scripts and prints a table; fails when one comes out otherwise with our code.
pub fn run(series: Option<&str>, scripts: &[String]) -> Result<()> {
    require_root("the kernel's tests")?;
    ensure(setup::CONFORMANCE)?;
    build::all(false)?;
    process::run(process::cargo().args(["build", "--package", "tests", "--bin", "stand-in"]))?;
    let kernel = series.map(|series| vm::prepare().and_then(|()| kernels::get(series))).transpose()?;
    let [original, ours] = [Tools::Original, Tools::Ours].map(Bench::new);
    let (original, ours) = (original?, ours?);
    let mut different = Vec::new();
    for script in scripts {
        let [before, now] = [&original, &ours].map(|bench| bench.run(script, kernel.as_ref()));
        let (before, now) = (before?, now?);
        println!("{script}: pass/skip/fail {before} with the kernel's tools, {now} with ours");
        if before != now {
            different.push(format!("{script}: {}", now.difference(&before)));
        }
    }
    if !different.is_empty() {
        bail!("it does not come out alike:\n{}", different.join("\n"));
    }
    Ok(())
}

/// Whose tools are called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tools {
    Original,
    Ours,
}

/// A copy of the tests, with the tools that they are to call.
struct Bench {
    dir: PathBuf,
    /// Comes first in PATH.
    bin: PathBuf,
}

impl Bench {
    fn new(tools: Tools) -> Result<Self> {
        let name = if tools == Tools::Ours { "ours" } else { "original" };
        let root = paths::target().join("conformance").join(name);
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("removing the old {}", root.display()))?;
        }
        let bin = root.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
        let from = selftests::path()?;
        let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
        copy(&from, &root, &["kselftest"])?;
        fs::create_dir_all(root.join("net"))?;
        copy(&from.join("net"), &root.join("net"), &["lib", "lib.sh", "mptcp"])?;
        let (dir, bin) = (root.join("net/mptcp"), root.join("bin"));
        link(&selftests::tool("ss")?, &bin.join("ss"))?;
        let stand_in = paths::target().canonicalize()?.join("debug/stand-in");
        match tools {
            Tools::Original => link(&selftests::tool("ip")?, &bin.join("ip"))?,
            Tools::Ours => {
                link(&stand_in, &bin.join("ip"))?;
                fs::remove_file(dir.join("pm_nl_ctl")).context("removing the original pm_nl_ctl")?;
                link(&stand_in, &dir.join("pm_nl_ctl"))?;
            }
        }
        Ok(Self { dir, bin })
    }

    /// Runs one script, which may have arguments.
    fn run(&self, script: &str, kernel: Option<&kernels::Kernel>) -> Result<Counts> {
        let command = format!(
            "cd '{}' && PATH='{}':/usr/sbin:/sbin:$PATH REAL_IP='{}' NO_COLOR=1 ./{script} 2>&1",
            self.dir.display(),
            self.bin.display(),
            selftests::tool("ip")?.display()
        );
        let output = match kernel {
            Some(kernel) => {
                let command: [OsString; 3] = ["bash".into(), "-c".into(), command.into()];
                Guest { kernel, command: &command, limit: LIMIT, output: Stdio::piped() }.run()?.output
            }
            None => {
                let out = process::attempt(Command::new("bash").args(["-c", &command]))?;
                String::from_utf8_lossy(&out.stdout).into_owned()
            }
        };
        let log = self.bin.with_file_name(format!("{}.log", script.replace(' ', "")));
        fs::write(&log, &output).with_context(|| format!("writing {}", log.display()))?;
        let counts = Counts::of(&output);
        if counts.0.is_empty() {
            bail!("{script} tells no result, see {}:\n{output}", log.display());
        }
        Ok(counts)
    }
}

fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("--archive").args(names.iter().map(|name| from.join(name))).arg(to);
    process::output(&mut copy).map(drop)
}

fn link(to: &Path, name: &Path) -> Result<()> {
    symlink(to, name).with_context(|| format!("linking {} to {}", name.display(), to.display()))
}

/// What became of one test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Pass,
    Skip,
    Fail,
}

/// What became of each test, by its name.
#[derive(PartialEq, Eq, Debug)]
struct Counts(Vec<(String, Verdict)>);

impl Counts {
    /// Reads the Test Anything Protocol, as the scripts write it at their end.
    fn of(output: &str) -> Self {
        Self(output.lines().filter_map(verdict).collect())
    }

    fn difference(&self, before: &Self) -> String {
        let of = |name: &str, counts: &Self| {
            counts.0.iter().find(|(known, _)| known == name).map(|(_, verdict)| *verdict)
        };
        let names = self.0.iter().chain(before.0.iter().filter(|(name, _)| of(name, self).is_none()));
        let pairs = names.map(|(name, _)| (name, of(name, before), of(name, self)));
        let changed = pairs.filter(|(_, before, now)| before != now);
        let told = changed.map(|(name, before, now)| format!("{name}: {before:?}, now {now:?}"));
        told.collect::<Vec<_>>().join("\n  ")
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wanted| self.0.iter().filter(|(_, verdict)| *verdict == wanted).count();
        write!(f, "{}/{}/{}", count(Verdict::Pass), count(Verdict::Skip), count(Verdict::Fail))
    }
}

/// A line such as `ok 3 - pm_netlink: duplicate addr # time=6ms`.
fn verdict(line: &str) -> Option<(String, Verdict)> {
    let failed = line.strip_prefix("not ok ");
    let rest = failed.or_else(|| line.strip_prefix("ok "))?;
    let (_, named) = rest.split_once(" - ")?;
    let (name, remark) = named.split_once(" #").unwrap_or((named, ""));
    let verdict = match failed {
        Some(_) => Verdict::Fail,
        None if remark.trim_start().starts_with("SKIP") => Verdict::Skip,
        None => Verdict::Pass,
    };
    Some((name.to_owned(), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_and_compared_by_name() {
        let before = Counts::of(
            "01 duplicate addr [ OK ]\n\nTAP version 13\n1..3\nok 1 - pm: one # time=6ms\nok 2 - pm: two # SKIP time=1ms\nnot ok 3 - pm: three # time=1ms\n",
        );
        assert_eq!(before.to_string(), "1/1/1");
        let now = Counts::of("ok 1 - pm: one # time=9ms\nok 2 - pm: two # time=1ms\n");
        assert_eq!(
            now.difference(&before),
            "pm: two: Some(Skip), now Some(Pass)\n  pm: three: Some(Fail), now None"
        );
        assert_eq!(Counts::of("ok 1 - pm: one # time=6ms"), Counts::of("ok 1 - pm: one # time=7ms"));
    }
}
