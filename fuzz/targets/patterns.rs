//! See [`kmemleak_fuzz::patterns`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::patterns::run(input));
