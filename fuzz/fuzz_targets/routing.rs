//! Fuzzes what reads messages of routing netlink.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::routing(bytes));
