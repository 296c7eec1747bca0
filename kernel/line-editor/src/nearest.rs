//! The word that was probably meant by a mistyped one.

use crate::complete::{Offer, WORD_LEN};
use crate::text::Text;

/// The longest distance at which a word is still taken for another one. In short words, half of the letters must be right.
const MOST: usize = 2;

/// The word that is nearest to one that was typed.
#[derive(Clone, Debug)]
pub struct Nearest {
    word: Text<WORD_LEN>,
    /// How many letters must be changed, added or taken away to turn one word into the other (Levenshtein).
    pub distance: usize,
}

impl Nearest {
    /// The word.
    pub fn word(&self) -> &str {
        self.word.as_str()
    }
}

/// The one of the offered words that is nearest to what was typed, if any is near.
pub fn nearest(typed: &str, offer: &mut Offer<'_>) -> Option<Nearest> {
    let most = MOST.min(typed.chars().count() / 2);
    let mut best: Option<Nearest> = None;
    offer(&mut |word| {
        let distance = distance(typed, word);
        if distance <= most && best.as_ref().is_none_or(|best| distance < best.distance) {
            let mut text = Text::new();
            if text.set(word).is_ok() {
                best = Some(Nearest {
                    word: text,
                    distance,
                });
            }
        }
    });
    best
}

/// The distance, at least; words of more letters than there is room for are far from all others.
fn distance(one: &str, other: &str) -> usize {
    const ROOM: usize = 32;
    let count = other.chars().count();
    if count >= ROOM || one.chars().count() >= ROOM {
        return usize::MAX;
    }
    let mut row: [usize; ROOM] = core::array::from_fn(|at| at);
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], line + 1);
        for (column, wanted) in other.chars().enumerate() {
            let change = diagonal + usize::from(wanted != letter);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[count]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(typed: &str) -> Option<(String, usize)> {
        let words = ["scan", "sites", "site", "holders", "ps", "mem"];
        let found = nearest(typed, &mut |take| words.into_iter().for_each(take));
        found.map(|found| (found.word().to_owned(), found.distance))
    }

    #[test]
    fn the_nearest_word_is_meant() {
        let is = |word: &str, distance| Some((word.to_owned(), distance));
        assert_eq!(meant("scan"), is("scan", 0));
        assert_eq!(meant("scam"), is("scan", 1));
        assert_eq!(meant("can"), is("scan", 1));
        assert_eq!(meant("hodlers"), is("holders", 2));
        assert_eq!(meant("sitess"), is("sites", 1));
        assert_eq!(meant("pss"), is("ps", 1));
        assert_eq!(meant("sc\u{e4}n"), is("scan", 1));
    }

    #[test]
    fn nothing_is_meant_where_all_is_far() {
        assert_eq!(meant("frobnicate"), None);
        assert_eq!(meant("x"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"scan".repeat(20)), None);
    }
}
