//! See [`kmemleak_fuzz::callbacks`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::callbacks::run(input));
