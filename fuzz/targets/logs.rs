//! See [`kmemleak_fuzz::logs`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::logs::run(input));
