//! The name of a type as a report shows it.
//!
//! Types of the standard library have their last name alone, and its default allocator is left out. All other types have their
//! whole path, or where room is short the last name alone.

use core::fmt::{self, Display, Formatter};

/// Crates whose types need no path to be known.
const LIBRARIES: [&str; 4] = ["alloc", "core", "std", "hashbrown"];
/// An argument that says nothing: nearly all have it.
const DEFAULT_ALLOCATOR: &str = "alloc::alloc::Global";
/// What debug information calls a closure's type.
const CLOSURE: &str = "{closure_env#";

/// How types of other crates than the standard library's are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paths {
    Whole,
    /// The last name alone.
    Last,
}

/// A type that shows itself as reports name it, from its name in debug information or in a symbol.
pub(super) struct TypeName<'a>(pub(super) &'a str, pub(super) Paths);

impl Display for TypeName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(letter) = rest.chars().next() {
            let end = end_of_path(rest);
            if end > 0 {
                write_path(&rest[..end], self.1, f)?;
                rest = &rest[end..];
            } else if let Some(behind) = behind_default_allocator(rest) {
                rest = behind;
            } else {
                write!(f, "{letter}")?;
                rest = &rest[letter.len_utf8()..];
            }
        }
        Ok(())
    }
}

/// Where the path ends with which a text begins; zero if it begins with none. What stands in braces belongs to it: the compiler's
/// names for closures and `impl` blocks.
fn end_of_path(text: &str) -> usize {
    let mut braces = 0;
    let ends = |letter: char| {
        match letter {
            '{' => braces += 1,
            '}' if braces > 0 => braces -= 1,
            _ if braces > 0 => {}
            _ => return !(letter.is_alphanumeric() || matches!(letter, '_' | ':')),
        }
        false
    };
    text.find(ends).unwrap_or(text.len())
}

/// What follows an argument that is the default allocator, where a text begins with the comma before it.
fn behind_default_allocator(text: &str) -> Option<&str> {
    let behind = text.strip_prefix(',')?.trim_start();
    let behind = behind.strip_prefix(DEFAULT_ALLOCATOR)?;
    behind.starts_with(['>', ',']).then_some(behind)
}

fn write_path(path: &str, paths: Paths, f: &mut Formatter<'_>) -> fmt::Result {
    let crate_name = path.split("::").next().unwrap_or(path);
    let shows_last = paths == Paths::Last || LIBRARIES.contains(&crate_name);
    let shown = match shows_last {
        true => last_name(path),
        false => path,
    };
    let mut parts = shown.split(CLOSURE);
    f.write_str(parts.next().unwrap_or_default())?;
    parts.try_for_each(|part| write!(f, "{{closure#{part}"))
}

/// The last segment of a path. A closure's keeps the function that it is in.
fn last_name(path: &str) -> &str {
    let mut starts = path.rmatch_indices("::").map(|(at, sign)| at + sign.len());
    let is_named = |start: &usize| !path[*start..].starts_with('{');
    starts.find(is_named).map_or(path, |start| &path[start..])
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::{Paths, TypeName};

    /// Names of types from a kernel's debug information.
    #[test]
    fn types_are_named() {
        for (name, whole, last) in [
            ("u8", "u8", "u8"),
            ("&str", "&str", "&str"),
            ("[u8; 64]", "[u8; 64]", "[u8; 64]"),
            ("kernel::task::Task", "kernel::task::Task", "Task"),
            (
                "alloc::boxed::Box<[usize; 8], alloc::alloc::Global>",
                "Box<[usize; 8]>",
                "Box<[usize; 8]>",
            ),
            (
                "alloc::collections::btree::node::LeafNode<u64, alloc::sync::Arc<kernel::Task, alloc::alloc::Global>>",
                "LeafNode<u64, Arc<kernel::Task>>",
                "LeafNode<u64, Arc<Task>>",
            ),
            (
                "core::option::Option<kernel::start::{closure_env#3}>",
                "Option<kernel::start::{closure#3}>",
                "Option<start::{closure#3}>",
            ),
            (
                "kernel::run::{closure_env#0}<kernel::net::{impl#2}::poll::{closure_env#1}>",
                "kernel::run::{closure#0}<kernel::net::{impl#2}::poll::{closure#1}>",
                "run::{closure#0}<poll::{closure#1}>",
            ),
            (
                "(kernel::Pid, *mut dyn kernel::Driver)",
                "(kernel::Pid, *mut dyn kernel::Driver)",
                "(Pid, *mut dyn Driver)",
            ),
            ("fn(u8) -> kernel::X", "fn(u8) -> kernel::X", "fn(u8) -> X"),
            (
                "kernel::Map<u8,alloc::alloc::Global,foldhash::Fast>",
                "kernel::Map<u8,foldhash::Fast>",
                "Map<u8,Fast>",
            ),
            ("{closure#0}", "{closure#0}", "{closure#0}"),
            ("", "", ""),
            ("}>:,é", "}>:,é", "}>:,é"),
        ] {
            assert_eq!(TypeName(name, Paths::Whole).to_string(), whole);
            assert_eq!(TypeName(name, Paths::Last).to_string(), last);
        }
    }
}
