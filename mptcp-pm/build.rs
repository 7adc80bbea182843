//! Embeds the eBPF objects that `cargo xtask build` leaves in `target/ebpf`; without them the daemon still builds.
use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../target/ebpf");
    // Cargo would run this script at each build if it watched a folder that does not exist.
    fs::create_dir_all(&dir)?;
    println!("cargo::rerun-if-changed={}", dir.display());
    let objects = objects(&dir)?;
    if objects.is_empty() {
        println!("cargo::warning=built without eBPF objects: use `cargo xtask build`");
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("objects.rs"), table(&objects))?;
    Ok(())
}

/// The objects' files, sorted, so that equal folders give equal code.
fn objects(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files =
        fs::read_dir(dir)?.map(|entry| entry?.path().canonicalize()).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// An array of each object's name and bytes, the latter aligned as an ELF file must be.
fn table(objects: &[PathBuf]) -> String {
    let entry = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default();
        format!("    ({name:?}, aya::include_bytes_aligned!({file:?})),\n")
    };
    let entries: String = objects.iter().map(entry).collect();
    format!("&[\n{entries}]\n")
}
