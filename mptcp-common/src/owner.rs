//! What the object `owner` tells of each connection: whose it is. All integers are in the machine's byte order.

/// Whose a socket is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Owner {
    /// The id of the cgroup that the socket was made in; 0 for unknown.
    pub cgroup: u64,
    /// The user who made the socket, as the kernel's first user namespace knows it (`sk_uid`).
    pub uid: u32,
    /// The process that connected, or listens; 0 for unknown.
    pub pid: u32,
    /// Its name, that of its first thread (`comm`), filled up with zeros; empty for unknown.
    pub process: [u8; 16],
}

/// What the ring buffer carries: whose a connection is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Owned {
    /// Whose.
    pub owner: Owner,
    /// The connection's local token.
    pub token: u32,
    /// Unused; 0.
    pub padding: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_has_holes_that_the_kernel_would_have_to_fill() {
        assert_eq!(size_of::<Owner>(), 8 + 4 + 4 + 16);
        assert_eq!(size_of::<Owned>(), size_of::<Owner>() + 4 + 4);
    }
}
