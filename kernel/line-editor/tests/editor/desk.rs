//! A terminal with somebody who types.

use std::fmt::{self, Write};
use std::num::NonZero;

use line_editor::{Completion, Editor, Event, Tab, Terminal};

/// What the terminal gets, as the kernel's console sends it.
#[derive(Clone, Default)]
pub struct Sent(pub String);

impl Write for Sent {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(&text.replace('\n', "\r\n"));
        Ok(())
    }
}

/// An editor of lines of 64 bytes, and a terminal.
pub struct Desk<const LINE: usize = 64> {
    pub editor: Editor<LINE, 200>,
    pub screen: vt100::Parser,
    /// What was sent to the terminal last.
    pub sent: String,
    /// What came of the lines.
    pub ended: Vec<Event>,
    /// The lines that were completed.
    pub lines: Vec<String>,
    /// The words that can be completed.
    pub words: &'static [&'static str],
}

impl<const LINE: usize> Desk<LINE> {
    pub fn new(columns: u16, rows: u16) -> Self {
        let mut editor = Editor::new("> ");
        editor.set_terminal(Some(Terminal { columns, rows }));
        let mut desk = Self {
            editor,
            screen: terminal(columns, rows),
            sent: String::new(),
            ended: Vec::new(),
            lines: Vec::new(),
            words: &[],
        };
        desk.with(|editor, sent| editor.begin(sent))
            .expect("a string takes it");
        desk
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Editor<LINE, 200>, &mut Sent) -> T) -> T {
        let mut sent = Sent::default();
        let result = act(&mut self.editor, &mut sent);
        self.screen.process(visible(&sent.0).as_bytes());
        self.sent = sent.0;
        result
    }

    pub fn byte(&mut self, byte: u8) {
        let event = self
            .with(|editor, sent| editor.byte(byte, sent))
            .expect("a string takes it");
        match event {
            Event::Edited => return,
            Event::Tab(tab) => return self.complete(tab),
            Event::Complete => self.lines.push(self.editor.line().into()),
            _ => {}
        }
        self.ended.push(event);
        self.with(|editor, sent| editor.begin(sent))
            .expect("a string takes it");
    }

    pub fn keys(&mut self, keys: &str) -> &mut Self {
        keys.bytes().for_each(|byte| self.byte(byte));
        self
    }

    fn complete(&mut self, tab: Tab) {
        let before = self.editor.before_cursor().to_owned();
        let words = self.words;
        let mut offer = |take: &mut dyn FnMut(&str)| words.iter().for_each(|word| take(word));
        let completion = Completion::of(&before, &mut offer);
        if tab == Tab::First {
            self.with(|editor, sent| editor.complete(&completion, sent))
                .expect("a string takes it");
            return;
        }
        let columns = self.screen.screen().size().1.get();
        let mut list = String::new();
        completion
            .list(columns.into(), &mut offer, &mut list)
            .expect("a string takes it");
        self.announce(&list);
    }

    /// Something else is written while the line is typed: whole lines.
    pub fn announce(&mut self, text: &str) {
        self.with(|editor, sent| {
            editor.hide(sent)?;
            sent.write_str(text)?;
            editor.show(sent)
        })
        .expect("a string takes it");
    }

    /// The rows of the screen, without blanks at their ends, down to the last that has text, and where the cursor is.
    pub fn shown(&self) -> (Vec<String>, (u16, u16)) {
        shown(self.screen.screen())
    }

    /// The screen must show this, with the cursor where the `|` is.
    #[track_caller]
    pub fn expect(&mut self, expected: &[&str]) -> &mut Self {
        let (rows, (row, column)) = self.shown();
        let with_cursor = |(at, text): (usize, &String)| match at == usize::from(row) {
            true => mark(text, column.into()),
            false => text.clone(),
        };
        let marked: Vec<_> = rows.iter().enumerate().map(with_cursor).collect();
        assert_eq!(marked, expected);
        self
    }

    /// The line must be this one, with the cursor where the `|` is.
    #[track_caller]
    pub fn expect_line(&mut self, expected: &str) -> &mut Self {
        let cursor = self.editor.before_cursor().len();
        let mut line = self.editor.line().to_owned();
        line.insert(cursor, '|');
        assert_eq!(line, expected);
        self
    }
}

/// What the terminal emulator is given: it shows nothing for U+FFFD, where terminals show a sign.
pub fn visible(sent: &str) -> String {
    sent.replace('\u{fffd}', "\u{bf}")
}

/// A terminal of that size.
pub fn terminal(columns: u16, rows: u16) -> vt100::Parser {
    let size = |of| NonZero::new(of).expect("a terminal has rows and columns");
    vt100::Parser::new(size(rows), size(columns), 0)
}

pub fn shown(screen: &vt100::Screen) -> (Vec<String>, (u16, u16)) {
    let (_, columns) = screen.size();
    let mut rows: Vec<String> = (screen.rows(0, columns.get()))
        .map(|row| row.trim_end().to_owned())
        .collect();
    let cursor = screen.cursor_position();
    while rows.len() > usize::from(cursor.0) + 1 && rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    (rows, cursor)
}

/// The text with a mark before this column; for rows of characters that take a column each.
fn mark(text: &str, column: usize) -> String {
    let mut characters: Vec<_> = text.chars().collect();
    while characters.len() < column {
        characters.push(' ');
    }
    characters.insert(column, '|');
    characters.into_iter().collect()
}
