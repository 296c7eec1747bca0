//! See [`kmemleak_fuzz::editor`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kmemleak_fuzz::editor::run(input));
