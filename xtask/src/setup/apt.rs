//! A private apt: the machine's mirrors and keys, lists and downloads of its own, nothing installed.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::sources::{self, Source};
use crate::{paths, process};

/// An apt whose lists and archives lie in the cache; the machine's own are neither read nor changed.
pub struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Derives the sources from the machine's own, adds suites, and brings the package lists.
    pub fn open(extra_suites: &[&str]) -> Result<Self> {
        if paths::command("apt-get").is_none() {
            bail!("this machine has no apt-get, and only Debian's packages are known here");
        }
        let apt = Self { home: paths::cache()?.join("apt") };
        apt.write_sources(&machine_sources(extra_suites)?)?;
        println!("apt: reading the lists of this machine's Debian mirror into {}", apt.home.display());
        // A mirror may lack one of the suites; what matters is whether the package is found afterwards.
        let out = process::attempt(apt.tool("apt-get").args(["--quiet", "update"]))?;
        if !out.status.success() {
            println!(
                "apt: not every list could be read:\n{}",
                String::from_utf8_lossy(&out.stderr).trim_end()
            );
        }
        Ok(apt)
    }

    /// The versions of a package on offer, newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let out = process::output(self.tool("apt-cache").args(["madison", package]))?;
        let column = |line: &str| line.split('|').nth(1).map(|version| version.trim().to_owned());
        Ok(out.lines().filter_map(column).collect())
    }

    /// The packages on offer whose names begin so.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let out = process::output(self.tool("apt-cache").args(["pkgnames", prefix]))?;
        Ok(out.lines().map(str::to_owned).collect())
    }

    /// The packages that a package depends on and that are on offer.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let out = process::output(self.tool("apt-cache").args(["depends", "--important", package]))?;
        let name = |line: &str| line.trim().strip_prefix("Depends: ").map(str::to_owned);
        // What nobody offers stands in angle brackets.
        Ok(out.lines().filter_map(name).filter(|name| !name.starts_with('<')).collect())
    }

    /// These packages, and those of their dependencies that this machine lacks.
    pub fn with_missing_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut simulate = self.tool("apt-get");
        simulate.args(["--simulate", "--no-install-recommends", "install"]).args(packages);
        let mut all: BTreeSet<String> = installed_by(&process::output(&mut simulate)?);
        all.extend(packages.iter().map(|&name| name.to_owned()));
        Ok(all.into_iter().collect())
    }

    /// Downloads packages (`NAME` or `NAME=VERSION`) and unpacks them below a folder, which appears whole or not at all.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let debs = empty_folder(&self.home.join("debs"))?;
        let unpacked = empty_folder(&into.with_extension("part"))?;
        process::output(self.tool("apt-get").arg("download").args(packages).current_dir(&debs))?;
        for deb in fs::read_dir(&debs).with_context(|| format!("listing {}", debs.display()))? {
            process::output(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&unpacked))?;
        }
        fs::remove_dir_all(&debs).with_context(|| format!("removing {}", debs.display()))?;
        fs::rename(&unpacked, into)
            .with_context(|| format!("moving {} to {}", unpacked.display(), into.display()))
    }

    fn write_sources(&self, sources: &[Source]) -> Result<()> {
        let dir = empty_folder(&self.home.join("sources"))?;
        for (number, source) in sources.iter().enumerate() {
            let file = dir.join(format!("{number}.{}", source.format));
            fs::write(&file, &source.text).with_context(|| format!("writing {}", file.display()))?;
        }
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            let dir = self.home.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        Ok(())
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C");
        let folder = |option: &str, dir: &str| format!("{option}={}", self.home.join(dir).display());
        let options = [
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            folder("Dir::Etc::SourceParts", "sources"),
            folder("Dir::State", "state"),
            folder("Dir::Cache", "cache"),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            // As root apt downloads as another user, who may not enter root's cache.
            "APT::Sandbox::User=root".to_owned(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// The source of one suite of Debian, on this machine's mirror, for a system of its own.
pub fn source_of(suite: &str) -> Result<Source> {
    let mut source = machine_sources(&[])?.swap_remove(0);
    source.text = source.text.replace(&format!(" {}", own_suite()?), &format!(" {suite}"));
    Ok(source)
}

/// The source of one suite of Ubuntu, on the same mirror where that has it.
pub fn ubuntu_source_of(suite: &str) -> Result<Source> {
    let keys = paths::cache()?.join("ubuntu-keys");
    let keyring = keys.join("usr/share/keyrings/ubuntu-archive-keyring.gpg");
    if !keyring.is_file() {
        // The first Debian that has them is 13.
        Apt::open(&["trixie"])?
            .unpack(&["ubuntu-keyring".to_owned()], &keys)
            .context("bringing the keys of Ubuntu's archive")?;
    }
    let debian = machine_sources(&[])?.swap_remove(0);
    debian.of_ubuntu(suite, &keyring).context("this machine's mirror is for Debian alone")
}

/// The main-archive sources of this machine, with suites added to each.
fn machine_sources(extra_suites: &[&str]) -> Result<Vec<Source>> {
    let own_suite = own_suite()?;
    let mut found = Vec::new();
    for file in source_files() {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        found.extend(match file.extension().and_then(|ending| ending.to_str()) {
            Some("sources") => sources::from_deb822(&text, &own_suite, extra_suites),
            _ => sources::from_list(&text, &own_suite, extra_suites),
        });
    }
    if found.is_empty() {
        bail!("no file under /etc/apt names Debian's main archive ({own_suite} main)");
    }
    Ok(found)
}

fn source_files() -> Vec<PathBuf> {
    let parts =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_source =
        |file: &PathBuf| file.extension().is_some_and(|ending| ending == "list" || ending == "sources");
    let mut files: Vec<_> = parts.filter(is_source).collect();
    files.push(PathBuf::from("/etc/apt/sources.list"));
    files.retain(|file| file.is_file());
    files.sort();
    files
}

/// The suite that this machine has its packages from.
pub fn own_suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release has no VERSION_CODENAME")?.trim_matches('"').to_owned())
}

/// The packages that a simulated installation would install: its lines `Inst NAME (VERSION …)`.
fn installed_by(simulation: &str) -> BTreeSet<String> {
    let name = |line: &str| line.strip_prefix("Inst ")?.split_whitespace().next().map(str::to_owned);
    simulation.lines().filter_map(name).collect()
}

fn empty_folder(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("emptying {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_names_what_it_would_install() {
        let text =
            "NOTE: This is only a simulation!\nInst liba (1 Debian:12 [amd64])\nInst b (2)\nConf liba (1)\n";
        assert_eq!(installed_by(text), BTreeSet::from(["b".to_owned(), "liba".to_owned()]));
    }
}
