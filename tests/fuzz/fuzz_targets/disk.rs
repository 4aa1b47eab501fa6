//! A scratch disk, as a guest's root may leave it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evalfleet_fuzz::disk(data));
