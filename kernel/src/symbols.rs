//! Names of code addresses and of variables, from the kernel's own ELF.
//!
//! The boot loader leaves the file in memory. The symbol table gives a function's or a variable's name and extent;
//! the debug information gives the line, and the functions that were inlined there. Reading the debug information
//! takes memory (5 to 6 MiB in 9000 blocks) and time (some tenths of a second), so it is done when the first name is asked for,
//! and kept.
//!
//! That memory is the detector's tool, and not what anybody looks for with it: its blocks are
//! [unseen](heap::with_unseen_blocks). They are no objects, so no call site has them, and no check reads them: no stale pointer in them
//! hides a leak. All that they point to is of their kind, or the kernel's file. The variable that holds them is one word. Whoever is given
//! a name writes it where he likes, and the memory for that is seen like all other.
//!
//! # Locks
//!
//! A sleeping one over the debug information. Who can't sleep (a panic) takes it if it is free and does with
//! the symbol table otherwise.

use alloc::boxed::Box;
use core::fmt;

use addr2line::Context;
use addr2line::gimli::{EndianSlice, LittleEndian};
use arrayvec::ArrayVec;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use spin::Once;

use crate::mm::heap;
use crate::sync::{Mutex, MutexGuard};

type Reader = EndianSlice<'static, LittleEndian>;
type Lines = Context<Reader>;

static IMAGE: Once<&'static [u8]> = Once::new();

/// The debug information: none is there before it has been read, and where it is of no use.
struct Cache {
    is_read: bool,
    lines: Option<Box<Lines>>,
}

// SAFETY: what the context keeps for itself is reached only by who holds the lock.
unsafe impl Send for Cache {}

static DEBUG: Mutex<Cache> = Mutex::new(Cache {
    is_read: false,
    lines: None,
});

/// Keeps the kernel's ELF.
pub fn init(image: &'static [u8]) {
    IMAGE.call_once(|| image);
}

/// The name of the place where `address` is, as a `Display`.
pub fn at(address: usize) -> Symbol {
    Symbol {
        shown: address,
        looked_up: address,
        detail: Detail::Lines,
    }
}

/// The name of the place from which a call returns to `address`.
pub fn of_return(address: usize) -> Symbol {
    // The call is the instruction before; if the call never returns, the next function may start here.
    Symbol {
        shown: address,
        looked_up: address.wrapping_sub(1),
        detail: Detail::Lines,
    }
}

/// The functions that the call leads into which returns to `address`, as a `Display`: their bare names, one a line.
pub fn functions_of_return(address: usize) -> Functions {
    Functions(of_return(address))
}

/// The variable that the byte at `address` belongs to, as a `Display`. None where the symbol table knows of none.
pub fn variable(address: usize) -> Option<Variable> {
    let address = address as u64;
    let named = find(&image()?, SymbolKind::Data, address)?;
    Some(Variable {
        name: named.name,
        offset: address - named.start,
    })
}

/// A code address that shows itself as `function+0xoffset/0xsize (file:line)`, and as a number where
/// nothing is known. Showing it may sleep in task context, and allocates.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    shown: usize,
    looked_up: usize,
    detail: Detail,
}

/// How much is told of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The function, from the symbol table; that takes no memory.
    Names,
    /// The line and the inlined functions as well, from the debug information.
    Lines,
}

impl Symbol {
    /// The same place, told in such detail.
    pub fn with(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }
}

/// Functions that show themselves one a line: the one of the symbol table, then those inlined there that are the kernel's
/// own. Where nothing is known, a number. Showing them may sleep in task context, and allocates.
#[derive(Clone, Copy, Debug)]
pub struct Functions(Symbol);

/// A place in a variable, that shows itself as `name+0xoffset`.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    name: &'static str,
    offset: u64,
}

/// A function or a variable of the symbol table.
struct Named {
    name: &'static str,
    start: u64,
    size: u64,
}

fn image() -> Option<object::File<'static>> {
    object::File::parse(*IMAGE.get()?).ok()
}

/// The symbol of this kind that `address` lies in.
fn find(file: &object::File<'static>, kind: SymbolKind, address: u64) -> Option<Named> {
    let symbol = file.symbols().find(|symbol| {
        symbol.kind() == kind
            && (symbol.address()..symbol.address() + symbol.size()).contains(&address)
    })?;
    Some(Named {
        name: symbol.name().ok()?,
        start: symbol.address(),
        size: symbol.size(),
    })
}

fn read_debug(file: &object::File<'static>) -> Option<Box<Lines>> {
    let load = |id: addr2line::gimli::SectionId| -> Result<Reader, ()> {
        let data = file
            .section_by_name(id.name())
            .and_then(|section| section.data().ok());
        Ok(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
    };
    let dwarf = addr2line::gimli::Dwarf::load(load).ok()?;
    Context::from_dwarf(dwarf).ok().map(Box::new)
}

fn lock() -> Option<MutexGuard<'static, Cache>> {
    if crate::panic::is_ending() {
        DEBUG.try_lock()
    } else {
        Some(DEBUG.lock())
    }
}

/// Runs `work` with the debug information, if that can be had: it is read now, or has been.
fn with_lines(
    file: &object::File<'static>,
    work: impl FnOnce(&Lines) -> fmt::Result,
) -> fmt::Result {
    let Some(mut cache) = lock() else {
        return Ok(());
    };
    if !cache.is_read {
        cache.lines = heap::with_unseen_blocks(|| read_debug(file));
        cache.is_read = true;
    }
    cache.lines.as_deref().map_or(Ok(()), work)
}

impl Symbol {
    /// The function that it lies in, with the file that says so.
    fn function(&self) -> Option<(object::File<'static>, Named)> {
        let file = image()?;
        let function = find(&file, SymbolKind::Text, self.looked_up as u64)?;
        Some((file, function))
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((file, function)) = self.function() else {
            return write!(f, "{:#018x}", self.shown);
        };
        let name = rustc_demangle::demangle(function.name);
        let offset = self.shown as u64 - function.start;
        write!(f, "{name:#}+{offset:#x}/{:#x}", function.size)?;
        if self.detail == Detail::Names {
            return Ok(());
        }
        with_lines(&file, |lines| {
            for_each_function(lines, self.looked_up as u64, |inlined, location| {
                if let Some(name) = inlined {
                    write!(f, ", inlined {name}")?;
                }
                write_place(f, location)
            })
        })
    }
}

impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((file, function)) = self.0.function() else {
            return write!(f, "{:#018x}", self.0.shown);
        };
        write!(f, "{:#}", rustc_demangle::demangle(function.name))?;
        with_lines(&file, |lines| {
            for_each_function(lines, self.0.looked_up as u64, |inlined, _| {
                inlined.map_or(Ok(()), |name| write!(f, "\n{name}"))
            })
        })
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = rustc_demangle::demangle(self.name);
        write!(f, "{name:#}+{:#x}", self.offset)
    }
}

/// Tells `visit` where `address` is in the function itself (which it does not name), then in each function inlined
/// there that is the kernel's own, with its name.
fn for_each_function(
    lines: &Lines,
    address: u64,
    mut visit: impl FnMut(Option<&str>, Option<&addr2line::Location<'_>>) -> fmt::Result,
) -> fmt::Result {
    // What is read is kept; what `visit` does is its own affair.
    let chain = heap::with_unseen_blocks(|| innermost_first(lines, address));
    let mut outermost_first = chain.iter().rev();
    if let Some(frame) = outermost_first.next() {
        visit(None, frame.location.as_ref())?;
    }
    for frame in outermost_first {
        let name = frame
            .function
            .as_ref()
            .and_then(|function| function.demangle().ok());
        let Some(name) = name else { continue };
        if is_library(&name) {
            continue;
        }
        visit(Some(&name), frame.location.as_ref())?;
    }
    Ok(())
}

/// The functions that `address` is in, the innermost first; of more than fit, the outermost.
fn innermost_first(lines: &Lines, address: u64) -> ArrayVec<addr2line::Frame<'_, Reader>, 16> {
    let mut chain = ArrayVec::new();
    let Ok(mut frames) = lines.find_frames(address).skip_all_loads() else {
        return chain;
    };
    while let Ok(Some(frame)) = frames.next() {
        if chain.is_full() {
            chain.remove(0);
        }
        chain.push(frame);
    }
    chain
}

/// Whether a function is of the standard library: how `Box` calls the allocator tells nobody anything.
fn is_library(name: &str) -> bool {
    const LIBRARIES: [&str; 3] = ["core::", "alloc::", "__rustc::"];
    // Of `<Type as path::Trait>::function` the trait's path counts.
    let path = name
        .split_once(" as ")
        .map_or(name.trim_start_matches(['<', '&']), |(_, path)| path);
    LIBRARIES.iter().any(|library| path.starts_with(library))
}

fn write_place(
    f: &mut fmt::Formatter<'_>,
    location: Option<&addr2line::Location<'_>>,
) -> fmt::Result {
    let Some(location) = location else {
        return Ok(());
    };
    let (Some(file), Some(line)) = (location.file, location.line) else {
        return Ok(());
    };
    write!(f, " ({}:{line})", shorten(file))
}

/// Leaves out of a path what belongs to the machine it was compiled on.
fn shorten(path: &str) -> &str {
    const OWN: &str = env!("CARGO_MANIFEST_DIR");
    let workspace = OWN.strip_suffix("kernel").unwrap_or(OWN);
    if let Some(rest) = path.strip_prefix(workspace) {
        return rest;
    }
    // Of the standard library: /rustc/<commit>/library/…
    if let Some((_, rest)) = path.split_once("/library/") {
        return rest;
    }
    // Of a package: …/registry/src/<index>/<package>/…
    if let Some((_, rest)) = path.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, rest)| rest);
    }
    path
}
