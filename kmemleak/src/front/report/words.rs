//! How numbers, times and foreign text are written for people.

use core::fmt::{self, Display, Formatter, Write};

use crate::tracker::sampling::StacksTaken;
use crate::verdict::summary::Summary;

/// A number of things, with their name.
pub(crate) struct Count<'a>(pub(crate) usize, pub(crate) &'a str);

impl Display for Count<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ending = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{ending}", self.0, self.1)
    }
}

/// How many bytes of metadata are missing, and where they can come from.
pub(crate) struct Missing(pub(crate) usize);

impl Display for Missing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "about {} more bytes of metadata are needed: from Platform::metadata_alloc, or by Detector::add_metadata",
            self.0
        )
    }
}

/// The sum of a verdict: the line for programs.
pub(crate) struct Sum<'a>(pub(crate) &'a Summary);

impl Display for Sum<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        write!(
            f,
            "{} ({} bytes)",
            Count(summary.objects, "unreferenced object"),
            summary.bytes
        )?;
        if summary.suspects > 0 {
            write!(f, ", {}", Count(summary.suspects, "suspect"))?;
        }
        if summary.unrecorded > 0 {
            write!(f, ", {} unrecorded", summary.unrecorded)?;
        }
        Ok(())
    }
}

/// Text from elsewhere, such as names: control characters, which would end a line or steer a terminal, are escaped.
pub(crate) struct Plain<'a>(pub(crate) &'a mut dyn Write);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())
            } else {
                self.0.write_char(character)
            }
        })
    }
}

/// Text that is in memory already, escaped as [`Plain`] escapes it.
pub(crate) struct Typed<'a>(pub(crate) &'a str);

impl Display for Typed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Plain(f).write_str(self.0)
    }
}

/// A number of bytes in about four digits.
pub(crate) struct Size(pub(crate) usize);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Some(power) = self.0.checked_ilog2().filter(|&power| power >= 10) else {
            return write!(f, "{} B", self.0);
        };
        // Rounded, to a tenth where there are less than a hundred. 1024 of one unit are one of the next.
        let unit = power as usize / 10;
        let rounded = |times: u128, unit: usize| {
            let half = 1 << (10 * unit - 1);
            (self.0 as u128 * times + half) >> (10 * unit)
        };
        let unit = unit + usize::from(rounded(1, unit) >= 1024);
        let (name, tenths) = (UNITS[unit - 1], rounded(10, unit));
        match tenths {
            1000.. => write!(f, "{} {name}", rounded(1, unit)),
            _ => write!(f, "{}.{} {name}", tenths / 10, tenths % 10),
        }
    }
}

/// More or fewer bytes, in about four digits.
pub(super) struct SizeChange(pub(super) i64);

impl Display for SizeChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{}", Size(self.0.unsigned_abs() as usize))
    }
}

/// A number of bytes exactly, and in larger units where it is large.
pub(crate) struct ByteSum(pub(crate) usize);

impl Display for ByteSum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)?;
        match self.0 {
            ..1024 => Ok(()),
            _ => write!(f, ", {}", Size(self.0)),
        }
    }
}

/// Microseconds, in two digits or three, and a unit.
pub(super) struct ShortAge(pub(super) u64);

impl Display for ShortAge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ms = self.0 / 1000;
        match ms {
            ..1000 => write!(f, "{ms} ms"),
            1000..100_000 => write!(f, "{}.{} s", ms / 1000, ms / 100 % 10),
            100_000..6_000_000 => write!(f, "{} min", ms / 60_000),
            6_000_000..172_800_000 => write!(f, "{} h", ms / 3_600_000),
            _ => write!(f, "{} d", ms / 86_400_000),
        }
    }
}

/// Microseconds, in seconds.
pub(super) struct Age(pub(super) u64);

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

/// A number of passes.
pub(super) struct PassCount(pub(super) u32);

impl Display for PassCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 pass"),
            passes => write!(f, "{passes} passes"),
        }
    }
}

/// Bytes of a dump in a line.
const DUMP_LINE: usize = 16;

/// Writes the first bytes of a block. A `*` stands for lines that are equal to the one before, as in `hexdump -C`.
pub(super) fn write_dump(bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
    if bytes.is_empty() {
        return Ok(());
    }
    writeln!(out, "  hex dump (first {} bytes):", bytes.len())?;
    let (mut before, mut elided) = (None, false);
    for line in bytes.chunks(DUMP_LINE) {
        if before.replace(line) == Some(line) {
            if !elided {
                writeln!(out, "    *")?;
            }
            elided = true;
            continue;
        }
        elided = false;
        write!(out, "    ")?;
        line.iter()
            .try_for_each(|byte| write!(out, "{byte:02x} "))?;
        (line.len()..DUMP_LINE).try_for_each(|_| write!(out, "   "))?;
        write!(out, " ")?;
        for &byte in line {
            let shown = if matches!(byte, b' '..=b'~') {
                char::from(byte)
            } else {
                '.'
            };
            out.write_char(shown)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Of which allocations call stacks are taken, as a setting is written.
pub(super) struct StacksSetting(pub(super) StacksTaken);

impl Display for StacksSetting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            StacksTaken::All => f.write_str("on"),
            StacksTaken::Sample { every } => write!(f, "sample:{every}"),
            StacksTaken::None => f.write_str("off"),
        }
    }
}

/// Of which allocations call stacks are taken, in words.
pub(in crate::front) struct OfWhich(pub(in crate::front) StacksTaken);

impl Display for OfWhich {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            StacksTaken::All => f.write_str("all allocations"),
            StacksTaken::Sample { every } => {
                write!(f, "a sample of allocations, one for each {every} bytes")
            }
            StacksTaken::None => f.write_str("no allocation"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::fmt::{self, Write};
    use std::string::ToString;

    use super::{ByteSum, ShortAge, Size, write_dump};

    /// Text of a test.
    struct Lines([u8; 1024], usize);

    impl Write for Lines {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = self.1 + text.len();
            self.0[self.1..end].copy_from_slice(text.as_bytes());
            self.1 = end;
            Ok(())
        }
    }

    #[test]
    fn equal_lines_of_a_dump_are_told_once() {
        const ZEROS: &str = "    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................";
        const ONES: &str = "    01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01  ................";
        let mut bytes = [0; 7 * 16];
        bytes[3 * 16..6 * 16].fill(1);
        let mut lines = Lines([0; 1024], 0);
        write_dump(&bytes, &mut lines).expect("room");
        let text = core::str::from_utf8(&lines.0[..lines.1]).expect("text");
        assert!(text.lines().eq([
            "  hex dump (first 112 bytes):",
            ZEROS,
            "    *",
            ONES,
            "    *",
            ZEROS,
        ]));
    }

    #[test]
    fn sizes_have_four_digits_at_most() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_575, "1.0 MiB"),
            (3_355_443, "3.2 MiB"),
            (usize::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text, "{bytes}");
        }
        assert_eq!(ByteSum(1023).to_string(), "1023 bytes");
        assert_eq!(ByteSum(2048).to_string(), "2048 bytes, 2.0 KiB");
    }

    #[test]
    fn ages_have_three_digits_at_most() {
        for (us, text) in [
            (999, "0 ms"),
            (999_999, "999 ms"),
            (1_000_000, "1.0 s"),
            (99_999_999, "99.9 s"),
            (100_000_000, "1 min"),
            (5_999_999_999, "99 min"),
            (6_000_000_000, "1 h"),
            (172_800_000_000, "2 d"),
        ] {
            assert_eq!(ShortAge(us).to_string(), text, "{us}");
        }
    }
}
