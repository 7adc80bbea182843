//! Where the running kernel keeps the members of its structures.
use std::fs;

use super::{Error, btf::Btf};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types: some megabytes, to be dropped once the objects are loaded.
pub struct Types(Btf);

impl Types {
    /// Reads them.
    ///
    /// # Errors
    /// `Error::Read` or `Error::Btf`, when the kernel shows none.
    pub fn of_this_kernel() -> Result<Self, Error> {
        let bytes = fs::read(VMLINUX).map_err(|source| Error::Read { file: VMLINUX.into(), source })?;
        Btf::parse(bytes).map(Self).ok_or(Error::Btf { file: VMLINUX })
    }

    /// The offset of a member in bytes from the start of its structure, for members that begin at a byte.
    ///
    /// # Errors
    /// `Error::NoField`, when this kernel has none.
    pub fn byte(&self, structure: &'static str, field: &'static str) -> Result<u32, Error> {
        Ok(self.bit(structure, field)? / 8)
    }

    /// The offset of a member in bits from the start of its structure.
    ///
    /// # Errors
    /// `Error::NoField`, when this kernel has none.
    pub fn bit(&self, structure: &'static str, field: &'static str) -> Result<u32, Error> {
        self.0.bit(structure, field).ok_or(Error::NoField { structure, field })
    }
}
