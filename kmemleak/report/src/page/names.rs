//! Call stacks and texts that the page's data refers to by number, each once.

use std::collections::HashMap;

use serde::Serialize;

use crate::function::callers_of;
use crate::records::{Crc, Stack};

/// Number of a call stack.
pub(super) type StackNumber = usize;

#[derive(Debug, Serialize)]
pub(super) struct NamedStack {
    crc: Option<Crc>,
    /// How many innermost frames are left out.
    skipped: usize,
    /// The function that asked for memory.
    function: String,
    /// Where it did: file and line, or nothing.
    place: String,
    /// All functions that are shown, innermost first.
    frames: Vec<NamedFunction>,
}

#[derive(Debug, Serialize)]
struct NamedFunction {
    name: String,
    place: String,
    inlined: bool,
}

/// The call stacks.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Option<Crc>, StackNumber>,
    stacks: Vec<NamedStack>,
}

impl Names {
    /// The number of a call stack.
    pub(super) fn number(&mut self, stack: &Stack) -> StackNumber {
        if let Some(number) = self.numbers.get(&stack.crc) {
            return *number;
        }
        let number = self.stacks.len();
        self.numbers.insert(stack.crc, number);
        self.stacks.push(named(stack));
        number
    }

    pub(super) fn into_stacks(self) -> Vec<NamedStack> {
        self.stacks
    }
}

fn named(stack: &Stack) -> NamedStack {
    let named = callers_of(stack).into_iter().map(|function| NamedFunction {
        name: function.name.to_owned(),
        place: match (function.file, function.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (file, _) => file.unwrap_or("").to_owned(),
        },
        inlined: function.is_inlined,
    });
    let frames: Vec<_> = named.collect();
    let (function, place) = match frames.first() {
        Some(first) => (first.name.clone(), first.place.clone()),
        None => ("(no call stack)".into(), String::new()),
    };
    NamedStack {
        crc: stack.crc,
        skipped: stack.skipped.unwrap_or(0),
        function,
        place,
        frames,
    }
}
