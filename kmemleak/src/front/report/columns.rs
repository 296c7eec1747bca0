//! Columns of a table.

use core::fmt::{self, Display, Formatter, Write};

use super::frames::CallSite;
use super::handles::OrDash;
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

/// Writes the last two columns of a line, and ends it: the function that asked for memory, and its place.
pub(super) fn write_call_site<P: Platform>(
    tracker: &Tracker<P>,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(tracker);
    let Some(site) = CallSite::of(tracker, addresses, FUNCTION) else {
        return writeln!(out, "(no call stack)");
    };
    let function = path_end(site.function(), FUNCTION);
    match site.place() {
        Some(place) => writeln!(
            out,
            "{} {}",
            style.paint(Ink::Function, format_args!("{function:FUNCTION$}")),
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

/// The last segments of a path that have room in so many columns, and at least the last one with a name.
pub(super) fn path_end(path: &str, columns: usize) -> &str {
    let mut end = path;
    while end.chars().count() > columns {
        match after_first_segment(end) {
            // What the compiler has named says nothing without the function that it is in.
            Some(rest) if !rest.starts_with('{') => end = rest,
            _ => break,
        }
    }
    end
}

/// What follows the first `::` that is in no bracket.
fn after_first_segment(path: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (at, letter) in path.char_indices() {
        match letter {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if path[..at].ends_with('-') => {}
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                return path[at..]
                    .strip_prefix("::")
                    .filter(|rest| !rest.is_empty());
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::path_end;

    #[test]
    fn a_path_is_cut_between_its_segments() {
        for (path, columns, end) in [
            (
                "kernel::shell::leak::pages",
                30,
                "kernel::shell::leak::pages",
            ),
            ("kernel::shell::leak::pages", 25, "shell::leak::pages"),
            ("kernel::shell::leak::pages", 11, "leak::pages"),
            ("kernel::shell::leak::pages", 3, "pages"),
            ("kernel::open::{{closure}}", 10, "open::{{closure}}"),
            ("kernel::open::{closure#0}", 10, "open::{closure#0}"),
            ("<kernel::A as core::B<fn() -> c::D>>::open", 10, "open"),
            (
                "kernel::<impl core::A for kernel::B>::open",
                40,
                "<impl core::A for kernel::B>::open",
            ),
            ("0xffffffff80001234", 4, "0xffffffff80001234"),
            ("open::", 4, "open::"),
            ("", 4, ""),
        ] {
            assert_eq!(path_end(path, columns), end, "{path}");
        }
    }
}
