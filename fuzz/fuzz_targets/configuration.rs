//! Fuzzes what reads the configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::configuration(bytes));
