//! Columns of a table.

use core::fmt::{self, Display, Formatter, Write};

use super::frames::CallSite;
use super::handles::OrDash;
use super::path_end::path_end;
use super::style::{Ink, Style};
use super::words::Size;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::handles::ShortHandle;

/// Columns of a function, if it can be made to fit.
const FUNCTION: usize = 28;

/// What stands over the last two columns: a function, and its place.
pub(super) const CALL_SITE: &str = "allocated by                 at";
const _: () = assert!(CALL_SITE.len() == FUNCTION + " at".len());

/// A handle in its column.
pub(super) fn handle_column(style: Style, handle: Option<ShortHandle>) -> impl Display {
    style.paint(Ink::Handle, Right(5, OrDash(handle)))
}

/// A number of bytes in its column; `-` for none.
pub(super) fn size_column(style: Style, bytes: Option<usize>) -> impl Display {
    style.paint(Ink::Size, Right(9, OrDash(bytes.map(Size))))
}

/// What stands at the right end of a column. What is wider than the column is written nevertheless.
pub(super) struct Right<T>(pub(super) usize, pub(super) T);

impl<T: Display> Display for Right<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut width = Width(0);
        write!(width, "{}", self.1)?;
        (width.0..self.0).try_for_each(|_| f.write_char(' '))?;
        self.1.fmt(f)
    }
}

/// What stands at the left end of a column, likewise.
pub(super) struct Left<T>(pub(super) usize, pub(super) T);

impl<T: Display> Display for Left<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut width = Width(0);
        write!(width, "{}", self.1)?;
        self.1.fmt(f)?;
        (width.0..self.0).try_for_each(|_| f.write_char(' '))
    }
}

/// Writes the last two columns of a line, and ends it: the function that asked for memory, and its place.
pub(super) fn write_call_site<P: Platform>(
    tracker: &Tracker<P>,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    write_narrow_call_site(tracker, addresses, FUNCTION, out)
}

/// Writes them with a column of `columns` for the function.
pub(super) fn write_narrow_call_site<P: Platform>(
    tracker: &Tracker<P>,
    addresses: &[usize],
    columns: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(tracker);
    let Some(site) = CallSite::of(tracker, addresses, columns) else {
        return writeln!(out, "(no call stack)");
    };
    let function = path_end(site.function(), columns);
    match site.place() {
        Some(place) => writeln!(
            out,
            "{} {}",
            style.paint(Ink::Function, format_args!("{function:columns$}")),
            style.paint(Ink::Place, place)
        ),
        None => writeln!(out, "{}", style.paint(Ink::Function, function)),
    }
}

/// Counts characters.
struct Width(usize);

impl Write for Width {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.chars().count();
        Ok(())
    }
}
