//! A function in a report: its name, shortened, and its place.

use core::fmt::{self, Display, Formatter, Write as _};

use super::path_end::path_end;
use super::shorten::ShortName;

/// Bytes of an offset and a place that are kept.
const DETAIL: usize = 256;

/// A function as a platform writes it: `function+0xOFFSET/0xSIZE (file:line)`.
///
/// It is made from the line that a [`Platform`](crate::Platform) writes, or from one of a frame in JSON. It shows itself with
/// offset and place, as lines of call stacks do. Any context.
///
/// ```
/// use kmemleak::FunctionText;
///
/// let line = "kernel::Table<u64,alloc::boxed::Box<kernel::Task>>::insert+0x1c/0x67 (kernel/src/table.rs:99)";
/// let text = FunctionText::new(line);
/// assert_eq!(text.to_string(), "kernel::Table<u64,Box<_>>::insert+0x1c/0x67 (kernel/src/table.rs:99)");
/// assert_eq!(text.function(), "kernel::Table<u64,Box<_>>::insert");
/// assert_eq!(text.path_end(28), "Table<u64,Box<_>>::insert");
/// assert_eq!(text.place(), Some("kernel/src/table.rs:99"));
/// ```
#[derive(Clone, Debug)]
pub struct FunctionText {
    name: ShortName,
    /// A character of which only the next one tells whether it still belongs to the name.
    waiting: Option<char>,
    /// Offset and place, as they came.
    detail: [u8; DETAIL],
    detail_len: usize,
}

impl FunctionText {
    pub(super) const EMPTY: Self = Self {
        name: ShortName::EMPTY,
        waiting: None,
        detail: [0; DETAIL],
        detail_len: 0,
    };

    /// Of a function as a platform writes it. Control characters are escaped: they would steer a terminal.
    pub fn new(line: &str) -> Self {
        let mut text = Self::EMPTY;
        line.chars().for_each(|letter| text.push(letter));
        text
    }

    /// The function, without offset and place.
    pub fn function(&self) -> &str {
        self.name.as_str()
    }

    /// The function in a column of a table: of its path the last segments that have room, and at least the last one.
    pub fn path_end(&self, columns: usize) -> &str {
        path_end(self.function(), columns)
    }

    /// Makes the function short enough for so many columns, as far as that can be done.
    pub fn fit(&mut self, columns: usize) {
        while self.name.columns() > columns && self.name.shorten() {}
    }

    /// Makes the function short enough for a line of so many columns with offset and place, as far as that can be done.
    pub fn fit_line(&mut self, columns: usize) {
        self.fit(columns.saturating_sub(self.detail().chars().count()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.name.as_str().is_empty() && self.waiting.is_none() && self.detail_len == 0
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, letter: char) {
        match letter.is_control() {
            true => letter.escape_default().for_each(|part| self.take(part)),
            false => self.take(letter),
        }
    }

    fn take(&mut self, letter: char) {
        let begins_detail = matches!((self.waiting, letter), (Some('+'), '0') | (Some(' '), '('));
        if let Some(waiting) = self.waiting.take() {
            match begins_detail {
                true => self.push_detail(waiting),
                false => self.name.push(waiting),
            }
        }
        if begins_detail || self.detail_len > 0 {
            self.push_detail(letter);
        } else if matches!(letter, '+' | ' ') && self.name.is_outside() {
            self.waiting = Some(letter);
        } else {
            self.name.push(letter);
        }
    }

    /// What has no room is left out.
    fn push_detail(&mut self, letter: char) {
        let end = self.detail_len + letter.len_utf8();
        if let Some(room) = self.detail.get_mut(self.detail_len..end) {
            letter.encode_utf8(room);
            self.detail_len = end;
        }
    }

    fn detail(&self) -> &str {
        core::str::from_utf8(&self.detail[..self.detail_len]).unwrap_or_default()
    }

    /// The offset, if there is one, and what stands behind it.
    pub(super) fn offset_and_rest(&self) -> (&str, &str) {
        let detail = self.detail();
        detail.split_at(detail.find(' ').unwrap_or(detail.len()))
    }

    /// `file:line`, if that is known.
    pub fn place(&self) -> Option<&str> {
        let rest = self.offset_and_rest().1;
        let place = rest.strip_prefix(" (")?;
        // A platform may write more behind it.
        match place.split_once("), ") {
            Some((place, _)) => Some(place),
            None => place.strip_suffix(')'),
        }
    }

    /// Its name, if the paths in it are whole: it tells whose function it is.
    pub(super) fn whole_name(&self) -> Option<&str> {
        (self.name.has_whole_paths()).then(|| self.name.as_str())
    }
}

impl Display for FunctionText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.function())?;
        f.write_str(self.detail())?;
        self.waiting.map_or(Ok(()), |waiting| f.write_char(waiting))
    }
}
