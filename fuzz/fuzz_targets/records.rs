//! Fuzzes what reads records of the eBPF programs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::records(bytes));
