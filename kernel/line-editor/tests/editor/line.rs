//! The editor as simply as can be: a vector of characters, a cursor, lists of lines. It knows keys, not bytes, and no screen.

/// A key, or something that others do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    Text(char),
    Foreign,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Backspace,
    Delete,
    KillToEnd,
    KillToStart,
    KillBlankWord,
    KillWordBack,
    KillWord,
    Yank,
    Swap,
    Up,
    Down,
    Search,
    Leave,
    Enter,
    Cancel,
    Announce,
}

use Key::*;

/// Keys and what they send.
pub const KEYS: [(Key, &[u8]); 36] = [
    (Left, b"\x1b[D"),
    (Left, b"\x1bOD"),
    (Left, b"\x02"),
    (Right, b"\x1b[C"),
    (Right, b"\x06"),
    (WordLeft, b"\x1b[1;5D"),
    (WordLeft, b"\x1bb"),
    (WordRight, b"\x1b[1;5C"),
    (WordRight, b"\x1bf"),
    (Home, b"\x1b[H"),
    (Home, b"\x01"),
    (End, b"\x1b[4~"),
    (End, b"\x05"),
    (Backspace, b"\x7f"),
    (Backspace, b"\x08"),
    (Delete, b"\x1b[3~"),
    (KillToEnd, b"\x0b"),
    (KillToStart, b"\x15"),
    (KillBlankWord, b"\x17"),
    (KillWordBack, b"\x1b\x7f"),
    (KillWord, b"\x1bd"),
    (Yank, b"\x19"),
    (Yank, b"\x19"),
    (Swap, b"\x14"),
    (Up, b"\x1b[A"),
    (Up, b"\x10"),
    (Down, b"\x1b[B"),
    (Down, b"\x0e"),
    (Search, b"\x12"),
    (Search, b"\x12"),
    (Leave, b"\x07"),
    (Enter, b"\r"),
    (Enter, b"\n"),
    (Cancel, b"\x03"),
    (Announce, b""),
    (Foreign, b"\xff"),
];

/// What an ended line was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Line(String),
    NoLine,
}

#[derive(Clone, Default)]
struct Found {
    query: String,
    ago: usize,
    before: (Vec<char>, usize),
}

#[derive(Default)]
pub struct Model {
    limit: usize,
    history_limit: usize,
    pub text: Vec<char>,
    pub cursor: usize,
    pub missing: usize,
    killed: Vec<char>,
    /// Newest first.
    pub history: Vec<String>,
    recalled: usize,
    draft: Vec<char>,
    search: Option<Found>,
    pub ended: Vec<Ended>,
}

impl Model {
    pub fn new(limit: usize, history_limit: usize) -> Self {
        Self {
            limit,
            history_limit,
            ..Self::default()
        }
    }

    pub fn line(&self) -> String {
        self.text.iter().collect()
    }

    fn bytes(&self) -> usize {
        self.line().len()
    }

    pub fn key(&mut self, key: Key) {
        if key == Announce {
            return;
        }
        if let Some(found) = self.search.take() {
            match key {
                Text(letter) => return self.narrow(found, letter),
                Search => {
                    let older = if found.ago == 0 {
                        None
                    } else {
                        self.find(&found.query, found.ago)
                    };
                    return self.found(found, older);
                }
                Backspace => return self.widen(found),
                Foreign => return self.search = Some(found),
                Leave | Cancel => {
                    (self.text, self.cursor) = found.before;
                    if key == Leave {
                        return;
                    }
                }
                _ => {
                    if found.ago > 0 {
                        if self.recalled == 0 {
                            self.draft = found.before.0;
                        }
                        self.recalled = found.ago;
                    }
                }
            }
        }
        match key {
            Enter => return self.enter(),
            Cancel => return self.next(Ended::NoLine),
            _ if self.missing > 0 => return self.too_long(key),
            _ => {}
        }
        let (at, len) = (self.cursor, self.text.len());
        match key {
            Text(letter) => self.type_in(letter),
            Foreign => self.type_in('\u{fffd}'),
            Left => self.cursor = at.saturating_sub(1),
            Right => self.cursor = len.min(at + 1),
            WordLeft => self.cursor = self.word_left(),
            WordRight => self.cursor = self.word_right(),
            Home => self.cursor = 0,
            End => self.cursor = len,
            Backspace => drop(self.cut(at.saturating_sub(1), at)),
            Delete => drop(self.cut(at, len.min(at + 1))),
            KillToEnd => self.kill(at, len),
            KillToStart => self.kill(0, at),
            KillBlankWord => self.kill(self.blank_word_left(), at),
            KillWordBack => self.kill(self.word_left(), at),
            KillWord => self.kill(at, self.word_right()),
            Yank => self.yank(),
            Swap if at > 0 && len > 1 => {
                let second = at.min(len - 1);
                self.text.swap(second - 1, second);
                self.cursor = second + 1;
            }
            Up => self.recall(self.recalled + 1),
            Down if self.recalled > 0 => self.recall(self.recalled - 1),
            Search => {
                self.search = Some(Found {
                    before: (self.text.clone(), at),
                    ..Found::default()
                })
            }
            _ => {}
        }
    }

    fn type_in(&mut self, letter: char) {
        if self.bytes() + letter.len_utf8() > self.limit {
            self.missing = 1;
        } else {
            self.text.insert(self.cursor, letter);
            self.cursor += 1;
        }
    }

    fn too_long(&mut self, key: Key) {
        match key {
            Text(_) | Foreign => self.missing += 1,
            Backspace => self.missing -= 1,
            KillToStart => {
                self.missing = 0;
                self.text.clear();
                self.cursor = 0;
            }
            _ => {}
        }
    }

    fn cut(&mut self, from: usize, to: usize) -> Vec<char> {
        self.cursor = from;
        self.text.drain(from..to).collect()
    }

    fn kill(&mut self, from: usize, to: usize) {
        if from < to {
            self.killed = self.cut(from, to);
        }
    }

    fn yank(&mut self) {
        let killed: String = self.killed.iter().collect();
        if self.bytes() + killed.len() <= self.limit {
            self.text
                .splice(self.cursor..self.cursor, self.killed.iter().copied());
            self.cursor += self.killed.len();
        }
    }

    fn word_left(&self) -> usize {
        let mut at = self.cursor;
        while at > 0 && !self.text[at - 1].is_alphanumeric() {
            at -= 1;
        }
        while at > 0 && self.text[at - 1].is_alphanumeric() {
            at -= 1;
        }
        at
    }

    fn word_right(&self) -> usize {
        let mut at = self.cursor;
        while at < self.text.len() && !self.text[at].is_alphanumeric() {
            at += 1;
        }
        while at < self.text.len() && self.text[at].is_alphanumeric() {
            at += 1;
        }
        at
    }

    fn blank_word_left(&self) -> usize {
        let mut at = self.cursor;
        while at > 0 && self.text[at - 1] == ' ' {
            at -= 1;
        }
        while at > 0 && self.text[at - 1] != ' ' {
            at -= 1;
        }
        at
    }

    fn recall(&mut self, ago: usize) {
        if ago > self.history.len() {
            return;
        }
        if self.recalled == 0 && ago > 0 {
            self.draft = self.text.clone();
        }
        self.text = match ago {
            0 => self.draft.clone(),
            _ => self.history[ago - 1].chars().collect(),
        };
        self.cursor = self.text.len();
        self.recalled = ago;
    }

    fn find(&self, query: &str, ago: usize) -> Option<usize> {
        (ago..self.history.len())
            .find(|line| self.history[*line].contains(query))
            .map(|line| line + 1)
    }

    fn narrow(&mut self, found: Found, letter: char) {
        let query = format!("{}{letter}", found.query);
        let line = self.find(&query, found.ago.saturating_sub(1));
        match line.is_some() && query.len() <= 64 {
            true => self.found(Found { query, ..found }, line),
            false => self.search = Some(found),
        }
    }

    fn widen(&mut self, mut found: Found) {
        if found.query.pop().is_none() || !found.query.is_empty() {
            let line = if found.query.is_empty() {
                None
            } else {
                self.find(&found.query, 0)
            };
            return self.found(found, line);
        }
        (self.text, self.cursor) = found.before.clone();
        self.search = Some(Found { ago: 0, ..found });
    }

    fn found(&mut self, found: Found, line: Option<usize>) {
        if let Some(ago) = line {
            let text = &self.history[ago - 1];
            let at = text.rfind(&found.query).expect("it was found there");
            self.cursor = text[..at].chars().count();
            self.text = text.chars().collect();
        }
        self.search = Some(Found {
            ago: line.unwrap_or(found.ago),
            ..found
        });
    }

    fn enter(&mut self) {
        let line = self.line();
        if self.missing > 0 || line.contains('\u{fffd}') {
            return self.next(Ended::NoLine);
        }
        if !line.trim().is_empty()
            && self.history.first() != Some(&line)
            && line.len() < self.history_limit
        {
            self.history.insert(0, line.clone());
            while self
                .history
                .iter()
                .map(|line| line.len() + 1)
                .sum::<usize>()
                > self.history_limit
            {
                self.history.pop();
            }
        }
        self.next(Ended::Line(line));
    }

    fn next(&mut self, ended: Ended) {
        self.ended.push(ended);
        self.text.clear();
        self.draft.clear();
        (self.cursor, self.missing, self.recalled) = (0, 0, 0);
    }
}
