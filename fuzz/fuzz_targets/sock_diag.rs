//! Fuzzes what reads sockets of sock_diag.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::sock_diag(bytes));
