//! Where the running kernel keeps the members of its structures.
use std::fs;

use mptcp_common::fields::{self, Field};

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

    /// The types themselves.
    pub fn btf(&self) -> &Btf {
        &self.0
    }

    /// Where each field is, in bits from the start of its structure; [`fields::ABSENT`] for those that this kernel does
    /// not have, and their names.
    pub fn table(&self) -> ([u32; fields::COUNT], Vec<String>) {
        let mut table = [fields::ABSENT; fields::COUNT];
        let mut absent = Vec::new();
        for (place, field) in table.iter_mut().zip(Field::ALL) {
            let (structure, member) = field.name();
            match self.0.bit(structure, member) {
                Some(bits) => *place = bits,
                None => absent.push(format!("{structure}.{member}")),
            }
        }
        (table, absent)
    }

    /// The same, where there have to be certain ones.
    ///
    /// # Errors
    /// `Error::NoType`, with the first of them that this kernel does not have.
    pub fn table_with(&self, needed: &[Field]) -> Result<[u32; fields::COUNT], Error> {
        let (table, _) = self.table();
        match needed.iter().find(|field| table[**field as usize] == fields::ABSENT) {
            None => Ok(table),
            Some(missing) => {
                let (structure, member) = missing.name();
                Err(Error::NoType { what: format!("{structure}.{member}") })
            }
        }
    }
}

#[cfg(test)]
impl Types {
    /// This kernel's, as those of one that lacks what has this name.
    pub fn without(name: &str) -> Self {
        let mut bytes = fs::read(VMLINUX).expect("a kernel with BTF");
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        let place = bytes.windows(wanted.len()).position(|bytes| bytes == wanted);
        bytes[place.unwrap_or_else(|| panic!("this kernel has no {name} to be hidden")) + 1] = b'-';
        Self(Btf::parse(bytes).expect("BTF with another name in it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_all_of_them() {
        let (table, absent) = Types::of_this_kernel().expect("a kernel with BTF").table();
        assert_eq!(absent, Vec::<String>::new());
        assert!(!table.contains(&fields::ABSENT));
    }
}
