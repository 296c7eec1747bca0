//! See [`kmemleak_fuzz::scripts`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::scripts::run(input));
