//! What a living subflow costs the daemon.
use crate::stats::subflow::{Id, Subflow};

#[test]
fn a_subflow_takes_less_than_half_a_kilobyte_and_its_buckets() {
    // An allocation has a header of eight bytes and comes in steps of sixteen (malloc of the GNU C library).
    let allocation = |bytes: usize| (bytes + 8).next_multiple_of(16);
    // A leaf of the tree: eleven keys, eleven values, the parent and two short numbers. It is at least half full, and
    // there is at most one inner node, with twelve edges more, for each six leaves.
    let leaf = 11 * size_of::<Id>() + 11 * size_of::<Box<Subflow>>() + 16;
    let tree = (allocation(leaf) + allocation(leaf + 12 * 8) / 6).div_ceil(5);
    let all = allocation(size_of::<Subflow>()) + tree;
    assert!(all <= 448, "{all} bytes: {} and {tree} in the tree", size_of::<Subflow>());
}
