//! Fuzzes what reads messages of the path managers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::path_managers(bytes));
