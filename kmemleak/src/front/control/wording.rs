//! The words for an answer to a wrong line: what would be right, and which word was probably meant.

use core::fmt::{self, Formatter};

/// Writes the values, with an "or" before the last one.
pub(super) fn write_one_of(
    all: impl Iterator<Item = &'static &'static str> + Clone,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let count = all.clone().count();
    for (place, one) in all.enumerate() {
        let before = match place {
            0 => "",
            _ if place + 1 == count => " or ",
            _ => ", ",
        };
        write!(f, "{before}{one}")?;
    }
    Ok(())
}

/// How many letters must be changed, added or taken away to turn one word into the other (Levenshtein), counted for words of up
/// to 15 letters.
pub(super) fn distance(one: &str, other: &str) -> usize {
    const MAX: usize = 15;
    let other = &other.as_bytes()[..other.len().min(MAX)];
    let mut row: [usize; MAX + 1] = core::array::from_fn(|at| at);
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, &wanted) in other.iter().enumerate() {
            let change = diagonal + usize::from(wanted != letter);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
