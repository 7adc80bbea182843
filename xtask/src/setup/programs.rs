//! Servers that tests reach with Debian's own clients: their installation would start services.
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::unpacked::{self, Script, Which};

/// The programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 2] = [("nginx", "nginx"), ("sshd", "openssh-server")];

/// The variables by which tests find what starts them.
pub fn variables() -> Result<[(&'static str, PathBuf); 2]> {
    Ok([("NGINX", unpacked::script("nginx")?), ("SSHD", unpacked::script("sshd")?)])
}

pub(super) fn is_done() -> Result<bool> {
    Ok(variables()?.iter().all(|(_, file)| file.is_file()))
}

pub(super) fn bring() -> Result<()> {
    let packages = PROGRAMS.map(|(_, package)| package);
    let root = unpacked::unpack("programs", &packages, Which::WithDependencies)?;
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = ["usr/lib", "lib"].map(|dir| root.join(dir).join(&architecture));
    PROGRAMS.iter().try_for_each(|&(name, _)| {
        let program = root.join("usr/sbin").join(name);
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
