//! Debian's kernels, unpacked into the cache, never installed: one of each series that people run.
use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{apt::Apt, emulator};
use crate::{paths, process};

/// The series that everything is tried on: Debian 12, Debian 13, two that Debian 13 has as backports, the last of them
/// the newest there is.
pub const SERIES: [&str; 4] = ["6.1", "6.12", "6.18", "7"];

/// The suites that have them.
const SUITES: [&str; 3] = ["bookworm", "trixie", "trixie-backports"];

/// Debian's smallest configuration of a kernel for virtual machines.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel in the cache, ready to be booted.
pub struct Kernel {
    /// What it calls itself: `uname -r`.
    pub release: String,
    /// The file to be booted.
    pub image: PathBuf,
    /// The folder whose `lib/modules/RELEASE` has its modules.
    pub base: PathBuf,
}

impl Kernel {
    /// Its modules, with the lists that modprobe needs.
    pub fn modules(&self) -> PathBuf {
        self.base.join("lib/modules").join(&self.release)
    }

    /// What it is called in tables: its release without the flavour.
    pub fn name(&self) -> &str {
        self.release.split(['+']).next().unwrap_or_default().trim_end_matches(FLAVOUR)
    }
}

/// The kernel of a series (`6.12`, `7`); the newest on offer when there is none in the cache yet. One that is there stays
/// the same until somebody removes its folder.
pub fn get(series: &str) -> Result<Kernel> {
    let root = folder(series)?;
    if !root.is_dir() {
        download(series, &root).with_context(|| format!("bringing a kernel of the series {series}"))?;
    }
    let kernel = find(&root)?;
    if !kernel.modules().join("modules.dep").is_file() {
        process::output(emulator::kmod("depmod")?.arg("-b").arg(&kernel.base).arg(&kernel.release))?;
    }
    Ok(kernel)
}

fn folder(series: &str) -> Result<PathBuf> {
    let is_series = !series.is_empty() && series.chars().all(|c| c.is_ascii_digit() || c == '.');
    if !is_series {
        bail!("{series} is no series of kernels: name one like 6.12 or 7");
    }
    Ok(paths::cache()?.join("kernels").join(series))
}

fn download(series: &str, into: &Path) -> Result<()> {
    let apt = Apt::open(&SUITES)?;
    let releases = apt.names(&format!("{IMAGE}{series}"))?;
    let Some(release) = newest(releases.iter().filter_map(|name| release(name, series))) else {
        bail!("no suite of {} offers one", SUITES.join(", "));
    };
    let image = format!("{IMAGE}{release}");
    // In newer ones the image, the modules and what belongs to both are packages of their own.
    let parts = apt.dependencies(&image)?.into_iter().filter(|name| name.ends_with(release));
    let packages: Vec<String> = parts.chain([image.clone()]).collect();
    println!("kernels: unpacking {} into {}", packages.join(", "), into.display());
    fs::create_dir_all(into.parent().context("the folder has no parent")?)?;
    // Of a name with a dot in it, what follows would count as its ending.
    let whole = into.with_file_name("new");
    apt.unpack(&packages, &whole)?;
    fs::rename(&whole, into).with_context(|| format!("moving it to {}", into.display()))
}

const IMAGE: &str = "linux-image-";

/// The release of a package with an image of this series, such as `6.12.107+deb13-cloud-amd64`.
fn release<'a>(package: &'a str, series: &str) -> Option<&'a str> {
    let release = package.strip_prefix(IMAGE)?;
    let rest = release.strip_prefix(series)?;
    (rest.starts_with(['.', '-', '+']) && rest.ends_with(FLAVOUR)).then_some(release)
}

fn newest<'a>(releases: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    releases.max_by(|one, other| by_numbers(one, other))
}

/// Compares the numbers in two versions, one after the other.
fn by_numbers(one: &str, other: &str) -> Ordering {
    fn numbers(version: &str) -> Vec<u32> {
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    }
    numbers(one).cmp(&numbers(other))
}

/// The one kernel in a folder, wherever its packages have put it.
fn find(root: &Path) -> Result<Kernel> {
    for base in [root.join("usr"), root.to_owned()] {
        for entry in fs::read_dir(base.join("lib/modules")).into_iter().flatten().flatten() {
            let release = entry.file_name().to_string_lossy().into_owned();
            let images = [entry.path().join("vmlinuz"), root.join(format!("boot/vmlinuz-{release}"))];
            let image = images.into_iter().find(|image| image.is_file());
            if let Some(image) = image.filter(|_| entry.path().join("kernel").is_dir()) {
                return Ok(Kernel { release, image, base });
            }
        }
    }
    bail!("there is no kernel with modules in {}: remove that folder and try again", root.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_of_the_series_count() {
        let of = |package| release(package, "6.1");
        assert_eq!(of("linux-image-6.1.0-50-cloud-amd64"), Some("6.1.0-50-cloud-amd64"));
        assert_eq!(of("linux-image-6.12.107+deb13-cloud-amd64"), None);
        assert_eq!(of("linux-image-6.1.0-50-cloud-amd64-dbg"), None);
        assert_eq!(of("linux-image-6.1.0-50-amd64"), None);
        assert_eq!(release("linux-image-7.3.4+deb13-cloud-amd64", "7"), Some("7.3.4+deb13-cloud-amd64"));
    }

    #[test]
    fn the_newest_is_not_the_last_in_the_alphabet() {
        let releases =
            ["6.12.95+deb12-cloud-amd64", "6.12.107+deb13-cloud-amd64", "6.12.9+deb13-cloud-amd64"];
        assert_eq!(newest(releases.into_iter()), Some("6.12.107+deb13-cloud-amd64"));
    }

    #[test]
    fn a_series_is_a_number() {
        assert!(folder("6.12").is_ok());
        assert!(folder("../..").is_err() && folder("").is_err() && folder("6.12-rc1").is_err());
    }

    #[test]
    fn a_kernel_is_found_where_either_generation_of_packages_has_it() {
        for (modules, image) in
            [("lib/modules/1-x", "boot/vmlinuz-1-x"), ("usr/lib/modules/1-x", "usr/lib/modules/1-x/vmlinuz")]
        {
            let root = tempfile::tempdir().unwrap();
            assert!(find(root.path()).is_err());
            fs::create_dir_all(root.path().join(modules).join("kernel")).unwrap();
            fs::create_dir_all(root.path().join("boot")).unwrap();
            fs::write(root.path().join(image), "").unwrap();
            let kernel = find(root.path()).unwrap();
            assert_eq!(kernel.release, "1-x");
            assert_eq!(kernel.modules(), root.path().join(modules));
        }
    }
}
