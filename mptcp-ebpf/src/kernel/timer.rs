//! Safe words for timers of the kernel's.
use core::{ffi::c_void, ptr::from_ref};

use aya_ebpf::{
    bindings::bpf_timer,
    btf_maps,
    helpers::generated::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
};

/// A timer of the kernel's inside the value of a map.
pub struct Timer(*mut bpf_timer);

/// What a timer calls: with the map, the key and the value that it is part of. Has to return 0.
pub type Callback<K, V> = extern "C" fn(*mut c_void, *mut K, *mut V) -> u64;

impl Timer {
    /// The one at this place, which is in the value of a map.
    #[inline(always)]
    pub fn at(place: *mut bpf_timer) -> Self {
        Self(place)
    }

    /// Makes it ready for use, once for each value; false without memory, or when it is ready already.
    #[inline(always)]
    pub fn init<K, V, const N: usize, const F: usize>(
        &self,
        map: &'static btf_maps::HashMap<K, V, N, F>,
        callback: Callback<K, V>,
    ) -> bool {
        const CLOCK_MONOTONIC: u64 = 1;
        let map = from_ref(map).cast_mut().cast();
        // SAFETY: the verifier sees to it that the timer is one of the map's, and that the callback takes its values.
        unsafe {
            bpf_timer_init(self.0, map, CLOCK_MONOTONIC) == 0
                && bpf_timer_set_callback(self.0, callback as *mut c_void) == 0
        }
    }

    /// Has it call in so many nanoseconds, and not at the time that was set before.
    #[inline(always)]
    pub fn start(&self, nanoseconds: u64) -> bool {
        // SAFETY: as with `init`. A timer that is not ready is an error that the helper returns.
        unsafe { bpf_timer_start(self.0, nanoseconds, 0) == 0 }
    }
}
