//! Answers held against what is expected, line by line.
//!
//! A line that is expected may have `…` in it, which stands for any text: for addresses, times and whatever else is
//! another each time.

use crate::machines::Failure;

/// Stands for any text.
pub const ANY: char = '…';

/// The text must have these lines, and no other.
pub fn expect_lines(text: &str, expected: &[&str]) -> Result<(), Failure> {
    let lines: Vec<_> = text.lines().collect();
    for (number, (line, expected)) in lines.iter().zip(expected).enumerate() {
        if !matches(line, expected) {
            let number = number + 1;
            return Err(format!("line {number}: {line:?} is not {expected:?}, in:\n{text}").into());
        }
    }
    match lines.len() == expected.len() {
        true => Ok(()),
        false => Err(format!("{} lines, not {}:\n{text}", lines.len(), expected.len()).into()),
    }
}

/// Whether a line is as expected.
fn matches(line: &str, expected: &str) -> bool {
    let Some((first, rest)) = expected.split_once(ANY) else {
        return line == expected;
    };
    let Some(mut line) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split(ANY).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return line.ends_with(part);
        }
        let Some((_, after)) = line.split_once(part) else {
            return false;
        };
        line = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_any_text() {
        for (line, expected) in [
            ("pid 5, cpu 0", "pid …, cpu …"),
            ("pid 5, cpu 0", "pid …"),
            ("pid 5, cpu 0", "…"),
            ("", "…"),
            ("aXbXc", "a…X…c"),
        ] {
            assert!(matches(line, expected), "{line:?} is {expected:?}");
        }
        for (line, expected) in [
            ("pid 5, cpu 0", "pid …, cpu 1"),
            ("pid 5, cpu 0", "pid …; cpu …"),
            ("pid 5", "pid 5 "),
            ("a", "a…a"),
        ] {
            assert!(!matches(line, expected), "{line:?} is not {expected:?}");
        }
    }

    #[test]
    fn all_lines_count() {
        assert!(expect_lines("a\nb\n", &["a", "…"]).is_ok());
        assert!(expect_lines("a\nb\n", &["a"]).is_err());
        assert!(expect_lines("a\n", &["a", "…"]).is_err());
        let error = expect_lines("a\nb\n", &["a", "c"]).unwrap_err().to_string();
        assert!(error.starts_with("line 2: \"b\" is not \"c\""), "{error}");
    }
}
