//! Runs the fuzz targets of `fuzz/` with LLVM's fuzzer, on the stable compiler: coverage as `cargo fuzz` has it, but without a
//! sanitizer, which only a nightly one offers and which safe code hardly needs. `cargo fuzz run TARGET` works as well.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    build, paths, process,
    setup::{self, ensure},
};

/// What makes the compiler count which edges are taken, and remember what was compared with what.
const COVERAGE: &str = "--cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest input: a dump's datagram, or a configuration, is not longer than that.
const LONGEST: usize = 32 << 10;

/// Fuzzes one target, or each for as long; ends with the first input that makes one panic, hang or grow.
pub fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    ensure(setup::BUILD)?;
    build::objects()?;
    let all = targets()?;
    let chosen: Vec<&str> = match target {
        None => all.iter().map(String::as_str).collect(),
        Some(name) if all.iter().any(|known| known == name) => vec![name],
        Some(name) => bail!("there is no fuzz target {name}: there are {}", all.join(", ")),
    };
    let host = host()?;
    let out = paths::target().join("fuzz");
    for name in &chosen {
        let mut cargo = process::cargo();
        // With a target named, what runs while building is built without coverage.
        cargo.args([
            "build",
            "--quiet",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target",
            &host,
            "--bin",
            name,
        ]);
        process::run(cargo.env("CARGO_TARGET_DIR", &out).env("RUSTFLAGS", COVERAGE))?;
    }
    let programs = out.join(&host).join("debug");
    chosen.iter().try_for_each(|name| fuzz(name, &programs.join(name), &out, seconds))
}

/// What is new goes below `target/`; what deserves to be kept is copied into `fuzz/corpus` by hand.
fn fuzz(name: &str, program: &Path, out: &Path, seconds: u64) -> Result<()> {
    let (found, crashes) = (out.join("corpus").join(name), out.join("artifacts").join(name));
    for folder in [&found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    println!("fuzz: {name} for {seconds} s");
    let mut fuzzer = Command::new(program);
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

/// What the compiler calls this machine.
fn host() -> Result<String> {
    let told = process::output(Command::new("rustc").args(["--version", "--verbose"]))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("asking rustc for the name of this machine")
}
