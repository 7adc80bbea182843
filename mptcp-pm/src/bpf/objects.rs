//! The eBPF objects that `build.rs` has embedded.

use super::Error;

/// Each object's name and ELF file.
static OBJECTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The ELF file of an object.
///
/// # Errors
/// `Error::NotBuilt`, when the daemon was built without it.
pub fn get(object: &'static str) -> Result<&'static [u8], Error> {
    let found = OBJECTS.iter().find(|(name, _)| *name == object);
    found.map(|(_, bytes)| *bytes).ok_or(Error::NotBuilt { object })
}

/// The names of all of them.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    OBJECTS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_not_embedded_is_refused_with_the_remedy() {
        let error = get("no_such_object").unwrap_err().to_string();
        assert!(error.contains("no_such_object") && error.contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn what_is_embedded_is_aligned_elf() {
        for (name, bytes) in OBJECTS {
            assert!(bytes.starts_with(b"\x7fELF"), "{name}");
            assert_eq!(bytes.as_ptr().addr() % 8, 0, "{name}");
        }
    }
}
