//! See [`kmemleak_fuzz::images`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::images::run(input));
