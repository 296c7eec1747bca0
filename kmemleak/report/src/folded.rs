//! Call stacks in the folded form that tools for flame graphs read: a line each, `outermost;…;innermost BYTES`.
//!
//! The first frame is no function: it is `lost` or `in use`. So one file has both, and no byte twice.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{self, Options};

use crate::function::callers_of;
use crate::records::Stack;
use crate::usage::Usage;

/// What stands for a call stack that was not recorded.
const NO_CALL_STACK: &str = "(no call stack)";

/// Which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Those that are lost.
    Lost,
    /// Those that are not.
    InUse,
}

impl Bytes {
    fn of(self, usage: &Usage) -> u64 {
        match self {
            Self::Lost => usage.lost.bytes,
            Self::InUse => usage.in_use().bytes,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::InUse => "in use",
        }
    }
}

/// Writes the folded call stacks of what is lost, and of what is in use.
pub fn write(usages: &[Usage], out: &mut dyn Write) -> io::Result<()> {
    for bytes in [Bytes::Lost, Bytes::InUse] {
        for line in lines(usages, bytes) {
            writeln!(out, "{};{line}", bytes.name())?;
        }
    }
    Ok(())
}

/// Folded call stacks that have such bytes, in alphabetical order. Call stacks that differ in addresses alone are one line.
fn lines(usages: &[Usage], bytes: Bytes) -> Vec<String> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for usage in usages.iter().filter(|usage| bytes.of(usage) > 0) {
        *sums.entry(folded(&usage.stack)).or_default() += bytes.of(usage);
    }
    let sums = sums.into_iter();
    sums.map(|(stack, bytes)| format!("{stack} {bytes}"))
        .collect()
}

fn folded(stack: &Stack) -> String {
    // `;` separates functions, but it is also in types: `[u8; 4]`. Other control characters would end the line.
    let name = |name: &str| {
        let safe = |character: char| match character {
            ';' => ':',
            _ if character.is_control() => ' ',
            _ => character,
        };
        name.chars().map(safe).collect::<String>()
    };
    let callers = callers_of(stack);
    let names: Vec<_> = callers
        .iter()
        .rev()
        .map(|caller| name(caller.name))
        .collect();
    match names.is_empty() {
        true => NO_CALL_STACK.into(),
        false => names.join(";"),
    }
}

/// A flame graph as SVG: width is bytes, the outermost function is at the bottom. `None` where there are no such bytes.
pub fn flame_graph(usages: &[Usage], bytes: Bytes, title: &str) -> io::Result<Option<String>> {
    let lines = lines(usages, bytes);
    if lines.is_empty() {
        return Ok(None);
    }
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    "bytes".clone_into(&mut options.count_name);
    options.colors = Palette::Basic(BasicPalette::Mem);
    options.deterministic = true;
    options.min_width = 0.05;
    let mut svg = BufWriter::new(Vec::new());
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    let svg = svg.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Some(String::from_utf8_lossy(&svg).into_owned()))
}
