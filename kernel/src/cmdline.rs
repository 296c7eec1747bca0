//! The command line: words separated by blanks, given at boot.
//!
//! The loader passes it as the ramdisk, since the boot protocol has no other place for it; the same
//! kernel then takes a file of words where a boot loader loads one.

use spin::Once;

static LINE: Once<&'static str> = Once::new();

/// Keeps the command line. What is not UTF-8 is left out from there on.
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

/// The value of the word `name=value`, the last one's if there are several.
pub fn value(name: &str) -> Option<&'static str> {
    words()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .last()
}
