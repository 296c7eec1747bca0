//! What a line of a log is.
//!
//! Most lines of a log are nobody's: so a line is judged by its last bytes first. A prefix (a time, a CPU, a name of a task)
//! may stand before all lines of a report.

/// A line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `  backtrace (crc 5d601ae8):`, or with another title: call stacks begin so.
    Header {
        /// Bytes of the prefix.
        prefix: usize,
        /// Where the checksum ends.
        crc_end: usize,
        /// Frames that the kernel has skipped itself.
        skipped: usize,
    },
    /// An address alone, as a frame of a call stack is.
    Frame(Number),
    /// A live object, or a word in one, and the address that allocated the object.
    Origin(Number),
    /// A line of a report's table, and the address that allocated its objects.
    Row(Number),
    /// An object of JSON, from this byte on.
    Json(usize),
    /// Something else of a report, with which a call stack ends.
    Report,
    /// Not a report's, as far as can be seen.
    Other,
}

/// An address at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Where it begins.
    pub(crate) at: usize,
    pub(crate) address: u64,
}

/// Whether a line has come as a whole: the last one of a log may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    Cut,
}

/// Digits of an address, at most, and where the platform's default writes it.
const DIGITS: usize = 16;
/// Digits of a checksum.
const CRC_DIGITS: usize = 8;
const JSON: &[u8] = b"{\"schema\":";
/// What stands in lines of reports, and in no line of a call stack.
const MARKS: [&[u8]; 4] = [b"kmemleak: ", b"object 0x", b"s, comm \"", b" are kept"];
/// What stands before the address that allocated an object.
const ORIGIN: &[u8] = b", from ";
/// What stands before the checksum of a live object.
const CRC_OF_OBJECT: &[u8] = b", crc ";

impl Line {
    pub(crate) fn of(line: &[u8], ending: Ending) -> Self {
        let special = match line.last() {
            Some(b':') => header(line),
            Some(b'}') => find(line, JSON).map(Self::Json),
            Some(last) if last.is_ascii_hexdigit() => number(line, ending),
            _ => None,
        };
        special.unwrap_or_else(
            || match MARKS.iter().any(|mark| find(line, mark).is_some()) {
                true => Self::Report,
                false => Self::Other,
            },
        )
    }
}

/// Where `what` begins in a line.
fn find(line: &[u8], what: &[u8]) -> Option<usize> {
    let first = what.first()?;
    let mut from = 0;
    while let Some(at) = line[from..].iter().position(|byte| byte == first) {
        if line[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// A frame, or the end of an answer about a word.
fn number(line: &[u8], ending: Ending) -> Option<Line> {
    let is_digit = |byte: &&u8| byte.is_ascii_hexdigit();
    let digits = line.iter().rev().take_while(is_digit).count();
    let at = line.len().checked_sub(digits + 2)?;
    let is_whole = digits == DIGITS || ending == Ending::Complete;
    if digits > DIGITS || !is_whole || !line[at..].starts_with(b"0x") {
        return None;
    }
    let text = core::str::from_utf8(&line[at + 2..]).ok()?;
    let address = u64::from_str_radix(text, 16).ok()?;
    let number = Number { at, address };
    let before = &line[..at];
    if let Some(object) = before.strip_suffix(ORIGIN)
        && (find(object, b": object 0x").is_some() || is_live_object(object))
    {
        return Some(Line::Origin(number));
    }
    if is_row(before) || is_object_row(before) {
        return Some(Line::Row(number));
    }
    before.ends_with(b"    ").then_some(Line::Frame(number))
}

/// Units of ages.
const UNITS: [&str; 5] = ["ms", "s", "min", "h", "d"];

fn is_number(word: &&str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
}

fn is_handle(word: &str) -> bool {
    word == "-" || word.strip_prefix('#').as_ref().is_some_and(is_number)
}

/// Whether this is a line of a table, as far as its call site: `#N COUNT BYTES OWNED AGE`.
fn is_row(before: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(before) else {
        return false;
    };
    let mut words = text.split_whitespace();
    let ends_with_age = words.next_back().is_some_and(|unit| UNITS.contains(&unit))
        && words.next_back().as_ref().is_some_and(is_number);
    let mut words = words.skip_while(|word| !is_handle(word)).skip(1);
    ends_with_age
        && text.ends_with(' ')
        && (0..2).all(|_| words.next().as_ref().is_some_and(is_number))
}

/// Whether this is a line of the table of live objects, as far as its call site: `#N ADDRESS BYTES AGE TASK`.
fn is_object_row(before: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(before) else {
        return false;
    };
    let words = text.split_whitespace().skip_while(|word| !is_handle(word));
    let mut words = words.skip(1);
    let is_address = |word: &str| word.strip_prefix("0x").is_some_and(|at| at.len() == DIGITS);
    text.ends_with(' ')
        && words.next().is_some_and(is_address)
        && words.next().as_ref().is_some_and(is_number)
        && words.next().is_some_and(|unit| unit.ends_with('B'))
        && words.next().as_ref().is_some_and(is_number)
        && words.next().is_some_and(|unit| UNITS.contains(&unit))
        && words.any(|task| task.contains('/'))
}

/// Whether this is a live object, as far as its checksum: `  ADDRESS (size BYTES), age SECONDS, comm "NAME", pid TASK, crc X`.
fn is_live_object(text: &[u8]) -> bool {
    let described = text.len().checked_sub(CRC_DIGITS);
    let Some((described, crc)) = described.map(|at| text.split_at(at)) else {
        return false;
    };
    let parts: [&[u8]; 3] = [b" (size ", b"), age ", b"s, comm \""];
    crc.iter().all(u8::is_ascii_hexdigit)
        && described.ends_with(CRC_OF_OBJECT)
        && parts.iter().all(|part| find(described, part).is_some())
}

fn header(line: &[u8]) -> Option<Line> {
    const CRC: &[u8] = b"(crc ";
    let inside = line.strip_suffix(b"):")?;
    let opened = inside.iter().rposition(|byte| *byte == b'(')?;
    let crc = inside[opened..].strip_prefix(CRC)?;
    let digits = crc.get(..CRC_DIGITS)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some(Line::Header {
        prefix: prefix_of(&line[..opened])?,
        crc_end: opened + CRC.len() + CRC_DIGITS,
        skipped: skipped(&crc[CRC_DIGITS..])?,
    })
}

/// The number in `, 3 frames skipped`, or zero for no text.
fn skipped(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let text = core::str::from_utf8(text).ok()?.strip_prefix(", ")?;
    let (number, rest) = text.split_once(' ')?;
    let known = matches!(rest, "frame skipped" | "frames skipped");
    number.parse().ok().filter(|_| known)
}

/// Bytes before a title, which is indented by two blanks and is words in small letters.
fn prefix_of(titled: &[u8]) -> Option<usize> {
    let is_of_title = |byte: &&u8| byte.is_ascii_lowercase() || **byte == b' ';
    let len = titled.iter().rev().take_while(is_of_title).count();
    let start = titled.len() - len;
    let blanks = titled[start..].iter().take_while(|byte| **byte == b' ');
    let blanks = blanks.count();
    (2..len).contains(&blanks).then(|| start + blanks - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Line {
        Line::of(line.as_bytes(), Ending::Complete)
    }

    #[test]
    fn lines_of_call_stacks_are_found_behind_any_prefix() {
        for prefix in ["", "[   12.345678] ", "cpu0| ", "äö: "] {
            let prefix_len = prefix.len();
            assert_eq!(
                of(&format!(
                    "{prefix}  allocated last from (crc 5d601ae8, 2 frames skipped):"
                )),
                Line::Header {
                    prefix: prefix_len,
                    crc_end: prefix_len + 35,
                    skipped: 2
                }
            );
            assert_eq!(
                of(&format!("{prefix}    0xffffffff80001234")),
                Line::Frame(Number {
                    at: prefix_len + 4,
                    address: 0xffff_ffff_8000_1234
                })
            );
            assert_eq!(
                of(&format!("{prefix}{{\"schema\":2,\"kind\":\"site\"}}")),
                Line::Json(prefix_len)
            );
        }
    }

    #[test]
    fn who_allocated_a_holder_is_found() {
        let line = "  0x0000000000001000: object 0x0000000000001000 (size 48)+0x0, from 0x80200010";
        assert!(
            matches!(of(line), Line::Origin(Number { at, address: 0x8020_0010 }) if at == line.len() - 10)
        );
    }

    #[test]
    fn who_allocated_a_live_object_is_found() {
        let object = "[    1.0]   0xffff888000476400 (size 64), age 0.011s, comm \"leak\", pid 6";
        for notes in ["", ", gray", ", black, freed since"] {
            let line = format!("{object}{notes}, crc 5d601ae8, from 0x80200010");
            let at = line.len() - 10;
            let address = 0x8020_0010;
            assert_eq!(of(&line), Line::Origin(Number { at, address }));
        }
        let stackless = of(&format!("{object}, no call stack"));
        assert_eq!(stackless, Line::Report);
        let named = of(&format!("{object}, crc 5d601ae8, from net::open"));
        assert_eq!(named, Line::Report);
    }

    #[test]
    fn who_allocated_a_group_is_found() {
        for line in [
            "   #1        1  16.0 KiB         -  259 ms 0xffffffff80015344",
            "[1.5] cpu0  #4        2     128 B      32 B   1.1 s 0xffffffff80015344",
            "    -        1      32 B   6 min 0xffffffff80015344",
            "  #19 0xffff88800ffd9e00     200 B   2 min boot/0   0xffffffff80015344",
            "[1.5]   - 0xffff88800ffd9e00  64.0 KiB  10 ms a b/7, gray 0xffffffff80015344",
        ] {
            assert!(matches!(of(line), Line::Row(Number { at, .. }) if at == line.len() - 18));
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for line in [
            "",
            ":",
            "}",
            "0",
            "    backtrace",
            "backtrace (crc 5d601ae8):",
            "  (crc 5d601ae8):",
            "  backtrace (crc 5d601a):",
            "  backtrace (crc 5d601ae8, 2 frames):",
            "  backtrace (crc 5d601ae8): as above",
            "mapped at 0xffffffff80001234",
            "    0xffffffff800012345",
            "    ffffffff80001234",
            "came, from 0xffffffff80001234",
            "#1 2 after 3 tries 0xffffffff80001234",
            "waited 3 ms 0xffffffff80001234",
            "#1 lost 3 ms 0xffffffff80001234",
            "#1 0xffff88800ffd9e00 200 B later boot/0 0xffffffff80001234",
            "#1 0x12 200 B 2 min boot/0 0xffffffff80001234",
            "crc, from 0x80200010",
            ", crc 5d601ae8, from 0x80200010",
            "0x1000 (size 64), age 1s, crc 5d601ae8, from 0x80200010",
            "{\"kind\":\"site\"}",
        ] {
            assert_eq!(of(line), Line::Other, "{line}");
        }
        let report = of("kmemleak: 2 unreferenced objects (128 bytes)");
        assert_eq!(report, Line::Report);
    }

    #[test]
    fn an_address_that_may_be_cut_is_none() {
        let cut = |line: &str| Line::of(line.as_bytes(), Ending::Cut);
        assert_eq!(cut("    0xffffffff8000"), Line::Other);
        assert!(matches!(cut("    0xffffffff80001234"), Line::Frame(_)));
        assert!(matches!(of("    0x80200010"), Line::Frame(_)));
    }
}
