//! The running kernel's types, for all objects that are loaded together: some megabytes that take a while to read.
use std::cell::OnceCell;

use aya::{Btf, Endianness};

use super::Error;
use super::offsets::Types;
use super::sys::memory::give_back_memory;

/// Read when somebody first asks. To be dropped once the objects are loaded, which gives the memory back.
#[derive(Default)]
pub struct Kernel {
    types: OnceCell<Types>,
    for_aya: OnceCell<Btf>,
}

impl Kernel {
    /// Its types.
    ///
    /// # Errors
    /// Those of [`Types::of_this_kernel`].
    pub(super) fn types(&self) -> Result<&Types, Error> {
        get_or_try(&self.types, Types::of_this_kernel)
    }

    /// The same, as aya wants them for iterators and tracepoints.
    ///
    /// # Errors
    /// The same, and `Error::KernelTypes`, when aya does not understand them.
    pub(super) fn for_aya(&self) -> Result<&Btf, Error> {
        get_or_try(&self.for_aya, || {
            let types = Btf::parse(self.types()?.btf().bytes(), Endianness::default());
            types.map_err(|source| Error::KernelTypes(Box::new(source)))
        })
    }
}

impl Drop for Kernel {
    /// What lies above them in memory would keep it.
    fn drop(&mut self) {
        let were_read = self.types.take().is_some();
        if were_read | self.for_aya.take().is_some() {
            give_back_memory();
        }
    }
}

#[cfg(test)]
impl Kernel {
    /// One with these types.
    pub fn with(types: Types) -> Self {
        Self { types: OnceCell::from(types), for_aya: OnceCell::new() }
    }
}

/// What fails is tried again the next time.
fn get_or_try<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    match cell.get() {
        Some(value) => Ok(value),
        None => make().map(|value| cell.get_or_init(|| value)),
    }
}
