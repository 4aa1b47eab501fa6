//! What a guest sends to its gateway.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evalfleet_fuzz::network(data));
