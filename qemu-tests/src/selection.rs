//! Which tests are run: those whose names have one of several texts in them, as in other test programs.
//!
//! The harness takes one such filter, test programs of the standard library any number: `cargo test -- a b` runs both.

use std::ffi::OsString;

/// The option that says how long soaks run.
const MINUTES: &str = "--minutes";

/// Options of the harness whose value is the next argument.
const WITH_VALUE: [&str; 6] = [
    "--test-threads",
    "--skip",
    "--logfile",
    "--format",
    "--color",
    "-Z",
];

/// The filters of a command line, and whether a name must be one of them or only have it in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    filters: Vec<String>,
    exact: bool,
    /// For how many minutes soaks run (`--minutes N`).
    pub minutes: u64,
}

impl Selection {
    /// Takes the filters out of the arguments, and leaves the others to the harness.
    pub fn take(arguments: impl IntoIterator<Item = OsString>) -> (Self, Vec<OsString>) {
        let (mut selection, mut rest) = (Self::default(), Vec::new());
        let mut arguments = arguments.into_iter();
        // The program's name.
        rest.extend(arguments.next());
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            if text == MINUTES {
                let value = arguments.next().unwrap_or_default();
                let value = value.to_string_lossy();
                selection.minutes = value.parse().unwrap_or_else(|_| {
                    panic!("{MINUTES} takes a number of minutes, not {value:?}")
                });
                continue;
            }
            match text.starts_with('-') {
                false => selection.filters.push(text),
                true => {
                    selection.exact |= text == "--exact";
                    rest.push(argument);
                    if WITH_VALUE.contains(&text.as_str()) {
                        rest.extend(arguments.next());
                    }
                }
            }
        }
        (selection, rest)
    }

    /// Whether the test of this name is run.
    pub fn has(&self, name: &str) -> bool {
        let is_named = |filter: &String| match self.exact {
            true => name == filter,
            false => name.contains(filter.as_str()),
        };
        self.filters.is_empty() || self.filters.iter().any(is_named)
    }

    /// Whether it is one of all tests.
    pub fn is_all(&self) -> bool {
        self.filters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(line: &str) -> (Selection, String) {
        let (selection, rest) = Selection::take(line.split(' ').map(OsString::from));
        let rest: Vec<_> = rest.iter().map(|word| word.to_string_lossy()).collect();
        (selection, rest.join(" "))
    }

    #[test]
    fn a_name_may_have_any_of_the_filters() {
        let (selection, rest) = take("qemu a --test-threads 2 b -q --skip c --format=terse");
        assert_eq!(rest, "qemu --test-threads 2 -q --skip c --format=terse");
        assert_eq!(
            ["xax", "b", "c"].map(|name| selection.has(name)),
            [true, true, false]
        );
        assert!(!selection.is_all());
    }

    #[test]
    fn soaks_are_told_how_long_they_run() {
        let (selection, rest) = take("qemu soak --minutes 30 -q");
        assert_eq!((selection.minutes, rest.as_str()), (30, "qemu -q"));
        assert!(selection.has("guest::soak::soak::smp4") && !selection.has("a"));
    }

    #[test]
    fn exact_names_are_whole_names() {
        let (selection, rest) = take("qemu --exact a b --list");
        assert_eq!(rest, "qemu --exact --list");
        assert_eq!(["xax", "b"].map(|name| selection.has(name)), [false, true]);
    }

    #[test]
    fn without_a_filter_all_are_run() {
        let (selection, rest) = take("qemu --list");
        assert_eq!(rest, "qemu --list");
        assert!(selection.has("anything") && selection.is_all());
    }
}
