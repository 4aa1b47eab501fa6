//! A question, as whoever may ask writes it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    evalfleet_fuzz::guard(data);
});
