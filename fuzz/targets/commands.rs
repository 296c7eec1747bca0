//! See [`kmemleak_fuzz::commands`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::commands::run(input));
