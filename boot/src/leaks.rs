//! The leak detector's verdict in the guest's output.
//!
//! Each check ends with one line that has its sum; `kmemleak/FORMATS.md` is the reference. The last one
//! counts, whichever form it has:
//!
//! - `kmemleak: N unreferenced objects (B bytes)`,
//! - where not all blocks could be recorded, `kmemleak: N unreferenced objects (B bytes), S suspects, U unrecorded`,
//! - as JSON `{"schema":1,"kind":"summary",…,"objects":N,…,"suspects":S,…}`; without suspects where all is recorded,
//! - of a check that is there to be compared with, `kmemleak: remembered …, and …`, with one of the first two sums.

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
    /// No leaks, but suspects: what blocks might hold that could not be recorded.
    Suspects,
}

impl Verdict {
    fn of(objects: u64, suspects: u64) -> Self {
        match (objects, suspects) {
            (0, 0) => Self::Clean,
            (0, _) => Self::Suspects,
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
                self.last = parse(&String::from_utf8_lossy(&line)).or(self.last);
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
const SUMMARY: &str = r#"{"schema":1,"kind":"summary","#;

/// The verdict, if the line is one. It may have been written over an erased prompt; but what somebody types after a prompt
/// is none.
fn parse(line: &str) -> Option<Verdict> {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next()?;
    let line = line.strip_prefix("\x1b[K").unwrap_or(line);
    if let Some(fields) = line.strip_prefix(SUMMARY) {
        return in_summary(fields.strip_suffix('}')?);
    }
    let verdict = line.strip_prefix("kmemleak: ")?;
    match verdict.strip_prefix("remembered ") {
        Some(remembered) => in_sum(remembered.split_once(", and ")?.0),
        None => in_sum(verdict),
    }
}

/// The verdict in `N unreferenced objects (B bytes)`, or in that with `, S suspects, U unrecorded` behind it.
fn in_sum(sum: &str) -> Option<Verdict> {
    let (sum, suspects) = match sum.split_once("), ") {
        Some((sum, rest)) => (sum, in_suspects(rest)?),
        None => (sum.strip_suffix(')')?, 0),
    };
    let (objects, rest) = sum.split_once(" unreferenced object")?;
    let bytes = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(" (")?;
    let bytes = bytes
        .strip_suffix(" bytes")
        .or(bytes.strip_suffix(" byte"))?;
    bytes.parse::<u64>().ok()?;
    Some(Verdict::of(objects.parse().ok()?, suspects))
}

/// The number of suspects in `S suspects, U unrecorded`.
fn in_suspects(text: &str) -> Option<u64> {
    let (suspects, unrecorded) = text.split_once(", ")?;
    let unrecorded = unrecorded.strip_suffix(" unrecorded")?;
    unrecorded.parse::<u64>().ok()?;
    let suspects = suspects
        .strip_suffix(" suspects")
        .or(suspects.strip_suffix(" suspect"))?;
    suspects.parse().ok()
}

/// The verdict in a summary's fields. Where it is not said how the objects were found there was no check.
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
    // Where all was recorded there need be none, and no field.
    let suspects = value(r#""suspects":"#).and_then(|suspects| suspects.parse().ok());
    Some(Verdict::of(objects, suspects.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::Verdict::{Clean, Leaks, Suspects};

    fn last(output: &str) -> Option<Verdict> {
        let mut watch = LeakWatch::default();
        // In pieces, as a pipe has it.
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

    /// As `kmemleak/src/report/json.rs` writes it.
    fn summary(how: &str, reason: &str, objects: &str) -> String {
        format!(
            "{{\"schema\":1,\"kind\":\"summary\",\"how\":{how},\"passes\":1,\"reason\":{reason},\
             \"objects\":{objects},\"bytes\":96,\"direct_objects\":1,\"new_objects\":7,\
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
            summary("\"stopped\"", "null", "3").replace("\"schema\":1", "\"schema\":2"),
            summary("\"stopped\"", "null", "3").replace('}', ""),
            "{\"schema\":1,\"kind\":\"error\",\"error\":\"asked to stop\"}".into(),
        ] {
            assert_eq!(last(&format!("{line}\n")), None, "{line}");
        }
    }

    #[test]
    fn suspects_are_no_leaks_and_not_nothing() {
        let sum = |objects: &str, suspects: &str| {
            format!("kmemleak: {objects} (80 bytes), {suspects}, 1 unrecorded\r\n")
        };
        let none = "0 unreferenced objects";
        assert_eq!(last(&sum(none, "399 suspects")), Some(Suspects));
        assert_eq!(last(&sum(none, "1 suspect")), Some(Suspects));
        assert_eq!(last(&sum(none, "0 suspects")), Some(Clean));
        let both = sum("2 unreferenced objects", "3 suspects");
        assert_eq!(last(&both), Some(Leaks));
        let clean = "kmemleak: 0 unreferenced objects (0 bytes)\n";
        assert_eq!(last(&format!("{both}{clean}")), Some(Clean));
        assert_eq!(
            last(&format!("{clean}{}", sum(none, "2 suspects"))),
            Some(Suspects)
        );
        for line in [
            "kmemleak: 0 unreferenced objects (0 bytes), many suspects, 1 unrecorded\n",
            "kmemleak: 0 unreferenced objects (0 bytes), 2 suspects, some unrecorded\n",
            "kmemleak: 0 unreferenced objects (0 bytes), 2 suspects\n",
            "kmemleak: 0 unreferenced objects (0 bytes), 2 suspects, 1 unrecorded, 3 more\n",
        ] {
            assert_eq!(last(line), None, "{line}");
        }
    }

    #[test]
    fn suspects_in_a_summary() {
        let with = |objects, suspects: &str| {
            let last_field = format!("\"suspects\":{suspects},\"unrecorded\":2");
            let line = summary("\"stopped\"", "null", objects);
            last(&format!(
                "{}\n",
                line.replace("\"unrecorded\":0", &last_field)
            ))
        };
        assert_eq!(with("0", "399"), Some(Suspects));
        assert_eq!(with("0", "0"), Some(Clean));
        assert_eq!(with("1", "399"), Some(Leaks));
        assert_eq!(with("0", "null"), Some(Clean));
        // As the last field, too.
        let line = summary("\"stopped\"", "null", "0");
        let line = line.replace("\"unrecorded\":0", "\"unrecorded\":1,\"suspects\":7");
        assert_eq!(last(&format!("{line}\n")), Some(Suspects));
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
        assert_eq!(last(uncertain), Some(Suspects));
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
