//! A systemd unit without systemd: its settings are read from the file and done to this process as systemd would, so that
//! what runs here runs there.
//!
//! Not done, because it takes systemd or changes nothing that could be seen: [`ELSEWHERE`]. A setting that is in neither
//! list is an error, so that none is added to the unit untried.
mod calls;
mod identity;
mod mounts;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

pub use identity::UID;

/// The settings of `[Service]` that are not done here: what systemd does itself (types, commands, restarts, folders, which
/// the caller makes), and hardening that takes namespaces of other kinds or concerns what the call filter forbids anyway.
pub const ELSEWHERE: [&str; 23] = [
    "Type",
    "ExecStart",
    "ExecReload",
    "ExecStopPost",
    "KillSignal",
    "RestartKillSignal",
    "Restart",
    "RestartSec",
    "TimeoutStopSec",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "RemoveIPC",
    "PrivateIPC",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "LockPersonality",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
];

/// Those that are.
const HERE: [&str; 17] = [
    "User",
    "Group",
    "UMask",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "NoNewPrivileges",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectControlGroups",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "MemoryDenyWriteExecute",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "SystemCallFilter",
];

/// The section `[Service]` of a unit; of a setting that is there several times, all values.
#[derive(Clone, Debug)]
pub struct Unit(BTreeMap<String, Vec<String>>);

impl Unit {
    /// Reads a unit's file.
    ///
    /// # Errors
    /// When it cannot be read, or has a setting that is not known here.
    pub fn load(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let (_, service) = text.split_once("[Service]\n").context("no section [Service]")?;
        let service = service.lines().take_while(|line| !line.starts_with('['));
        for line in service.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            ensure!(!line.ends_with('\\'), "a continued line is not understood here: {line}");
            let (name, value) = line.split_once('=').with_context(|| format!("no setting: {line}"))?;
            if !HERE.contains(&name) && !ELSEWHERE.contains(&name) {
                bail!("{name} is not known here: add what it does, or a reason why not");
            }
            settings.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        Ok(Self(settings))
    }

    /// Does to this process what the unit says, but for capabilities that are taken away for a trial. What is executed then
    /// is as a service of the unit.
    ///
    /// # Errors
    /// With what the system refuses, or what is not understood.
    pub fn enter(&self, without: &[String]) -> Result<()> {
        // Asks systemd-analyze for names, which cannot be done any more when the filter is there.
        let filters = calls::filters(self)?;
        mounts::enter(self)?;
        identity::enter(self, without)?;
        calls::enter(&filters)
    }

    /// The values of a setting, one after the other.
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        debug_assert!(HERE.contains(&name), "{name} is not said to be done here");
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The words of all values of a setting.
    fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all(name).flat_map(str::split_whitespace)
    }

    /// The only value of a setting.
    fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Whether a setting is switched on.
    fn is_on(&self, name: &str) -> bool {
        self.one(name) == Some("yes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_nobody_thought_of_is_refused() {
        let unit = Unit::parse(
            "[Unit]\nA=b\n[Service]\nUser=x\n# c\nReadOnlyPaths=/a /b\nReadOnlyPaths=/c\n[Install]\nD=e\n",
        );
        let unit = unit.expect("is right");
        assert_eq!(unit.one("User"), Some("x"));
        assert_eq!(unit.words("ReadOnlyPaths").collect::<Vec<_>>(), ["/a", "/b", "/c"]);
        let error = Unit::parse("[Service]\nPrivateUsers=yes\n").expect_err("is not known").to_string();
        assert!(error.starts_with("PrivateUsers is not known here"), "{error}");
    }
}
