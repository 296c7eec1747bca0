//! See [`kmemleak_fuzz::loading`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::loading::run(input));
