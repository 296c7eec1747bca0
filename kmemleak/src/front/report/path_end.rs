//! The end of a function's path, for a column that has no room for all of it.

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
