//! The leak detector's verdict in the guest's output.
//!
//! Each check ends with one line for machines: `kmemleak: N unreferenced objects (B bytes)`. The last
//! one counts.

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

/// The number of objects, if the line is a verdict. It may have been written over an erased prompt; but
/// what somebody types after a prompt is none.
fn parse(line: &str) -> Option<u64> {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next()?;
    let line = line.strip_prefix("\x1b[K").unwrap_or(line);
    let verdict = line.strip_prefix("kmemleak: ")?;
    let (objects, rest) = verdict.split_once(" unreferenced object")?;
    let bytes = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(" (")?;
    let bytes = bytes
        .strip_suffix(" bytes)")
        .or(bytes.strip_suffix(" byte)"))?;
    bytes.parse::<u64>().ok()?;
    objects.parse().ok()
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
