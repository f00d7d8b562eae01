//! `tallow_fuzz::catalogs` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tallow_fuzz::catalogs(data));
