//! What a process that runs scripts for the runner reports: the test kernel under QEMU, or a process on the host.
//!
//! `qemu-tests/guest/src/scripts.rs` says how the lines look, and writes them there.

use std::fmt::Write;
use std::num::TryFromIntError;

use crate::Outcome;

/// A line that is the runner's.
pub enum Line {
    Begins,
    Ends(Outcome),
}

impl Line {
    /// Reads a line about script number `index`.
    pub fn read(line: &str, index: usize) -> Option<Self> {
        let (number, what) = line.strip_prefix("leak-script ")?.split_once(' ')?;
        if number.parse() != Ok(index) {
            return None;
        }
        Some(match what {
            "begins" => Self::Begins,
            "ok" => Self::Ends(Outcome::Passed),
            "skipped" => Self::Ends(Outcome::Skipped),
            _ => Self::Ends(Outcome::Failed(unescaped(what.strip_prefix("FAILED ")?))),
        })
    }
}

/// Text in which `%` and two digits stand for a character.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[2..]);
            }
            None => plain.push_str(part),
        }
    }
    plain
}

/// Packs the number of scripts and their texts: for each its length, 4 bytes, little-endian, and the text.
pub fn pack(scripts: &[(usize, String)]) -> Result<Vec<u8>, TryFromIntError> {
    let mut bytes = Vec::new();
    for (_, text) in scripts {
        let len = u32::try_from(text.len())?;
        bytes.extend(len.to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    Ok(bytes)
}

/// The texts that were packed, without those that are cut off.
pub fn unpack(mut bytes: &[u8]) -> Vec<&str> {
    let mut texts = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk()
        && let Some((text, rest)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)
        && let Ok(text) = str::from_utf8(text)
    {
        texts.push(text);
        bytes = rest;
    }
    texts
}

/// Text without control characters, each of which, and `%`, is `%` and two digits.
pub fn escaped(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars() {
        match char {
            // Writing to a `String` never fails.
            '\0'..' ' | '%' | '\x7f' => _ = write!(line, "%{:02x}", u32::from(char)),
            _ => line.push(char),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<String> {
        Some(match Line::read(line, 3)? {
            Line::Begins => "begins".into(),
            Line::Ends(Outcome::Passed) => "passed".into(),
            Line::Ends(Outcome::Skipped) => "skipped".into(),
            Line::Ends(Outcome::Failed(why)) => why,
        })
    }

    #[test]
    fn lines_about_the_script_at_hand_are_read() {
        assert_eq!(read("leak-script 3 begins").as_deref(), Some("begins"));
        assert_eq!(read("leak-script 3 ok").as_deref(), Some("passed"));
        assert_eq!(read("leak-script 3 skipped").as_deref(), Some("skipped"));
        let failed = read("leak-script 3 FAILED line 1: größe %07%25 100%2525");
        assert_eq!(failed.as_deref(), Some("line 1: größe \u{7}% 100%25"));
        for line in [
            "leak-script 4 ok",
            "leak-script 3",
            "pages: double free",
            "leak-script 3 or so",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn what_was_packed_and_escaped_comes_back() {
        let scripts = [
            (7, String::from("check\n")),
            (9, String::new()),
            (11, "größe".into()),
        ];
        let bytes = pack(&scripts).expect("they are short");
        assert_eq!(unpack(&bytes), ["check\n", "", "größe"]);
        assert_eq!(unpack(&bytes[..bytes.len() - 1]), ["check\n", ""]);
        let text = "line 1: größe \u{7}% 100%25\n";
        assert_eq!(unescaped(&escaped(text)), text);
    }
}
