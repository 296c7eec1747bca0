//! The command line: words separated by blanks, given at boot.
//!
//! The boot protocol has no place of its own for it, so the loader passes it as the ramdisk. Any boot loader that loads
//! a file of words as the ramdisk can pass a command line.

use spin::Once;

static LINE: Once<&'static str> = Once::new();

/// Keeps the command line, up to the first byte that is not UTF-8.
pub fn init(line: &'static [u8]) {
    let line = match core::str::from_utf8(line) {
        Ok(line) => line,
        Err(error) => core::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
    };
    LINE.call_once(|| line.trim_end_matches('\0'));
}

/// The words of the command line.
pub fn words() -> impl Iterator<Item = &'static str> {
    LINE.get().copied().unwrap_or_default().split_whitespace()
}

/// The value of the word `name=value`; if there are several such words, the value of the last one.
pub fn value(name: &str) -> Option<&'static str> {
    words()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .last()
}
