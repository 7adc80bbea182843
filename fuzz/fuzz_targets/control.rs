//! Fuzzes what reads requests over the control socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::control(bytes));
