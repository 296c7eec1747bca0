//! The lines that were typed before, as many as fit.

use crate::text::Text;

/// Lines, oldest first, each with a line feed behind it.
#[derive(Clone, Debug)]
pub(crate) struct History<const N: usize>(Text<N>);

impl<const N: usize> History<N> {
    pub(crate) const fn new() -> Self {
        Self(Text::new())
    }

    /// Adds a line, unless it is empty, the same as the last one, or longer than all there is. Forgets the oldest ones for it.
    pub(crate) fn add(&mut self, line: &str) {
        if line.trim().is_empty() || self.back(1) == Some(line) || line.len() >= N {
            return;
        }
        while self.0.len() + line.len() >= N {
            let oldest = self.0.as_str().find('\n').map_or(self.0.len(), |at| at + 1);
            // Nothing is added, so it fits.
            let _ = self.0.replace(0..oldest, "");
        }
        let _ = self.0.push(line).and_then(|()| self.0.push("\n"));
    }

    /// The line that was added so many lines ago; the last one is 1.
    pub(crate) fn back(&self, ago: usize) -> Option<&str> {
        self.lines().nth_back(ago.checked_sub(1)?)
    }

    /// The first line with that text in it, of those added more than `ago` lines ago: how long ago, and where in it the text is.
    pub(crate) fn find(&self, text: &str, ago: usize) -> Option<(usize, usize)> {
        let older = self.lines().rev().enumerate().skip(ago);
        let mut found = older.filter_map(|(before, line)| Some((before + 1, line.rfind(text)?)));
        found.next()
    }

    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.as_str().split_terminator('\n')
    }
}
