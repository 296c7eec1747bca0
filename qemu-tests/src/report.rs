//! The detector's report, read back.

use crate::machines::Failure;

/// An object that a report names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its address, as it is written.
    pub start: String,
    /// Its bytes.
    pub size: u64,
    /// The lines of its backtrace, innermost first.
    pub backtrace: Vec<String>,
}

impl Object {
    /// Whether the function is in the backtrace, with the file that it is in and a line of it.
    pub fn is_from(&self, function: &str, file: &str) -> bool {
        self.backtrace.iter().any(|line| {
            let place = line
                .strip_prefix(function)
                .and_then(|rest| rest.strip_prefix("+0x"))
                .and_then(|rest| rest.split_once(" ("))
                .and_then(|(_, place)| place.strip_prefix(file)?.strip_prefix(':'));
            place.is_some_and(|line| {
                let number = line.trim_end_matches(')');
                number.parse::<u32>().is_ok()
            })
        })
    }
}

/// What the lines of a backtrace belong to.
enum Frames {
    /// There is no backtrace at the moment.
    None,
    /// To the object that was named last.
    Object,
    /// To all objects of the group that comes.
    Group,
}

/// Reads the report of a check (`scan --all --full`: what leaders own is listed as well): its objects, of which there must be as many as
/// its last line says. An object of a group has the group's backtrace.
pub fn parse(text: &str) -> Result<Vec<Object>, Failure> {
    let mut objects: Vec<Object> = Vec::new();
    let mut group: Vec<String> = Vec::new();
    let mut frames = Frames::None;
    let mut in_group = false;
    let mut verdict = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("unreferenced object ") {
            let (start, rest) = rest.split_once(" (size ").ok_or(line)?;
            let (size, _) = rest.split_once(')').ok_or(line)?;
            objects.push(Object {
                start: start.into(),
                size: size.parse()?,
                backtrace: Vec::new(),
            });
            (frames, in_group) = (Frames::None, false);
        } else if line.starts_with("group of ") {
            group.clear();
            in_group = true;
        } else if let Some(rest) = line.strip_prefix("kmemleak: ") {
            // Other lines tell what the check has cost, and the like.
            if let Some((count, _)) = rest.split_once(" unreferenced object") {
                verdict = Some(count.parse::<usize>()?);
            }
        } else if let Some(rest) = line.strip_prefix("  backtrace ") {
            frames = match in_group {
                true => Frames::Group,
                false => Frames::Object,
            };
            if rest.ends_with("): as above") {
                let object = objects.last_mut().ok_or(line)?;
                object.backtrace.clone_from(&group);
            }
        } else if let Some(frame) = line.strip_prefix("    ") {
            match frames {
                Frames::None => {}
                Frames::Object => objects.last_mut().ok_or(line)?.backtrace.push(frame.into()),
                Frames::Group => group.push(frame.into()),
            }
        }
    }
    match verdict {
        Some(count) if count == objects.len() => Ok(objects),
        Some(count) => Err(format!("{count} objects are not {}: {text}", objects.len()).into()),
        None => Err(format!("no verdict: {text}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "unreferenced object 0xffff9c0000a3e2c0 (size 64), #3:
  comm \"shell\", pid 3, cpu 1, age 12.480s
  hex dump (first 16 bytes):
    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk
  backtrace (crc 60d3b1a0):
    kernel::leak::forgotten+0x4c/0x90 (kernel/src/leak.rs:41)
    kernel::start+0x1/0x2
";

    #[test]
    fn a_report_is_read() {
        let report = format!("{REPORT}kmemleak: 1 unreferenced object (64 bytes)\n");
        let objects = parse(&report).unwrap();
        let [object] = &objects[..] else {
            panic!("{objects:?}");
        };
        assert_eq!((&*object.start, object.size), ("0xffff9c0000a3e2c0", 64));
        assert_eq!(object.backtrace.len(), 2, "the dump is no frame");
        assert!(object.is_from("kernel::leak::forgotten", "kernel/src/leak.rs"));
        assert!(!object.is_from("kernel::leak::forgot", "kernel/src/leak.rs"));
        assert!(!object.is_from("kernel::leak::forgotten", "kernel/src/lea"));
        assert!(!object.is_from("kernel::start", ""), "without a line");
    }

    #[test]
    fn objects_of_a_group_have_its_backtrace() {
        const GROUP: &str = "group of 2 unreferenced objects (128 bytes), age 0.1s to 0.2s:
  backtrace (crc 60d3b1a0):
    kernel::lost+0x1/0x2 (kernel/src/lost.rs:3)
unreferenced object 0xffff9c0000a3e2c0 (size 64):
  hex dump (first 16 bytes):
    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk
  backtrace (crc 60d3b1a0): as above
unreferenced object 0xffff9c0000a3e300 (size 64):
  backtrace (crc 60d3b1a0): as above
";
        let report = format!(
            "{GROUP}{REPORT}kmemleak: 3 leaders (192 bytes) from 2 call stacks\nkmemleak: 3 unreferenced objects (192 bytes)\n"
        );
        let objects = parse(&report).unwrap();
        assert_eq!(objects.len(), 3);
        let of_group = |object: &&Object| object.is_from("kernel::lost", "kernel/src/lost.rs");
        assert_eq!(objects.iter().filter(of_group).count(), 2);
        assert_eq!(objects[1].backtrace.len(), 1);
        assert_eq!(objects[2].backtrace.len(), 2);
    }

    #[test]
    fn a_verdict_must_be_there_and_agree() {
        assert!(parse(REPORT).is_err());
        for count in ["0 unreferenced objects", "2 unreferenced objects"] {
            assert!(parse(&format!("{REPORT}kmemleak: {count} (0 bytes)\n")).is_err());
        }
        let nothing = parse("kmemleak: 0 unreferenced objects (0 bytes)\n").unwrap();
        assert_eq!(nothing, []);
    }
}
