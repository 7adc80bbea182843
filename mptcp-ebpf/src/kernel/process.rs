//! Safe words for what programs ask about the process that runs.
use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::{
    helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_task_btf},
    maps::HashMap,
};
use mptcp_common::fields::Field;

use super::{Offsets, Structure};

impl Structure {
    /// The `task_struct` of the thread that the program runs in.
    #[inline(always)]
    pub fn of_this_thread(offsets: &'static Offsets) -> Option<Self> {
        // SAFETY: the helper has no arguments.
        let thread = unsafe { bpf_get_current_task_btf() };
        NonNull::new(thread as *mut c_void).map(|start| Self { start, offsets })
    }

    /// The structure that a member points to, whose type the verifier knows from that of the member.
    #[inline(always)]
    pub fn inner(&self, field: Field) -> Option<Self> {
        NonNull::new(self.read::<u64>(field) as *mut c_void)
            .map(|start| Self { start, offsets: self.offsets })
    }
}

/// The id of the cgroup at a level, counted from the root's 0, that the process is in; 0 beyond its own.
#[inline(always)]
pub fn cgroup_at(level: i32) -> u64 {
    // SAFETY: the helper takes any level.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}

/// What a key leads to: a copy. Only the loader writes such maps.
#[inline(always)]
pub fn found<K, V: Copy>(map: &HashMap<K, V>, key: &K) -> Option<V> {
    // SAFETY: the value stays memory of its map to the program's end, and is read at once.
    map.get_ptr(key).map(|value| unsafe { value.read() })
}
