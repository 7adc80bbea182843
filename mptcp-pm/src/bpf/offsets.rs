//! Where the running kernel keeps the members of its structures, out of its own type information (BTF).
use btf_rs::{Btf, Type};

use super::Error;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types.
pub struct Types(Btf);

impl Types {
    /// Reads them; the result takes megabytes, so drop it once the objects are loaded.
    ///
    /// # Errors
    /// `Error::Btf`, when the kernel shows none.
    pub fn of_this_kernel() -> Result<Self, Error> {
        Btf::from_file(VMLINUX).map(Self).map_err(btf_error)
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
        for id in self.0.resolve_ids_by_name(structure).unwrap_or_default() {
            let found = self.0.resolve_type_by_id(id).and_then(|found| self.member(&found, field));
            if let Some(bit) = found.map_err(btf_error)? {
                return Ok(bit);
            }
        }
        Err(Error::NoField { structure, field })
    }

    /// The offset of a member in bits; members of unnamed structures and unions inside count as the outer one's own.
    fn member(&self, outer: &Type, field: &str) -> btf_rs::Result<Option<u32>> {
        let (Type::Struct(outer) | Type::Union(outer)) = outer else { return Ok(None) };
        for member in &outer.members {
            let name = self.0.resolve_name(member)?;
            if name == field {
                return Ok(Some(member.bit_offset()));
            }
            if name.is_empty() {
                let inner = self.0.resolve_chained_type(member)?;
                if let Some(bit) = self.member(&inner, field)? {
                    return Ok(Some(member.bit_offset() + bit));
                }
            }
        }
        Ok(None)
    }
}

fn btf_error(source: btf_rs::Error) -> Error {
    Error::Btf { source: Box::new(source) }
}
