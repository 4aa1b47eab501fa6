//! What comes out of the agent's port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evalfleet_fuzz::frames(data));
