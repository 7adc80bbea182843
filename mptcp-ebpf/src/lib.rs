//! What the eBPF objects share.
#![no_std]
