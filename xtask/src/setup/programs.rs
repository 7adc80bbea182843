//! Debian's programs that tests need and whose installation would start services or manage interfaces: servers that its own
//! clients reach, and ifupdown.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::unpacked::{self, Script, Which};

/// The programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 4] =
    [("nginx", "nginx"), ("sshd", "openssh-server"), ("ifup", "ifupdown"), ("ifdown", "ifupdown")];

/// The variables by which tests find what starts them.
pub fn variables() -> Result<[(&'static str, PathBuf); 4]> {
    let variable = |name, program| unpacked::script(program).map(|script| (name, script));
    Ok([
        variable("NGINX", "nginx")?,
        variable("SSHD", "sshd")?,
        variable("IFUP", "ifup")?,
        variable("IFDOWN", "ifdown")?,
    ])
}

pub(super) fn is_done() -> Result<bool> {
    Ok(variables()?.iter().all(|(_, file)| file.is_file()))
}

pub(super) fn bring() -> Result<()> {
    let mut packages = PROGRAMS.map(|(_, package)| package).to_vec();
    packages.dedup();
    let root = unpacked::unpack("programs", &packages, Which::WithDependencies)?;
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = ["usr/lib", "lib"].map(|dir| root.join(dir).join(&architecture));
    PROGRAMS.iter().try_for_each(|&(name, _)| {
        // Before Debian 13 some lie outside of /usr.
        let places = ["usr/sbin", "sbin"].map(|dir| root.join(dir).join(name));
        let program = places.into_iter().find(|file| file.is_file());
        let program = program.with_context(|| format!("there is no {name} in {}", root.display()))?;
        let arguments = if name == "sshd" { parts_of_sshd(&root) } else { Vec::new() };
        Script { name, program, libraries: &libraries, arguments }.make()
    })
}

/// Newer ones (OpenSSH 9.8, 10.0) have parts that are programs of their own, which they look for where they are installed.
fn parts_of_sshd(root: &Path) -> Vec<String> {
    let parts = [("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")];
    let parts = parts.map(|(option, name)| (option, root.join("usr/lib/openssh").join(name)));
    let are_there = parts.into_iter().filter(|(_, file)| file.is_file());
    are_there.flat_map(|(option, file)| ["-o".to_owned(), format!("{option}={}", file.display())]).collect()
}
