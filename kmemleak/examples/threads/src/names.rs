//! Names of functions, from the executable's debug information.

use std::fmt::{self, Write};

/// Shows what code a return address leads to: first what is inlined there, last the function itself.
fn each(address: usize, look: &mut dyn FnMut(&backtrace::Symbol)) {
    // The call: the address after it may lie in the next function.
    backtrace::resolve(std::ptr::without_provenance_mut(address - 1), look);
}

/// Writes the function that a return address leads to, and the line in it.
pub fn write(address: usize, out: &mut dyn Write) -> fmt::Result {
    let mut last = format!("{address:#018x}");
    each(address, &mut |symbol| {
        let Some(name) = symbol.name() else { return };
        last = match (symbol.filename(), symbol.lineno()) {
            (Some(file), Some(line)) => format!("{name:#} ({}:{line})", file.display()),
            _ => format!("{name:#}"),
        };
    });
    out.write_str(&last)
}

/// Writes the names of the functions alone, one a line.
pub fn write_functions(address: usize, out: &mut dyn Write) -> fmt::Result {
    let mut written = Ok(());
    each(address, &mut |symbol| {
        if let (Ok(()), Some(name)) = (written, symbol.name()) {
            written = writeln!(out, "{name:#}");
        }
    });
    written
}
