//! Builds the eBPF objects, then the daemon that carries them; clippy over both.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use crate::{
    paths, process,
    setup::{self, bpf_linker, ensure},
};

const TARGET: &str = "bpfel-unknown-none";

/// Leaves the daemon, its eBPF objects inside it, at `target/{debug,release}/mptcp-pm`, and beside it the library that
/// `mptcp-pm exec` loads into programs.
pub fn all(release: bool) -> Result<()> {
    ensure(setup::BUILD)?;
    objects()?;
    let profile = if release { ["--profile", "release"] } else { ["--profile", "dev"] };
    process::run(
        process::cargo().args(["build", "--package", "mptcp-pm", "--package", "mptcp-preload"]).args(profile),
    )
}

/// The same for the demonstration and the benchmarks: the daemon and the lab in one release build.
pub fn for_lab() -> Result<()> {
    ensure(setup::BUILD)?;
    objects()?;
    let packages = ["build", "--release", "--package", "mptcp-pm", "--package", "tests", "--bins"];
    process::run(process::cargo().args(packages))
}

/// The same for the tests, together with them: one build, in which every crate has the same features.
pub fn for_tests() -> Result<()> {
    ensure(setup::BUILD)?;
    objects()?;
    process::run(process::cargo().args(["build", "--all-targets"]))
}

/// The same; returns the test programs by name.
pub fn test_programs() -> Result<BTreeMap<String, PathBuf>> {
    for_tests()?;
    let messages =
        process::output(process::cargo().args(["build", "--all-targets", "--message-format=json"]))?;
    Ok(messages.lines().filter_map(test_program).collect())
}

/// The test that a line of cargo's messages tells of, if it does.
fn test_program(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test = message["target"]["kind"][0] == "test";
    let of = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    of(&message["target"]["name"]).zip(of(&message["executable"]).map(PathBuf::from)).filter(|_| is_test)
}

/// Clippy with warnings denied, on the host and for the BPF target.
pub fn lint() -> Result<()> {
    ensure(setup::BUILD)?;
    objects()?;
    process::run(process::cargo().args(["clippy", "--all-targets", "--", "--deny", "warnings"]))?;
    process::run(bpf_cargo("clippy")?.args(["--", "--deny", "warnings"]))
}

/// Builds the eBPF objects into `target/ebpf/`; a file that would not change is left alone, so that nothing is rebuilt
/// for its sake, and one that no longer belongs there is removed.
pub fn objects() -> Result<()> {
    process::run(&mut bpf_cargo("build")?)?;
    let dir = paths::objects();
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let names = object_names()?;
    for name in &names {
        let built = paths::target().join(TARGET).join("bpf").join(name);
        let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
        let lean = strip(&bytes).with_context(|| format!("stripping {}", built.display()))?;
        write_if_changed(&lean, &dir.join(name))?;
    }
    remove_others(&dir, &names)
}

fn bpf_cargo(command: &str) -> Result<Command> {
    let mut cargo = process::cargo();
    cargo
        .args([command, "--package", "mptcp-ebpf", "--bins", "--features", "objects", "--profile", "bpf"])
        .args(["--target", TARGET, "-Z", "build-std=core"])
        // The BPF target has no prebuilt `core`, and building one is an unstable option of the stable Cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Clink-arg=--btf")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", bpf_linker()?);
    Ok(cargo)
}

/// The binaries of `mptcp-ebpf`, one per object.
fn object_names() -> Result<BTreeSet<String>> {
    let file = paths::workspace().join("mptcp-ebpf/Cargo.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let names = binaries(&text);
    if names.is_empty() {
        bail!("{} declares no [[bin]]", file.display());
    }
    Ok(names)
}

fn binaries(manifest: &str) -> BTreeSet<String> {
    let tables = manifest.split("\n[").filter_map(|table| table.strip_prefix("[bin]]"));
    let name = |line: &str| Some(line.strip_prefix("name = ")?.trim().trim_matches('"').to_owned());
    tables.filter_map(|table| table.lines().find_map(name)).collect()
}

/// Leaves out the debug information, from which bpf-linker has made the BTF: it is most of the file, and the daemon would
/// have it in memory.
fn strip(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(elf)?;
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections among those of symbols.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut lean = Vec::new();
    builder.write(&mut lean)?;
    Ok(lean)
}

fn write_if_changed(new: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("writing {}", to.display()))
}

fn remove_others(dir: &Path, names: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
            fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_in_the_manifest() {
        let manifest = "[package]\nname = \"p\"\n\n[[bin]]\nname = \"one\"\npath = \"a.rs\"\n\n[[bin]]\npath = \"b.rs\"\nname = \"two\"\n";
        assert_eq!(binaries(manifest), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn an_equal_file_is_left_alone_and_a_foreign_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let [to, stale] = ["to", "stale"].map(|name| dir.path().join(name));
        fs::write(&stale, "object of a removed program").unwrap();
        write_if_changed(b"object", &to).unwrap();
        let written = fs::metadata(&to).unwrap().modified().unwrap();
        write_if_changed(b"object", &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), written);
        remove_others(dir.path(), &BTreeSet::from(["to".to_owned()])).unwrap();
        assert!(to.is_file() && !stale.exists());
    }
}
