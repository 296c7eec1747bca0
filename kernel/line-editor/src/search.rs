//! Control-R: the search through the history, a letter at a time.
//!
//! There is always a match for what was typed of the search: a letter that would leave none is refused.

use core::fmt::{self, Write};

use crate::Editor;
use crate::keys::Key;
use crate::line::{Changed, Line};
use crate::text::Text;

/// The longest text that can be searched for.
const QUERY_LEN: usize = 64;

/// A search through the history.
#[derive(Clone, Debug)]
pub(crate) struct Search<const LINE: usize> {
    pub(crate) state: State,
    query: Text<QUERY_LEN>,
    /// The line before the search.
    before: Line<LINE>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Off,
    /// The match is the line that was typed so many lines ago; 0 if nothing is searched for yet.
    On {
        ago: usize,
    },
}

impl<const LINE: usize> Search<LINE> {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Off,
            query: Text::new(),
            before: Line::new(),
        }
    }

    pub(crate) fn query(&self) -> Option<&str> {
        (self.state != State::Off).then(|| self.query.as_str())
    }
}

impl<const LINE: usize, const HISTORY: usize> Editor<LINE, HISTORY> {
    pub(crate) fn begin_search(&mut self, out: &mut dyn Write) -> fmt::Result {
        self.search.query.clear();
        self.search.before.clone_from(&self.line);
        self.search.state = State::On { ago: 0 };
        self.draw(Changed::All, out)
    }

    /// A key while a search goes on. False if it ends the search, and then has its usual meaning.
    pub(crate) fn search_key(
        &mut self,
        key: Key,
        ago: usize,
        out: &mut dyn Write,
    ) -> Result<bool, fmt::Error> {
        match key {
            Key::Char(character) => self.extend_search(character, ago, out)?,
            Key::Backspace => self.shorten_search(out)?,
            Key::Search => match ago > 0 && self.look_for(ago) {
                true => self.draw(Changed::All, out)?,
                false => self.ring(out)?,
            },
            Key::Invalid | Key::Unknown => self.ring(out)?,
            Key::Leave | Key::Cancel => {
                self.search.state = State::Off;
                self.line.clone_from(&self.search.before);
                self.draw(Changed::All, out)?;
                return Ok(key == Key::Leave);
            }
            _ => {
                self.accept(ago);
                self.draw(Changed::All, out)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn extend_search(&mut self, character: char, ago: usize, out: &mut dyn Write) -> fmt::Result {
        let len = self.search.query.len();
        let added = self.search.query.push(character.encode_utf8(&mut [0; 4]));
        // The match may go on to match.
        if added.is_ok() && self.look_for(ago.saturating_sub(1)) {
            return self.draw(Changed::All, out);
        }
        let end = self.search.query.len();
        // Nothing is added, so it fits.
        let _ = self.search.query.replace(len..end, "");
        self.ring(out)
    }

    fn shorten_search(&mut self, out: &mut dyn Write) -> fmt::Result {
        let query = self.search.query.as_str();
        let Some((last, _)) = query.char_indices().next_back() else {
            return self.ring(out);
        };
        // Nothing is added, so it fits.
        let _ = self.search.query.replace(last..query.len(), "");
        if last == 0 || !self.look_for(0) {
            self.line.clone_from(&self.search.before);
            self.search.state = State::On { ago: 0 };
        }
        self.draw(Changed::All, out)
    }

    /// Makes the next match the line, of those typed more than `ago` lines ago. False if there is none.
    fn look_for(&mut self, ago: usize) -> bool {
        let Some((ago, at)) = self.history.find(self.search.query.as_str(), ago) else {
            return false;
        };
        let found = self.history.back(ago).unwrap_or_default();
        // Only lines that fitted are in the history.
        let _ = self.line.set(found).map(|()| self.line.go(at));
        self.search.state = State::On { ago };
        true
    }

    /// Keeps the match as the line that is being edited.
    fn accept(&mut self, ago: usize) {
        self.search.state = State::Off;
        if ago > 0 {
            if self.recalled == 0 {
                // As long as a line.
                let _ = self.draft.set(self.search.before.as_str());
            }
            self.recalled = ago;
        }
    }
}
