//! The leak detector's verdict in the guest's output.
//!
//! Each check ends with one line that has its sum; `kmemleak/FORMATS.md` is the reference. The last one
//! counts, whichever form it has:
//!
//! - `kmemleak: N unreferenced objects (B bytes)`,
//! - where that is not certain, `kmemleak: N unreferenced objects (B bytes), S suspects, U unrecorded`, or one of the last two,
//! - as JSON `{"schema":2,"kind":"summary",…,"objects":N,…,"suspects":S,…,"unrecorded":U,…}`,
//! - of the command `mark`, `kmemleak: remembered …, and …`, with one of the first two sums.

/// Follows the output and remembers the last verdict.
#[derive(Debug, Default)]
pub struct LeakWatch {
    line: Vec<u8>,
    last: Option<Verdict>,
}

/// What a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Clean,
    /// Leaks.
    Leaks,
    /// No leaks; but there are suspects, or not all was recorded.
    Uncertain,
}

impl Verdict {
    fn of(leaks: u64, suspects: u64, unrecorded: u64) -> Self {
        match (leaks, suspects, unrecorded) {
            (0, 0, 0) => Self::Clean,
            (0, _, _) => Self::Uncertain,
            _ => Self::Leaks,
        }
    }
}

impl LeakWatch {
    /// Takes the next bytes of the output.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.last = verdict(&String::from_utf8_lossy(&line)).or(self.last);
            } else {
                self.line.push(byte);
            }
        }
    }

    /// The last verdict, if there was one.
    pub fn last(&self) -> Option<Verdict> {
        self.last
    }
}

/// How a verdict begins that is JSON.
const SUMMARY: &str = r#"{"schema":2,"kind":"summary","#;

/// The line as it is in the end: it may have been written over an erased prompt.
pub fn written(line: &str) -> &str {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    line.strip_prefix("\x1b[K").unwrap_or(line)
}

/// The verdict, if the line is one. What is typed after a prompt is no verdict.
pub fn verdict(line: &str) -> Option<Verdict> {
    let line = written(line);
    if let Some(fields) = line.strip_prefix(SUMMARY) {
        return in_summary(fields.strip_suffix('}')?);
    }
    let verdict = line.strip_prefix("kmemleak: ")?;
    match verdict.strip_prefix("remembered ") {
        Some(remembered) => in_sum(remembered.split_once(", and ")?.0),
        None => in_sum(verdict),
    }
}

/// The verdict in `N unreferenced objects (B bytes)`, or in that with `, S suspects`, `, U unrecorded` or both behind it.
fn in_sum(sum: &str) -> Option<Verdict> {
    let (sum, doubts) = sum.split_once(')')?;
    let (objects, rest) = sum.split_once(" unreferenced object")?;
    let bytes = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(" (")?;
    let bytes = bytes
        .strip_suffix(" bytes")
        .or(bytes.strip_suffix(" byte"))?;
    bytes.parse::<u64>().ok()?;
    let (suspects, doubts) = doubt(doubts, &[" suspects", " suspect"])?;
    let (unrecorded, rest) = doubt(doubts, &[" unrecorded"])?;
    if !rest.is_empty() {
        return None;
    }
    Some(Verdict::of(objects.parse().ok()?, suspects, unrecorded))
}

/// The number that stands before one of these words, and what follows; 0 and all of the text where there is none.
fn doubt<'t>(text: &'t str, words: &[&str]) -> Option<(u64, &'t str)> {
    let found = text.strip_prefix(", ").and_then(|text| {
        let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let rest = words.iter().find_map(|word| rest.strip_prefix(word))?;
        Some((number, rest))
    });
    match found {
        Some((number, rest)) => Some((number.parse().ok()?, rest)),
        None => Some((0, text)),
    }
}

/// The verdict in a summary's fields. If `how` is null there was no check.
/// Inside of text no name of a field is found: its quotation marks would be escaped.
fn in_summary(fields: &str) -> Option<Verdict> {
    let value = |field: &str| {
        let (_, rest) = fields.split_once(field)?;
        rest.split(',').next()
    };
    if value(r#""how":"#)? == "null" {
        return None;
    }
    let objects = value(r#""objects":"#)?.parse().ok()?;
    // A summary without these fields counts as one with zeros.
    let number = |field: &str| value(field).and_then(|number| number.parse().ok());
    let suspects = number(r#""suspects":"#).unwrap_or(0);
    let unrecorded = number(r#""unrecorded":"#).unwrap_or(0);
    Some(Verdict::of(objects, suspects, unrecorded))
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::Verdict::{Clean, Leaks, Uncertain};

    fn last(output: &str) -> Option<Verdict> {
        let mut watch = LeakWatch::default();
        // In pieces, as a pipe delivers it.
        output
            .as_bytes()
            .chunks(7)
            .for_each(|piece| watch.feed(piece));
        watch.last()
    }

    #[test]
    fn the_last_verdict_counts() {
        let output = "kmemleak: 2 unreferenced objects (80 bytes)\r\n> kmemleak scan\r\n\
                      kmemleak: 0 unreferenced objects (0 bytes)\r\n> ";
        assert_eq!(last(output), Some(Clean));
    }

    #[test]
    fn one_object_is_singular() {
        assert_eq!(
            last("kmemleak: 1 unreferenced object (1 byte)\n"),
            Some(Leaks)
        );
    }

    #[test]
    fn it_may_be_written_over_a_prompt() {
        let output = "> kmem\r\x1b[Kkmemleak: 3 unreferenced objects (96 bytes)\r\n> kmem";
        assert_eq!(last(output), Some(Leaks));
    }

    #[test]
    fn what_is_typed_is_no_verdict() {
        let output = "> kmemleak: 0 unreferenced objects (0 bytes)\r\n";
        assert_eq!(last(output), None);
        let output = format!("> {}\r\n", summary("\"stopped\"", "null", "2"));
        assert_eq!(last(&output), None);
    }

    /// As `kmemleak/src/front/report/json.rs` writes it.
    fn summary(how: &str, reason: &str, objects: &str) -> String {
        format!(
            "{{\"schema\":2,\"kind\":\"summary\",\"how\":{how},\"passes\":1,\"reason\":{reason},\
             \"objects\":{objects},\"bytes\":96,\"leaders\":1,\"new_objects\":7,\
             \"suppressed_objects\":8,\"unrecorded\":0}}"
        )
    }

    #[test]
    fn a_summary_is_a_verdict_like_another() {
        let clean = "kmemleak: 0 unreferenced objects (0 bytes)\r\n";
        let json = |objects| format!("{}\r\n", summary("\"stopped\"", "null", objects));
        assert_eq!(last(&json("3")), Some(Leaks));
        assert_eq!(last(&format!("{clean}{}", json("3"))), Some(Leaks));
        assert_eq!(last(&format!("{}{clean}", json("3"))), Some(Clean));
        assert_eq!(last(&format!("> kmem\r\x1b[K{}", json("3"))), Some(Leaks));
        let reason = "\"so \\\"objects\\\":9, \\\"how\\\":null\"";
        let repeated = format!("{}\n", summary("\"repeated\"", reason, "4"));
        assert_eq!(last(&repeated), Some(Leaks));
    }

    #[test]
    fn what_is_no_summary_of_a_check_is_no_verdict() {
        for line in [
            summary("null", "null", "0"),
            summary("\"stopped\"", "null", "many"),
            summary("\"stopped\"", "null", "3").replace("summary", "group"),
            summary("\"stopped\"", "null", "3").replace("\"schema\":2", "\"schema\":3"),
            summary("\"stopped\"", "null", "3").replace('}', ""),
            "{\"schema\":2,\"kind\":\"error\",\"error\":\"asked to stop\"}".into(),
        ] {
            assert_eq!(last(&format!("{line}\n")), None, "{line}");
        }
    }

    #[test]
    fn what_is_not_certain_is_neither_a_leak_nor_nothing() {
        let sum =
            |objects: &str, doubts: &str| format!("kmemleak: {objects} (80 bytes){doubts}\r\n");
        let none = "0 unreferenced objects";
        for doubts in [
            ", 399 suspects, 1 unrecorded",
            ", 1 suspect, 12 unrecorded",
            ", 0 suspects, 1 unrecorded",
            ", 2 suspects",
            ", 1 unrecorded",
        ] {
            assert_eq!(last(&sum(none, doubts)), Some(Uncertain), "{doubts}");
            let leaks = sum("2 unreferenced objects", doubts);
            assert_eq!(last(&leaks), Some(Leaks), "{doubts}");
            let clean = sum(none, "");
            assert_eq!(last(&format!("{}{clean}", sum(none, doubts))), Some(Clean));
            assert_eq!(
                last(&format!("{clean}{}", sum(none, doubts))),
                Some(Uncertain)
            );
        }
        for doubts in [
            ", many suspects, 1 unrecorded",
            ", 2 suspects, some unrecorded",
            ", 2 suspects, 1 unrecorded, 3 more",
            ", 1 unrecorded, 2 suspects",
            ", ",
            " 2 suspects",
            ", suspects",
        ] {
            assert_eq!(last(&sum(none, doubts)), None, "{doubts}");
        }
    }

    #[test]
    fn doubts_in_a_summary() {
        let with = |objects, fields: &str| {
            let line = summary("\"stopped\"", "null", objects);
            last(&format!("{}\n", line.replace("\"unrecorded\":0", fields)))
        };
        assert_eq!(
            with("0", "\"suspects\":399,\"unrecorded\":1"),
            Some(Uncertain)
        );
        assert_eq!(
            with("0", "\"unrecorded\":1,\"suspects\":7"),
            Some(Uncertain)
        );
        assert_eq!(
            with("0", "\"suspects\":2,\"unrecorded\":0"),
            Some(Uncertain)
        );
        assert_eq!(with("0", "\"unrecorded\":1"), Some(Uncertain));
        assert_eq!(with("1", "\"suspects\":399,\"unrecorded\":1"), Some(Leaks));
        assert_eq!(with("0", "\"suspects\":0,\"unrecorded\":0"), Some(Clean));
        assert_eq!(with("0", "\"suspects\":null,\"unrecorded\":0"), Some(Clean));
        assert_eq!(with("0", "\"suspect_bytes\":9"), Some(Clean));
    }

    #[test]
    fn what_is_remembered_was_checked() {
        let mark = |objects| {
            format!(
                "kmemleak: remembered {objects} (80 bytes), and what is alive at each call site\n"
            )
        };
        assert_eq!(last(&mark("2 unreferenced objects")), Some(Leaks));
        assert_eq!(last(&mark("1 unreferenced object")), Some(Leaks));
        assert_eq!(last(&mark("2 objects")), None);
        let uncertain = "kmemleak: remembered 0 unreferenced objects (0 bytes), 4 suspects, 1 unrecorded, and what is alive at each call site\n";
        assert_eq!(last(uncertain), Some(Uncertain));
        assert_eq!(
            last("kmemleak: remembered 2 unreferenced objects (80 bytes)\n"),
            None
        );
    }

    #[test]
    fn other_lines_are_no_verdicts() {
        assert_eq!(last("kmemleak: 3 unreferenced objects (see above)\n"), None);
        assert_eq!(
            last("kmemleak: many unreferenced objects (9 bytes)\n"),
            None
        );
        assert_eq!(
            last("kmemleak: 3 unreferenced objects (9 bytes)"),
            None,
            "unfinished"
        );
        assert_eq!(last("kmemleak: on\n"), None);
    }
}
