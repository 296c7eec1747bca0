//! Completion: what can stand where the cursor is.
//!
//! The caller gives a function that offers words, in any order, and any word more than once; words that do not begin with what
//! was typed are left out. Only the beginning that all words have in common is kept, so a list of hundreds of words takes no
//! memory: to list the words in order, the function is called once for each word.

use core::cmp::Ordering;
use core::fmt::{self, Write};

use crate::screen::width;
use crate::text::Text;

/// The longest word that is offered. Longer ones are left out.
pub(crate) const WORD_LEN: usize = 255;

/// The most words that a list shows.
const MOST: usize = 120;

/// Offers words that can stand where the cursor is.
pub type Offer<'o> = dyn FnMut(&mut dyn FnMut(&str)) + 'o;

/// The words that can stand where the cursor is.
pub struct Completion<'w> {
    /// What was typed of the word.
    word: &'w str,
    /// The beginning that all offered words have in common.
    common: Text<WORD_LEN>,
    offered: usize,
    /// Columns of the widest word.
    widest: usize,
}

impl<'w> Completion<'w> {
    /// Asks what can stand behind `before`, which is the line up to the cursor.
    pub fn of(before: &'w str, offer: &mut Offer<'_>) -> Self {
        let word = before
            .rsplit(char::is_whitespace)
            .next()
            .unwrap_or_default();
        let mut all = Self {
            word,
            common: Text::new(),
            offered: 0,
            widest: 0,
        };
        offer(&mut |candidate| all.take(candidate));
        all
    }

    fn fits(&self, candidate: &str) -> bool {
        candidate.starts_with(self.word) && candidate.len() <= WORD_LEN
    }

    fn take(&mut self, candidate: &str) {
        if !self.fits(candidate) {
            return;
        }
        self.widest = self.widest.max(columns(candidate));
        let common = self.common.as_str();
        if self.offered == 0 {
            // It was looked at whether it fits.
            let _ = self.common.set(candidate);
            self.offered = 1;
        } else if common != candidate {
            let both = common.char_indices().zip(candidate.chars());
            let same = both.take_while(|((_, one), other)| one == other);
            let len = same.last().map_or(0, |((at, one), _)| at + one.len_utf8());
            let end = common.len();
            // Nothing is added.
            let _ = self.common.replace(len..end, "");
            self.offered = 2;
        }
    }

    /// Whether nothing can stand there.
    pub fn is_empty(&self) -> bool {
        self.offered == 0
    }

    /// The beginning that all the words have in common, without what was typed.
    pub(crate) fn rest(&self) -> &str {
        self.common
            .as_str()
            .get(self.word.len()..)
            .unwrap_or_default()
    }

    /// Whether exactly one word was offered.
    pub(crate) fn is_single(&self) -> bool {
        self.offered == 1
    }

    /// Lists the words in order, each once, as many in a row as fit into so many columns.
    pub fn list(&self, columns: usize, offer: &mut Offer<'_>, out: &mut dyn Write) -> fmt::Result {
        let in_row = (columns.saturating_sub(1) / (self.widest + 2)).max(1);
        let mut last = Text::<WORD_LEN>::new();
        for count in 0..=MOST {
            let Some(next) = self.next_after(last.as_str(), offer) else {
                return if count % in_row == 0 {
                    Ok(())
                } else {
                    out.write_char('\n')
                };
            };
            if count == MOST {
                let start = if count % in_row == 0 { "" } else { "\n" };
                return writeln!(out, "{start}... and more");
            }
            let word = next.as_str();
            out.write_str(word)?;
            if (count + 1) % in_row == 0 {
                out.write_char('\n')?;
            } else {
                (self::columns(word)..self.widest + 2).try_for_each(|_| out.write_char(' '))?;
            }
            last = next;
        }
        Ok(())
    }

    /// The first word in order behind that one; an empty text stands before all.
    fn next_after(&self, last: &str, offer: &mut Offer<'_>) -> Option<Text<WORD_LEN>> {
        let mut next: Option<Text<WORD_LEN>> = None;
        offer(&mut |candidate| {
            let is_behind = !candidate.is_empty() && in_order(last, candidate) == Ordering::Less;
            let best = next.as_ref().map(Text::as_str);
            if self.fits(candidate)
                && is_behind
                && best.is_none_or(|best| in_order(candidate, best) == Ordering::Less)
            {
                let mut text = Text::new();
                // It was looked at whether it fits.
                let _ = text.set(candidate);
                next = Some(text);
            }
        });
        next
    }
}

/// The order of two words: of the alphabet; numbers, with or without a sign before them, are ordered by value.
fn in_order(one: &str, other: &str) -> Ordering {
    let is_number = |text: &str| {
        let digits = text.strip_prefix('#').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let by_value = is_number(one) && is_number(other);
    let len = |text: &str| if by_value { text.len() } else { 0 };
    len(one).cmp(&len(other)).then_with(|| one.cmp(other))
}

fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}
