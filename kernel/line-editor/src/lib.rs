//! A line editor for a serial line: bytes in, screen text out, in memory of a fixed size.
//!
//! A state machine without a device, a clock or an allocator. [`Editor::byte`] takes a byte and writes what the screen needs to show
//! the line as it is then; it says when a line is complete. Its caller owns the device, and writes, waits and locks.
//!
//! Evaluated and not taken: `noline` 0.5 has no completion, no search and no way to write above the line, and counts each
//! character as a column; `embedded-cli` 0.2 knows no key but the arrows, Backspace and Tab, and redraws one row.
//!
//! | key | what |
//! | --- | --- |
//! | cursor keys, Ctrl-B, Ctrl-F, Home, End, Ctrl-A, Ctrl-E | move the cursor |
//! | Ctrl and left or right, Alt-B, Alt-F | move it by a word |
//! | Backspace, Delete, Ctrl-D | take a character away; Ctrl-D on an empty line is the end of the input |
//! | Ctrl-K, Ctrl-U, Ctrl-W, Alt-D, Alt-Backspace | take away the rest of the line, what is before the cursor, a word |
//! | Ctrl-Y | puts back what those have taken last |
//! | Ctrl-T | exchanges two characters |
//! | Up, Down, Ctrl-P, Ctrl-N | lines that were typed before |
//! | Ctrl-R | searches them: letters, Ctrl-R for an older one, Ctrl-G to give up |
//! | Ctrl-L | clears the screen |
//! | Tab | asks for a completion; on a plain line it is a blank |
//! | Ctrl-C | gives the line up |
//!
//! # Invariants
//!
//! - The caller gets a line exactly as it was typed, or not at all. Characters that do not fit are counted, and while there are
//!   any, the line can be shortened or given up, but not ended. Bytes that are not UTF-8 are shown as U+FFFD, and a line with one
//!   is refused.
//! - What was typed is always text in whole characters, and the cursor lies between two of them.
//! - What the screen shows depends on the line alone, not on how it came to be: a test compares.
//! - On a plain line, that is without a terminal, no escape sequence is written.
//!
//! The screen must be at the start of an empty row when [`Editor::begin`] or [`Editor::show`] is called. A line feed
//! means the start of the next row: `out` adds the carriage return.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod complete;
mod history;
mod keys;
mod line;
mod nearest;
mod screen;
mod search;
mod text;

use core::fmt::{self, Display, Formatter, Write};

pub use self::complete::{Completion, Offer};
use self::history::History;
use self::keys::{Decoder, Key};
use self::line::{Change, Changed, Line, Useless};
pub use self::nearest::{Nearest, nearest};
pub use self::screen::Terminal;
use self::screen::{Content, Screen};
use self::search::{Search, State};
use self::text::{Full, Text};

/// Signals that a key was not taken.
const BELL: char = '\x07';

/// Stands for bytes that are not UTF-8.
const FOREIGN: char = char::REPLACEMENT_CHARACTER;

/// What a byte has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The line goes on.
    Edited,
    /// The line is complete: [`Editor::line`] has it until [`Editor::begin`] begins the next one.
    Complete,
    /// The line was ended, but is refused and discarded.
    Refused(Refusal),
    /// The line was given up.
    Cancelled,
    /// The end of the input, at the beginning of a line.
    End,
    /// A completion is asked for: [`Editor::complete`] takes it.
    Tab(Tab),
}

/// How a completion is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// For the first time.
    First,
    /// At once again, since the last time nothing could be added.
    Again,
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More characters were typed than fit.
    TooLong {
        /// Characters that did not fit.
        characters: usize,
        /// The bytes that a line may have.
        most_bytes: usize,
    },
    /// It has bytes that are not UTF-8.
    Foreign {
        /// Number of such places.
        places: usize,
    },
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLong {
                characters,
                most_bytes,
            } => write!(
                f,
                "the line is too long by {characters} character{}: it may have {most_bytes} bytes, and nothing was done",
                plural(characters)
            ),
            Self::Foreign { places } => write!(
                f,
                "the line has {places} character{} that {} not UTF-8, shown as {FOREIGN}, and nothing was done",
                plural(places),
                if places == 1 { "is" } else { "are" }
            ),
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Whether there is a line on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No line is being typed.
    Idle,
    /// A line is being typed.
    Typing,
}

/// A line being typed, of up to `LINE` bytes, and the last `HISTORY` bytes of lines that were typed before.
#[derive(Clone, Debug)]
pub struct Editor<const LINE: usize, const HISTORY: usize> {
    prompt: &'static str,
    stage: Stage,
    /// How many callers hide the line.
    hidden: usize,
    decoder: Decoder,
    line: Line<LINE>,
    /// Characters at the cursor that did not fit.
    missing: usize,
    killed: Text<LINE>,
    history: History<HISTORY>,
    /// The line is one of the history, typed so many lines ago, perhaps changed since; 0 for a new one.
    recalled: usize,
    /// The new line, while one of the history is shown.
    draft: Text<LINE>,
    search: Search<LINE>,
    /// Whether the last key was a Tab that could add nothing.
    tab: Tab,
    screen: Screen,
}

impl<const LINE: usize, const HISTORY: usize> Editor<LINE, HISTORY> {
    /// An editor that shows this prompt, on a plain line. No line is being typed.
    pub const fn new(prompt: &'static str) -> Self {
        Self {
            prompt,
            stage: Stage::Idle,
            hidden: 0,
            decoder: Decoder::new(),
            line: Line::new(),
            missing: 0,
            killed: Text::new(),
            history: History::new(),
            recalled: 0,
            draft: Text::new(),
            search: Search::new(),
            tab: Tab::First,
            screen: Screen::new(),
        }
    }

    /// Sets what is at the other end: a terminal, or a plain line. To be called while no line is shown.
    pub fn set_terminal(&mut self, terminal: Option<Terminal>) {
        self.screen.set_terminal(terminal);
    }

    /// Begins a new line: shows the prompt.
    pub fn begin(&mut self, out: &mut dyn Write) -> fmt::Result {
        self.stage = Stage::Typing;
        self.line.clear();
        self.draft.clear();
        (self.missing, self.recalled, self.tab) = (0, 0, Tab::First);
        self.search.state = State::Off;
        self.screen.forget();
        self.draw(Changed::All, out)
    }

    /// What was typed of the line.
    pub fn line(&self) -> &str {
        self.line.as_str()
    }

    /// What was typed of the line before the cursor.
    pub fn before_cursor(&self) -> &str {
        self.line.before_cursor()
    }

    /// The lines that were typed before, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.history.lines()
    }

    /// Takes the line off the screen, so that something else can be written where it was. It comes back by [`Self::show`].
    /// Several callers may do so at once. Keys should wait: a line that is ended meanwhile ends in the middle of what is written.
    pub fn hide(&mut self, out: &mut dyn Write) -> fmt::Result {
        if self.is_shown() {
            self.screen.erase(out)?;
        }
        self.hidden += 1;
        Ok(())
    }

    /// Shows the line again, once each caller of [`Self::hide`] has called this.
    pub fn show(&mut self, out: &mut dyn Write) -> fmt::Result {
        self.hidden = self.hidden.saturating_sub(1);
        self.screen.forget();
        self.draw(Changed::All, out)
    }

    /// Whether any caller hides the line.
    pub fn is_hidden(&self) -> bool {
        self.hidden > 0
    }

    fn is_shown(&self) -> bool {
        self.stage == Stage::Typing && self.hidden == 0
    }

    /// Takes a typed byte.
    pub fn byte(&mut self, byte: u8, out: &mut dyn Write) -> Result<Event, fmt::Error> {
        let mut event = Event::Edited;
        for key in self.decoder.byte(byte).into_iter().flatten() {
            // Of two keys the first is never one that ends a line.
            event = self.key(key, out)?;
        }
        Ok(event)
    }

    fn key(&mut self, key: Key, out: &mut dyn Write) -> Result<Event, fmt::Error> {
        if let State::On { ago } = self.search.state
            && self.search_key(key, ago, out)?
        {
            return Ok(Event::Edited);
        }
        let tab = core::mem::replace(&mut self.tab, Tab::First);
        match key {
            Key::Enter => return self.enter(out),
            Key::Cancel => {
                self.end_line("^C", out)?;
                return Ok(Event::Cancelled);
            }
            Key::DeleteOrEnd if self.line.end() == 0 && self.missing == 0 => {
                self.end_line("", out)?;
                return Ok(Event::End);
            }
            Key::Tab if self.screen.is_terminal() && self.missing == 0 => {
                return Ok(Event::Tab(tab));
            }
            Key::ClearScreen => {
                if self.is_shown() {
                    self.screen.clear(out)?;
                }
                self.draw(Changed::All, out)?;
            }
            Key::Search if self.missing == 0 => self.begin_search(out)?,
            key => match self.edit(key) {
                Ok(changed) => {
                    self.draw(self.behind_prompt(changed), out)?;
                    if key == Key::Invalid {
                        self.ring(out)?;
                    }
                }
                Err(Useless) => self.ring(out)?,
            },
        }
        Ok(Event::Edited)
    }

    fn edit(&mut self, key: Key) -> Change {
        if self.missing > 0 {
            return self.edit_too_long(key);
        }
        let line = &mut self.line;
        match key {
            Key::Char(character) => self.insert(character),
            Key::Tab => self.insert(' '),
            Key::Invalid => self.insert(FOREIGN),
            Key::Left => line.go(line.left()),
            Key::Right => line.go(line.right()),
            Key::WordLeft => line.go(line.word_left()),
            Key::WordRight => line.go(line.word_right()),
            Key::Home => line.go(0),
            Key::End => line.go(line.end()),
            Key::Backspace => line.remove(line.left()..line.cursor()),
            Key::Delete | Key::DeleteOrEnd => line.remove(line.cursor()..line.right()),
            Key::KillToEnd => line.kill(line.cursor()..line.end(), &mut self.killed),
            Key::KillToStart => line.kill(0..line.cursor(), &mut self.killed),
            Key::KillBlankWord => {
                line.kill(line.blank_word_left()..line.cursor(), &mut self.killed)
            }
            Key::KillWordBack => line.kill(line.word_left()..line.cursor(), &mut self.killed),
            Key::KillWord => line.kill(line.cursor()..line.word_right(), &mut self.killed),
            Key::Yank if self.killed.len() == 0 => Err(Useless),
            Key::Yank => Ok(line.insert(self.killed.as_str())?),
            Key::Swap => line.swap(),
            Key::Up => self.recall(self.recalled + 1),
            Key::Down => self.recall(self.recalled.checked_sub(1).ok_or(Useless)?),
            _ => Err(Useless),
        }
    }

    /// A key while there are characters that did not fit. Where they belong is known, but not what they are.
    fn edit_too_long(&mut self, key: Key) -> Change {
        match key {
            Key::Char(_) | Key::Invalid => self.missing += 1,
            Key::Tab if !self.screen.is_terminal() => self.missing += 1,
            Key::Backspace => {
                self.missing -= 1;
                return Ok(Changed::Cursor);
            }
            Key::KillToStart => {
                self.missing = 0;
                self.line.clear();
                return Ok(Changed::All);
            }
            _ => {}
        }
        Err(Useless)
    }

    fn insert(&mut self, character: char) -> Change {
        let inserted = self.line.insert(character.encode_utf8(&mut [0; 4]));
        inserted.map_err(|Full| {
            self.missing = 1;
            Useless
        })
    }

    /// Shows the line that was typed so many lines ago; 0 is the new one.
    fn recall(&mut self, ago: usize) -> Change {
        if ago > 0 {
            let recalled = self.history.back(ago).ok_or(Useless)?;
            if self.recalled == 0 {
                self.draft.set(self.line.as_str())?;
            }
            self.line.set(recalled)?;
        } else {
            self.line.set(self.draft.as_str())?;
        }
        self.recalled = ago;
        Ok(Changed::All)
    }

    fn enter(&mut self, out: &mut dyn Write) -> Result<Event, fmt::Error> {
        self.end_line("", out)?;
        let places = self.line().matches(FOREIGN).count();
        let refusal = match (self.missing, places) {
            (0, 0) => {
                self.history.add(self.line.as_str());
                return Ok(Event::Complete);
            }
            (0, places) => Refusal::Foreign { places },
            (characters, _) => Refusal::TooLong {
                characters,
                most_bytes: LINE,
            },
        };
        self.line.clear();
        Ok(Event::Refused(refusal))
    }

    /// Goes on to a new row of the screen, below the whole line.
    fn end_line(&mut self, mark: &str, out: &mut dyn Write) -> fmt::Result {
        if self.is_shown() {
            // The cursor may be there already.
            let _ = self.line.go(self.line.end());
            self.draw(Changed::Cursor, out)?;
            match mark {
                "" => self.screen.finish(out)?,
                _ => writeln!(out, "{mark}")?,
            }
        }
        self.stage = Stage::Idle;
        Ok(())
    }

    /// Adds what all words of the completion have in common, and a blank if there is only one. The completion must be
    /// [of](Completion::of) what is [before the cursor](Self::before_cursor). Rings if nothing can be added.
    pub fn complete(
        &mut self,
        completion: &Completion<'_>,
        out: &mut dyn Write,
    ) -> Result<(), fmt::Error> {
        let blank = completion.is_single() && !self.line.is_before_blank();
        let mut added = Text::<LINE>::new();
        let fits = added.push(completion.rest());
        let fits = fits.and_then(|()| added.push(if blank { " " } else { "" }));
        let changed = match added.as_str() {
            "" => Ok(Changed::Cursor),
            text => fits.and_then(|()| self.line.insert(text)),
        };
        match changed {
            Ok(changed @ (Changed::From(_) | Changed::All)) => {
                self.draw(self.behind_prompt(changed), out)
            }
            // Nothing to add, or no room for it.
            Ok(Changed::Cursor) | Err(Full) => {
                self.tab = if completion.is_empty() {
                    Tab::First
                } else {
                    Tab::Again
                };
                self.ring(out)
            }
        }
    }

    /// A change of the line as one of what is shown.
    fn behind_prompt(&self, changed: Changed) -> Changed {
        match changed {
            Changed::Cursor | Changed::All => changed,
            Changed::From(from) => Changed::From(self.prompt.len() + from),
        }
    }

    fn draw(&mut self, changed: Changed, out: &mut dyn Write) -> fmt::Result {
        if !self.is_shown() {
            return Ok(());
        }
        let line = self.line.as_str();
        let parts = match self.search.query() {
            Some(query) => ["(search `", query, "`) ", line],
            None => [self.prompt, "", "", line],
        };
        let before = parts[..3].iter().map(|part| part.len()).sum::<usize>();
        let content = Content {
            parts,
            cursor: before + self.line.cursor(),
        };
        self.screen.draw(&content, changed, out)
    }

    fn ring(&self, out: &mut dyn Write) -> fmt::Result {
        match self.is_shown() {
            true => out.write_char(BELL),
            false => Ok(()),
        }
    }
}
