//! `tallow_fuzz::lines` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tallow_fuzz::lines(data));
