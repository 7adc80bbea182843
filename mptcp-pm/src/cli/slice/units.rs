//! systemd's services that are put into slices, by drop-in files of our own (systemd.unit(5)).
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::core::service::Service;

/// Where owners of machines put their files.
const OWN: &str = "etc/systemd/system";

/// Where systemd finds services (systemd.unit(5)), and `lib` where that is not a part of `usr`.
const PLACES: [&str; 9] = [
    OWN,
    "run/systemd/system",
    "run/systemd/generator",
    "run/systemd/generator.early",
    "run/systemd/generator.late",
    "run/systemd/transient",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Our file in the folder of a service's drop-ins.
const FILE: &str = "90-mptcp-pm.conf";

/// The files of one system.
pub(super) struct Units {
    root: PathBuf,
}

/// A service that was put into a slice.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Placed {
    /// Its name.
    pub unit: String,
    /// The service type of its connections.
    pub service: Service,
}

impl Units {
    /// Those of the system below a folder, or of this one.
    pub fn below(root: Option<&Path>) -> Self {
        Self { root: root.unwrap_or(Path::new("/")).to_owned() }
    }

    /// Puts a service into a slice.
    ///
    /// # Errors
    /// When there is no such service, or the file cannot be written.
    pub fn put(&self, unit: &str, service: Service) -> Result<()> {
        if !self.exists(unit) {
            bail!("systemd has no {unit}: see `systemctl list-unit-files --type=service`");
        }
        let file = self.file(unit);
        let folder = file.parent().unwrap_or(Path::new("/"));
        let refused = || format!("cannot write {}: run it as root, or with sudo", file.display());
        fs::create_dir_all(folder).with_context(refused)?;
        // Whole or not at all: systemd may be reading.
        let part = file.with_extension("part");
        fs::write(&part, text(service)).and_then(|()| fs::rename(&part, &file)).with_context(refused)
    }

    /// Takes a service out of its slice.
    ///
    /// # Errors
    /// When we have not put it into one, or the file cannot be removed.
    pub fn remove(&self, unit: &str) -> Result<()> {
        let file = self.file(unit);
        match fs::remove_file(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("{unit} was not put into a slice: see `mptcp-pm slice list`")
            }
            removed => removed.with_context(|| format!("cannot remove {}", file.display()))?,
        }
        // Others may have files there too.
        if let Some(folder) = file.parent() {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    /// All that were put into slices, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn all(&self) -> Result<Vec<Placed>> {
        let folder = self.root.join(OWN);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
        };
        let mut placed: Vec<_> = entries.flatten().filter_map(|entry| placed(&entry.path())).collect();
        placed.sort_by(|one, other| one.unit.cmp(&other.unit));
        Ok(placed)
    }

    fn file(&self, unit: &str) -> PathBuf {
        self.root.join(OWN).join(format!("{unit}.d")).join(FILE)
    }

    /// Whether there is a file for it, or for the template that it is made from.
    fn exists(&self, unit: &str) -> bool {
        let template = unit.split_once('@').map(|(name, _)| format!("{name}@.service"));
        let names = [unit.to_owned()].into_iter().chain(template);
        let files = names.flat_map(|name| PLACES.map(|place| self.root.join(place).join(&name)));
        files.into_iter().any(|file| file.symlink_metadata().is_ok())
    }
}

fn text(service: Service) -> String {
    format!(
        "# Made by `mptcp-pm slice unit`; `mptcp-pm slice remove` takes it away.\n[Service]\nSlice={}\n",
        service.slice()
    )
}

/// The service that a folder of drop-ins is for, if our file is there.
fn placed(folder: &Path) -> Option<Placed> {
    let unit = folder.file_name()?.to_str()?.strip_suffix(".d")?.to_owned();
    let text = fs::read_to_string(folder.join(FILE)).ok()?;
    let slice = text.lines().find_map(|line| line.strip_prefix("Slice="))?;
    Some(Placed { unit, service: Service::of_slice(slice)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_put_into_slices_and_taken_out_without_a_trace() {
        let root = tempfile::tempdir().expect("a folder");
        let vendor = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&vendor).expect("made");
        for name in ["ssh.service", "backup@.service"] {
            fs::write(vendor.join(name), "[Service]\nExecStart=/bin/true\n").expect("written");
        }
        let units = Units::below(Some(root.path()));
        assert_eq!(units.all().expect("no folder yet"), []);
        units.put("ssh.service", Service::Single).expect("put");
        units.put("ssh.service", Service::Interactive).expect("put elsewhere");
        units.put("backup@home.service", Service::Aggregate).expect("made from a template");
        let placed = |unit: &str, service| Placed { unit: unit.to_owned(), service };
        let expected =
            [placed("backup@home.service", Service::Aggregate), placed("ssh.service", Service::Interactive)];
        assert_eq!(units.all().expect("lists"), expected);
        let file = root.path().join("etc/systemd/system/ssh.service.d/90-mptcp-pm.conf");
        let text = fs::read_to_string(&file).expect("is there");
        assert!(text.ends_with("\n[Service]\nSlice=mptcp-interactive.slice\n"), "{text}");
        fs::write(file.with_file_name("10-owner.conf"), "").expect("somebody else's");
        units.remove("ssh.service").expect("removed");
        units.remove("backup@home.service").expect("removed");
        let left = |name: &str| root.path().join("etc/systemd/system").join(name).exists();
        assert!(left("ssh.service.d/10-owner.conf") && !left("backup@home.service.d"));
        assert!(!file.exists());
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_remedy() {
        let root = tempfile::tempdir().expect("a folder");
        let units = Units::below(Some(root.path()));
        let error = units.put("no.service", Service::Single).expect_err("is not there").to_string();
        assert!(error.contains("no.service") && error.contains("systemctl list-unit-files"), "{error}");
        let error = units.remove("no.service").expect_err("was never put").to_string();
        assert!(error.contains("no.service") && error.contains("slice list"), "{error}");
    }
}
