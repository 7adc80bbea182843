//! What programs can only probe: structures of the kernel's of which no more than the address is known.
use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::helpers::generated::bpf_get_current_task;
use mptcp_common::fields::Field;

use super::{ControlName, Offsets, offset, probe};

/// A structure of the kernel's of which only the address is known, which is only good to be probed: an
/// `mptcp_subflow_context`, or a socket that may be gone.
#[derive(Clone, Copy)]
pub struct Context {
    start: NonNull<c_void>,
    offsets: &'static Offsets,
}

impl Context {
    /// What lies at an address; `None` for 0.
    #[inline(always)]
    pub fn at(address: u64, offsets: &'static Offsets) -> Option<Self> {
        NonNull::new(address as *mut c_void).map(|start| Self { start, offsets })
    }

    /// The `task_struct` of the thread that the program runs in.
    #[inline(always)]
    pub fn of_this_thread(offsets: &'static Offsets) -> Option<Self> {
        // SAFETY: the helper has no arguments.
        Self::at(unsafe { bpf_get_current_task() }, offsets)
    }

    /// What a member points to.
    #[inline(always)]
    pub fn follow(self, field: Field) -> Option<Self> {
        Self::at(self.member(field), self.offsets)
    }

    /// The structure that has this member at an address; `None` for 0.
    #[inline(always)]
    pub fn around(address: u64, member: Field, offsets: &'static Offsets) -> Option<Self> {
        let before = u64::from(offset(offsets, member)? / 8);
        if address == 0 { None } else { Self::at(address.wrapping_sub(before), offsets) }
    }

    /// A bit field that lies in one byte; 0 where this kernel has none.
    #[inline(always)]
    pub fn bits(self, field: Field, mask: u8) -> u8 {
        offset(self.offsets, field).map_or(0, |bit| self.member::<u8>(field) >> (bit % 8) & mask)
    }

    /// The local token of the subflow's connection.
    #[inline(always)]
    pub fn token(self) -> Option<u32> {
        self.of_connection(Field::Token)
    }

    /// The name of the congestion control that the connection's new subflows get.
    #[inline(always)]
    pub fn chosen_control(self) -> Option<ControlName> {
        self.of_connection(Field::ChosenControl)
    }

    /// Where a member of the subflow's connection is.
    #[inline(always)]
    pub fn connection_member(self, field: Field) -> Option<u64> {
        let connection: u64 = self.member(Field::Connection);
        Some(connection.wrapping_add(u64::from(offset(self.offsets, field)? / 8)))
    }

    /// Its first word.
    #[inline(always)]
    pub fn first(self) -> u64 {
        probe(self.start.as_ptr())
    }

    #[inline(always)]
    fn of_connection<T: Copy + Default>(self, field: Field) -> Option<T> {
        Some(probe(self.connection_member(field)? as *mut c_void))
    }

    /// One flag; false when this kernel has none.
    #[inline(always)]
    pub fn flag(self, field: Field) -> bool {
        self.bits(field, 1) == 1
    }

    /// Flags that lie at one and behind it, copied at once.
    #[inline(always)]
    pub fn flags(self, first: Field) -> Flags {
        Flags { bits: self.member(first), first, whole: self }
    }

    /// A member, or its first bytes; 0 when this kernel has none.
    #[inline(always)]
    pub fn member<T: Copy + Default>(self, field: Field) -> T {
        offset(self.offsets, field)
            .map_or_else(T::default, |bit| probe(self.start.as_ptr().wrapping_byte_add(bit as usize / 8)))
    }
}

/// Flags that lie close to each other: to probe each of them would take as many calls.
#[derive(Clone, Copy)]
pub struct Flags {
    bits: u64,
    first: Field,
    whole: Context,
}

impl Flags {
    /// One of them; false when this kernel has none. What lies elsewhere is probed.
    #[inline(always)]
    pub fn get(self, field: Field) -> bool {
        let place = |field| offset(self.whole.offsets, field).unwrap_or(0);
        // The first one is not the first bit of its byte.
        let bit = place(field).wrapping_sub(place(self.first) / 8 * 8);
        match bit < u64::BITS {
            true => self.bits >> bit & 1 == 1,
            false => self.whole.flag(field),
        }
    }
}
