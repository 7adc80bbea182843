//! Runs the fuzz targets of `fuzz/` with LLVM's fuzzer, on the stable compiler: what is this workspace's own is built with
//! coverage, the libraries below it as for everything else; without a sanitizer, which only a nightly compiler offers and
//! which safe code hardly needs.
use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::Mutex,
    thread::{self, available_parallelism},
};

use anyhow::{Context, Result, bail};

use crate::{build, paths, process};

/// The longest input: a dump's datagram, or a configuration, is not longer than that.
const LONGEST: usize = 32 << 10;

/// Fuzzes one target, or each for as long; ends with the first input that makes one panic, hang or grow.
pub fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    // What is not built for the fuzzer is shared with this build.
    build::all(false)?;
    let all = targets()?;
    let chosen: Vec<&str> = match target {
        None => all.iter().map(String::as_str).collect(),
        Some(name) if all.iter().any(|known| known == name) => vec![name],
        Some(name) => bail!("there is no fuzz target {name}: there are {}", all.join(", ")),
    };
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", "fuzz", "--features", "fuzzer"]);
    cargo.args(chosen.iter().flat_map(|name| ["--bin", name]));
    // Cargo keeps apart what this has built.
    cargo.env("RUSTC_WORKSPACE_WRAPPER", folder().join("rustc.sh")).env("CARGO_INCREMENTAL", "0");
    process::run(&mut cargo)?;
    on_all_cores(&chosen, |name| fuzz(name, seconds))
}

/// As many at a time as there are cores. After one that fails none is begun.
fn on_all_cores(names: &[&str], fuzz: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    let waiting = Mutex::new(names.iter());
    let next = || waiting.lock().ok().and_then(|mut names| names.next().copied());
    let work = || {
        while let Some(name) = next() {
            if let Err(error) = fuzz(name) {
                while next().is_some() {}
                return Err(error);
            }
        }
        Ok(())
    };
    let cores = available_parallelism().context("counting the cores")?.get();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

/// What is new goes below `target/`; what deserves to be kept is copied into `fuzz/corpus` by hand.
fn fuzz(name: &str, seconds: u64) -> Result<()> {
    let out = paths::target().join("fuzz");
    let (found, crashes) = (out.join("corpus").join(name), out.join("artifacts").join(name));
    for folder in [&found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    println!("fuzz: {name} for {seconds} s");
    let mut fuzzer = Command::new(paths::target().join("debug").join(name));
    fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
    fuzzer.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
    fuzzer
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .arg(&found)
        .arg(folder().join("corpus").join(name));
    process::run(&mut fuzzer).with_context(|| {
        format!("fuzzing {name}: mend what it tells, then keep the input as a file of fuzz/corpus/{name}")
    })
}

fn folder() -> PathBuf {
    paths::workspace().join("fuzz")
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let folder = folder().join("fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        names.extend(file?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
