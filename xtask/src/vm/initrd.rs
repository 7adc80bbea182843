//! The initial file system of a guest: busybox, a script, and the modules without which there is no other file system.
use std::{ffi::OsStr, fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    process,
    setup::{emulator, kernels::Kernel},
};

const INIT: &str = include_str!("init.sh");

/// What a guest needs to get at its root file system; some kernels have some of it built in.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];

/// The archive for a kernel.
pub fn build(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["bin", "modules", "proc", "sys", "dev", "lower", "upper", "new"] {
        archive.folder(dir);
    }
    let busybox = emulator::busybox()?;
    let bytes = fs::read(&busybox).with_context(|| format!("reading {}", busybox.display()))?;
    archive.program("bin/busybox", &bytes);
    archive.program("init", INIT.as_bytes());
    for (number, (name, module)) in modules(kernel)?.iter().enumerate() {
        archive.program(&format!("modules/{number:02}-{name}"), module);
    }
    Ok(archive.finish())
}

/// The modules and those that they depend on, in the order in which they have to be loaded.
fn modules(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut paths: Vec<String> = Vec::new();
    for module in MODULES {
        let mut show = emulator::kmod("modprobe")?;
        show.arg("-d").arg(&kernel.base).args(["-S", &kernel.release, "--show-depends", module]);
        // Lines of what is built in begin with `builtin`.
        let shown = process::output(&mut show)?;
        let files = shown.lines().filter_map(|line| line.strip_prefix("insmod "));
        for file in files.filter_map(|line| line.split_whitespace().next()) {
            if !paths.iter().any(|known| known == file) {
                paths.push(file.to_owned());
            }
        }
    }
    paths.iter().map(|path| unpacked(Path::new(path))).collect()
}

/// A module's name and content.
fn unpacked(file: &Path) -> Result<(String, Vec<u8>)> {
    let tool = match file.extension().and_then(OsStr::to_str) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => "cat",
    };
    let mut read = Command::new(tool);
    if tool != "cat" {
        read.args(["--decompress", "--stdout"]);
    }
    let read = process::attempt(read.arg(file))?;
    if !read.status.success() || read.stdout.is_empty() {
        anyhow::bail!("unpacking {} with {tool}: {}", file.display(), String::from_utf8_lossy(&read.stderr));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split(".ko").next().unwrap_or_default();
    Ok((format!("{name}.ko"), read.stdout))
}

/// An archive as the kernel unpacks it: cpio's format `newc` (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, content);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // Number, mode, user, group, links, time, size, device, device that it is, size of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_begins_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.folder("d");
        archive.program("d/five!", b"12345");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let header = &text[starts[1]..starts[2]];
        assert_eq!(&header[14..22], "000081ed", "a file that everybody may run");
        assert_eq!(&header[54..62], "00000005", "its size");
        assert_eq!(&header[94..102], "00000008", "the size of its name, with the zero at its end");
        assert!(header.contains("d/five!\0") && header.contains("12345"));
    }
}
