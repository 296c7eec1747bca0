//! The leak detector's verdict in the guest's output.
//!
//! Each check ends with one line that has its sum; `kmemleak/FORMATS.md` is the reference. The last one
//! counts, whichever form it has:
//!
//! - `kmemleak: N unreferenced objects (B bytes)`,
//! - as JSON `{"schema":1,"kind":"summary",…,"objects":N,…}`,
//! - of a check that is there to be compared with, `kmemleak: remembered N unreferenced objects (B bytes), and …`.

/// Follows the output and remembers the last verdict.
#[derive(Debug, Default)]
pub struct LeakWatch {
    line: Vec<u8>,
    last: Option<u64>,
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

    /// The number of unreferenced objects in the last verdict, if there was one.
    pub fn last(&self) -> Option<u64> {
        self.last
    }
}

/// How a verdict begins that is JSON.
const SUMMARY: &str = r#"{"schema":1,"kind":"summary","#;

/// The number of objects, if the line is a verdict. It may have been written over an erased prompt; but
/// what somebody types after a prompt is none.
fn parse(line: &str) -> Option<u64> {
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

/// The number of objects in `N unreferenced objects (B bytes)`.
fn in_sum(sum: &str) -> Option<u64> {
    let (objects, rest) = sum.split_once(" unreferenced object")?;
    let bytes = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(" (")?;
    let bytes = bytes
        .strip_suffix(" bytes)")
        .or(bytes.strip_suffix(" byte)"))?;
    bytes.parse::<u64>().ok()?;
    objects.parse().ok()
}

/// The number of objects in a summary's fields. Where it is not said how they were found there was no check.
/// Inside of text no name of a field is found: its quotation marks would be escaped.
fn in_summary(fields: &str) -> Option<u64> {
    let value = |field: &str| {
        let (_, rest) = fields.split_once(field)?;
        rest.split(',').next()
    };
    if value(r#""how":"#)? == "null" {
        return None;
    }
    value(r#""objects":"#)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(output: &str) -> Option<u64> {
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
        assert_eq!(last(output), Some(0));
    }

    #[test]
    fn one_object_is_singular() {
        assert_eq!(last("kmemleak: 1 unreferenced object (1 byte)\n"), Some(1));
    }

    #[test]
    fn it_may_be_written_over_a_prompt() {
        let output = "> kmem\r\x1b[Kkmemleak: 3 unreferenced objects (96 bytes)\r\n> kmem";
        assert_eq!(last(output), Some(3));
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
        assert_eq!(last(&json("3")), Some(3));
        assert_eq!(last(&format!("{clean}{}", json("3"))), Some(3));
        assert_eq!(last(&format!("{}{clean}", json("3"))), Some(0));
        assert_eq!(last(&format!("> kmem\r\x1b[K{}", json("3"))), Some(3));
        let reason = "\"so \\\"objects\\\":9, \\\"how\\\":null\"";
        let repeated = format!("{}\n", summary("\"repeated\"", reason, "4"));
        assert_eq!(last(&repeated), Some(4));
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
    fn what_is_remembered_was_checked() {
        let mark = |objects| {
            format!(
                "kmemleak: remembered {objects} (80 bytes), and what is alive at each call site\n"
            )
        };
        assert_eq!(last(&mark("2 unreferenced objects")), Some(2));
        assert_eq!(last(&mark("1 unreferenced object")), Some(1));
        assert_eq!(last(&mark("2 objects")), None);
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
