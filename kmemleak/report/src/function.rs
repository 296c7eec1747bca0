//! The functions of a frame, and where they are.
//!
//! A record has a frame as one line of text: `function+0xOFFSET/0xSIZE (file:line)`, then for each function that was inlined
//! there `, inlined function (file:line)`, outermost first. Of a kernel that can't name functions it is an address.

use kmemleak::is_allocation_machinery;

use crate::records::Stack;

/// A function, and where in the source it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function<'a> {
    /// Its path; an address where it has no name.
    pub name: &'a str,
    /// Its file, if it is known.
    pub file: Option<&'a str>,
    /// Its line, if it is known.
    pub line: Option<u32>,
    /// Whether it was inlined into the one that comes after it.
    pub is_inlined: bool,
}

/// The functions of a frame, innermost first. There is at least one.
pub fn functions_of(frame: &str) -> Vec<Function<'_>> {
    let mut functions: Vec<_> = frame
        .split(", inlined ")
        .enumerate()
        .map(|(place, text)| function_of(text, place > 0))
        .collect();
    functions.reverse();
    functions
}

/// The functions of a call stack from the one that asked for memory on, innermost first: without the allocation machinery
/// at its inner end, unless all of it is that.
pub fn callers_of(stack: &Stack) -> Vec<Function<'_>> {
    let functions = stack.shown().iter().flat_map(|frame| functions_of(frame));
    let callers = functions.skip_while(|function| is_allocation_machinery(function.name));
    let callers: Vec<_> = callers.collect();
    if !callers.is_empty() {
        return callers;
    }
    let all = stack.backtrace.iter().flatten();
    all.flat_map(|frame| functions_of(frame)).collect()
}

fn function_of(text: &str, is_inlined: bool) -> Function<'_> {
    let (named, file, line) = match place_of(text) {
        Some((named, file, line)) => (named, Some(file), line),
        None => (text, None, None),
    };
    Function {
        name: without_offset(named),
        file,
        line,
        is_inlined,
    }
}

/// What stands before ` (file:line)`, and these.
fn place_of(text: &str) -> Option<(&str, &str, Option<u32>)> {
    let inside = text.strip_suffix(')')?;
    let (named, place) = inside.rsplit_once(" (")?;
    let Some((file, line)) = place.rsplit_once(':') else {
        return Some((named, place, None));
    };
    match line.parse() {
        Ok(line) => Some((named, file, Some(line))),
        Err(_) => Some((named, place, None)),
    }
}

/// A name without `+0xOFFSET/0xSIZE` or `+0xOFFSET`.
fn without_offset(named: &str) -> &str {
    let is_offset = |text: &str| {
        let mut numbers = text.split('/');
        numbers.all(|number| {
            let digits = number.strip_prefix("0x");
            digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        })
    };
    match named.rsplit_once('+') {
        Some((name, offset)) if is_offset(offset) => name,
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_apart() {
        let text = "core::ops::Add<A+B>::add+0x1c/0x67 (a/b.rs:99), inlined net::open (c:\\d.rs:7), inlined f";
        let functions = functions_of(text);
        let of = |function: &Function<'_>| {
            let Function {
                name,
                file,
                line,
                is_inlined,
            } = function.clone();
            (name.to_owned(), file.map(str::to_owned), line, is_inlined)
        };
        let told: Vec<_> = functions.iter().map(of).collect();
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            ("f".to_owned(), None, None, true),
            ("net::open".to_owned(), some("c:\\d.rs"), Some(7), true),
            (
                "core::ops::Add<A+B>::add".to_owned(),
                some("a/b.rs"),
                Some(99),
                false,
            ),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_place_stays_in_the_name() {
        for name in [
            "0xffffffff80001234",
            "<() as Into<u8>>::f",
            "a::{closure#0}",
            "",
            "f(int)",
            "g+1",
        ] {
            let functions = functions_of(name);
            assert_eq!(
                (functions.len(), functions[0].name, functions[0].file),
                (1, name, None)
            );
        }
        assert_eq!(functions_of("f+0x10")[0].name, "f");
        let file = &functions_of("f (x.rs)")[0];
        assert_eq!((file.name, file.file, file.line), ("f", Some("x.rs"), None));
    }
}
