//! Names of code addresses and of variables, from the kernel's own ELF.
//!
//! The boot loader leaves the file in memory. The symbol table gives a function's or a variable's name and extent, and takes no
//! memory; the debug information gives the line, and the functions that were inlined there ([`lines`](self::missing)). Reading
//! that takes memory and time (some tenths of a second), so it is done when the first name is asked for, and kept. If there is
//! no memory for it, names are written without lines, and [`tell_missing`] says why.
//!
//! The file is not trusted: whatever its bytes are, the result is a name or a number.
//!
//! # Locks
//!
//! A sleeping lock over the debug information (`lines.rs`).

mod instance;
mod lines;

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym};
use spin::Once;

use self::lines::{Names, Place, with_functions};

pub use self::lines::{Missing, missing, tell_missing};

static IMAGE: Once<&'static [u8]> = Once::new();

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
    // The call is the instruction before: if it never returns, the next function may start at `address`.
    Symbol {
        shown: address,
        looked_up: address.wrapping_sub(1),
        detail: Detail::Lines,
    }
}

/// The functions that contain the call which returns to `address`, as a `Display`: their bare names, one per line.
pub fn functions_of_return(address: usize) -> Functions {
    Functions(of_return(address))
}

/// The functions that contain the call which returns to `address`, as a `Display`: all of them, one per line, the innermost first,
/// each with its generic arguments behind its name.
pub fn instances_of_return(address: usize) -> Instances {
    Instances(of_return(address))
}

/// The variable that the byte at `address` belongs to, as a `Display`. None if the symbol table has none there.
pub fn variable(address: usize) -> Option<Variable> {
    let address = address as u64;
    let named = Image::get()?.find(elf::STT_OBJECT, address)?;
    Some(Variable {
        name: named.name,
        offset: address - named.start,
    })
}

/// A code address that shows itself as `function+0xoffset/0xsize (file:line)`, and as a number where
/// nothing is known. Showing it may sleep in task context.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    shown: usize,
    looked_up: usize,
    detail: Detail,
}

/// How much is written about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The function, from the symbol table; that takes no memory.
    Names,
    /// The line and the inlined functions as well, from the debug information.
    Lines,
}

impl Symbol {
    /// The place, to be written in this detail.
    pub fn with(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }
}

/// The functions that contain the call which returns to `address`, as a `Display`: one per line with their places, the innermost
/// first.
pub fn frame_of_return(address: usize) -> FrameLines {
    FrameLines(of_return(address))
}

/// The innermost function that contains the call which returns to `address`, as a `Display`: one that was inlined there, if it is not the
/// standard library's, or else the function in the symbol table. A number where nothing is known. Showing it may sleep in task context.
pub fn function_of_return(address: usize) -> Innermost {
    Innermost(of_return(address))
}

/// A function that shows its name.
#[derive(Clone, Copy, Debug)]
pub struct Innermost(Symbol);

/// Functions that show themselves one per line: those inlined, without the standard library's, as `function (file:line)`, the
/// innermost first, then the function in the symbol table, as [`Symbol`] shows it. A number where nothing is known. Showing them may
/// sleep in task context.
#[derive(Clone, Copy, Debug)]
pub struct FrameLines(Symbol);

/// Functions that show themselves one per line: the function in the symbol table, then those inlined there that are not
/// the standard library's. A number where nothing is known. Showing them may sleep in task context.
#[derive(Clone, Copy, Debug)]
pub struct Functions(Symbol);

/// Functions that show themselves one per line, the innermost first, each with its generic arguments behind its name, as
/// [`Platform::instances`](kmemleak::Platform::instances) wants them. Without debug information there are none. Showing them may
/// sleep in task context.
#[derive(Clone, Copy, Debug)]
pub struct Instances(Symbol);

/// A place in a variable, which shows itself as `name+0xoffset`.
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

/// The kernel's file, read in place, which takes no memory.
#[derive(Clone, Copy)]
struct Image {
    data: &'static [u8],
    sections: SectionTable<'static, FileHeader64<LittleEndian>>,
}

impl Image {
    fn get() -> Option<Self> {
        let data: &'static [u8] = IMAGE.get()?;
        let header = FileHeader64::parse(data).ok()?;
        let sections = header.sections(LittleEndian, data).ok()?;
        Some(Self { data, sections })
    }

    /// The symbol of this type that contains `address`.
    fn find(&self, kind: elf::SymbolType, address: u64) -> Option<Named> {
        let symbols = self
            .sections
            .symbols(LittleEndian, self.data, elf::SHT_SYMTAB);
        let symbols = symbols.ok()?;
        let symbol = symbols.iter().find(|symbol| {
            symbol.st_type() == kind
                && address
                    .checked_sub(symbol.st_value(LittleEndian))
                    .is_some_and(|offset| offset < symbol.st_size(LittleEndian))
        })?;
        let name = symbol.name(LittleEndian, symbols.strings()).ok()?;
        Some(Named {
            name: core::str::from_utf8(name).ok()?,
            start: symbol.st_value(LittleEndian),
            size: symbol.st_size(LittleEndian),
        })
    }

    /// Whether several functions begin where this one does.
    fn is_shared(&self, function: &Named) -> bool {
        let symbols = self
            .sections
            .symbols(LittleEndian, self.data, elf::SHT_SYMTAB);
        let begin_there = |symbol: &&elf::Sym64<LittleEndian>| {
            symbol.st_type() == elf::STT_FUNC && symbol.st_value(LittleEndian) == function.start
        };
        symbols.is_ok_and(|symbols| symbols.iter().filter(begin_there).nth(1).is_some())
    }

    /// The contents of a section; nothing if there is none.
    fn section(&self, name: &str) -> &'static [u8] {
        let section = self.sections.section_by_name(LittleEndian, name.as_bytes());
        let data = section.and_then(|(_, section)| section.data(LittleEndian, self.data).ok());
        data.unwrap_or_default()
    }
}

impl Symbol {
    /// Whether the function of the symbol table that contains it has a name for which `is` is true, as far as the first 256 bytes
    /// of the name say. False where nothing is known. Takes no memory and no lock. Any context.
    pub fn function_is(&self, is: impl FnOnce(&str) -> bool) -> bool {
        self.function().is_some_and(|(_, function)| {
            is(&Beginning::of(rustc_demangle::demangle(function.name)))
        })
    }

    /// `function+0xoffset/0xsize`.
    fn write_extent(&self, f: &mut fmt::Formatter<'_>, function: &Named) -> fmt::Result {
        let name = rustc_demangle::demangle(function.name);
        let offset = (self.shown as u64).wrapping_sub(function.start);
        write!(f, "{name:#}+{offset:#x}/{:#x}", function.size)
    }

    /// The function that contains it, with the kernel's file.
    fn function(&self) -> Option<(Image, Named)> {
        let image = Image::get()?;
        let function = image.find(elf::STT_FUNC, self.looked_up as u64)?;
        Some((image, function))
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((image, function)) = self.function() else {
            return write!(f, "{:#018x}", self.shown);
        };
        self.write_extent(f, &function)?;
        if self.detail == Detail::Names {
            return Ok(());
        }
        with_functions(&image, self.looked_up as u64, Names::Linkage, |chain| {
            let mut places = chain.outermost_first();
            if let Some(own) = places.next() {
                write_place(f, own)?;
            }
            for (name, place) in places.filter_map(of_the_kernel) {
                write!(f, ", inlined {:#}", rustc_demangle::demangle(name))?;
                write_place(f, place)?;
            }
            Ok(())
        })
    }
}

impl fmt::Display for Innermost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((image, function)) = self.0.function() else {
            return write!(f, "{:#018x}", self.0.shown);
        };
        with_functions(&image, self.0.looked_up as u64, Names::Linkage, |chain| {
            let (inlined, _) = chain.innermost_first();
            let inlined = inlined.iter().find_map(of_the_kernel);
            let name = inlined.map_or(function.name, |(name, _)| name);
            write!(f, "{:#}", rustc_demangle::demangle(name))
        })
    }
}

impl fmt::Display for FrameLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((image, function)) = self.0.function() else {
            return write!(f, "{:#018x}", self.0.shown);
        };
        with_functions(&image, self.0.looked_up as u64, Names::Linkage, |chain| {
            let (inlined, own) = chain.innermost_first();
            for (name, place) in inlined.iter().filter_map(of_the_kernel) {
                write!(f, "{:#}", rustc_demangle::demangle(name))?;
                write_place(f, place)?;
                writeln!(f)?;
            }
            self.0.write_extent(f, &function)?;
            own.map_or(Ok(()), |own| write_place(f, own))
        })
    }
}

impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((image, function)) = self.0.function() else {
            return write!(f, "{:#018x}", self.0.shown);
        };
        write!(f, "{:#}", rustc_demangle::demangle(function.name))?;
        with_functions(&image, self.0.looked_up as u64, Names::Linkage, |chain| {
            let inlined = chain.outermost_first().skip(1);
            for (name, _) in inlined.filter_map(of_the_kernel) {
                write!(f, "\n{:#}", rustc_demangle::demangle(name))?;
            }
            Ok(())
        })
    }
}

impl fmt::Display for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((image, function)) = self.0.function() else {
            return Ok(());
        };
        // The linker may have given several functions of equal code one place: then the arguments are those of any of them.
        let is_shared = image.is_shared(&function);
        with_functions(&image, self.0.looked_up as u64, Names::Instances, |chain| {
            if chain.is_cut() {
                return Ok(());
            }
            let (inlined, own) = chain.innermost_first();
            for place in inlined.iter().chain(own) {
                let Some(name) = place.name else {
                    return Ok(());
                };
                write!(f, "{:#}", rustc_demangle::demangle(name))?;
                if !is_shared {
                    f.write_str(arguments_of(place.instance))?;
                }
                writeln!(f)?;
            }
            Ok(())
        })
    }
}

/// The generic arguments behind a function's name in the source, with their brackets.
fn arguments_of(instance: Option<&str>) -> &str {
    let starts = instance.and_then(|name| Some((name, name.find('<')?)));
    starts.map_or("", |(name, start)| &name[start..])
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = rustc_demangle::demangle(self.name);
        write!(f, "{name:#}+{:#x}", self.offset)
    }
}

/// A function that has a name, and not one of the standard library's.
fn of_the_kernel<'a, 'b>(place: &'b Place<'a>) -> Option<(&'a str, &'b Place<'a>)> {
    let name = place.name?;
    (!is_library(&Beginning::of(rustc_demangle::demangle(name)))).then_some((name, place))
}

/// The first 256 bytes of a name, enough to see its crate, in memory that was cleared first: the stack it lies on stays in use.
struct Beginning(ArrayString<256>);

impl Beginning {
    fn of(name: impl fmt::Display) -> ArrayString<256> {
        let mut beginning = Self(ArrayString::zero_filled());
        beginning.0.clear();
        // An error means that there is more.
        let _ = write!(beginning, "{name:#}");
        beginning.0
    }
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.0.try_push(character).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Whether a function is the standard library's: how `Box` calls the allocator is no help in a report.
fn is_library(name: &str) -> bool {
    const LIBRARIES: [&str; 3] = ["core::", "alloc::", "__rustc::"];
    // For `<Type as path::Trait>::function` the trait's path counts.
    let path = name
        .split_once(" as ")
        .map_or(name.trim_start_matches(['<', '&']), |(_, path)| path);
    LIBRARIES.iter().any(|library| path.starts_with(library))
}

fn write_place(f: &mut fmt::Formatter<'_>, place: &Place<'_>) -> fmt::Result {
    let (Some(file), Some(line)) = (place.file, place.line) else {
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
