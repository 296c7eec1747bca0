//! The names of code addresses, from a kernel's ELF file.
//!
//! The symbol table gives the function with its extent, the debug information the line and the functions that were inlined
//! there. Either may be missing. A return address is looked up one byte before it: the call is the instruction before,
//! and if it never returns, the next function may start there.
//!
//! The fields of types are in the debug information as well, if that is full.
//!
//! Each address is looked up once: a log has few call sites, and many reports of each.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use addr2line::{Loader, Location};
use gimli::{ReaderOffset, UnitOffset};
use kmemleak::{FunctionText, is_allocation_machinery};
use object::{Object, ObjectSegment, ObjectSymbol, SegmentFlags, SymbolKind, elf};

use crate::instances::{Instances, Start, instance};
use crate::layouts::{Layouts, Word};

/// What is known of a return address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The functions there, innermost first, each with its place: those that were inlined, without allocation machinery, then the
    /// function itself. None where nothing is known.
    pub functions: Vec<String>,
    /// All functions there, innermost first, with their generic arguments, as [`kmemleak::TypeSearch`] takes them. None where one of
    /// them is not known.
    pub instances: Vec<String>,
    /// Whether all functions there are allocation machinery.
    pub is_machinery: bool,
    /// Whether it is an address in the kernel's code.
    pub is_code: bool,
}

impl Frame {
    /// All functions in one text, as JSON has them.
    pub(crate) fn text(&self) -> Option<String> {
        let outermost_first: Vec<_> = self.functions.iter().rev().map(String::as_str).collect();
        let is_known = !outermost_first.is_empty();
        is_known.then(|| outermost_first.join(", inlined "))
    }

    /// The lines of a call stack, without what stands before them, for so many columns; none where nothing is known.
    pub(crate) fn lines(&self, columns: usize) -> impl Iterator<Item = String> {
        let own = self.functions.len().saturating_sub(1);
        let functions = self.functions.iter().enumerate();
        functions.map(move |(place, function)| {
            let mark = if place < own { " [inlined]" } else { "" };
            let mut text = FunctionText::new(function);
            text.fit_line(columns.saturating_sub(mark.len()));
            format!("{text}{mark}")
        })
    }

    /// The innermost function, as an answer about an object names it.
    pub(crate) fn call_site(&self, columns: usize) -> Option<String> {
        let mut text = FunctionText::new(self.functions.first()?);
        text.fit(columns);
        let function = text.function();
        Some(match text.place() {
            Some(place) => format!("{function} ({place})"),
            None => function.into(),
        })
    }

    /// The innermost function, and its place, in the columns of a report's table.
    pub(crate) fn columns(&self, columns: usize) -> Option<String> {
        let mut text = FunctionText::new(self.functions.first()?);
        text.fit(columns);
        let function = text.path_end(columns);
        Some(match text.place() {
            Some(place) => format!("{function:columns$} {place}"),
            None => function.into(),
        })
    }
}

/// What names return addresses.
pub trait Names {
    /// What is known of a return address.
    fn frame(&mut self, address: u64) -> Rc<Frame>;

    /// What a word of a block is called: the field of a structure.
    fn field(&mut self, word: &Word<'_>) -> Option<String>;
}

/// Why a file names nothing.
#[derive(Debug)]
pub enum KernelError {
    /// It can't be read.
    Read(PathBuf, io::Error),
    /// It is no ELF file.
    NotElf(PathBuf),
    /// It has neither a symbol table nor debug information.
    NoNames(PathBuf),
    /// The debug information can't be read.
    Damaged(PathBuf, String),
}

impl Display for KernelError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotElf(path) => write!(f, "{}: not an ELF file", path.display()),
            Self::NoNames(path) => write!(
                f,
                "{}: no symbols and no debug information: expected a kernel that was not stripped",
                path.display()
            ),
            Self::Damaged(path, error) => {
                write!(f, "{}: debug information: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for KernelError {}

/// A function of the symbol table.
struct Function {
    start: u64,
    end: u64,
    /// As the linker knows it.
    name: String,
    /// Whether others begin there.
    begins: Start,
}

/// A kernel's file, and where the kernel ran.
pub struct Kernel {
    lines: Loader,
    instances: Option<Instances>,
    path: PathBuf,
    /// Read when the first field is asked for.
    layouts: OnceCell<Option<Layouts>>,
    /// In the order of their addresses.
    functions: Vec<Function>,
    code: Vec<Range<u64>>,
    /// What to add to an address of the file to get one of the kernel that ran.
    slide: u64,
    has_lines: bool,
    is_damaged: Cell<bool>,
    /// What is left out of the names of files.
    folder: PathBuf,
    known: HashMap<u64, Rc<Frame>>,
}

impl Kernel {
    /// Reads a kernel's file. `base` is where its lowest segment lay when it ran, if that was not where it is linked to. Names of
    /// files below `folder` are written without it.
    pub fn open(path: &Path, base: Option<u64>, folder: &Path) -> Result<Self, KernelError> {
        let data = std::fs::read(path).map_err(|error| KernelError::Read(path.into(), error))?;
        let file = object::File::parse(&*data).map_err(|_| KernelError::NotElf(path.into()))?;
        let functions = functions(&file);
        let has_lines = file.has_debug_symbols();
        if functions.is_empty() && !has_lines {
            return Err(KernelError::NoNames(path.into()));
        }
        let lowest = file.segments().map(|segment| segment.address()).min();
        let slide = base.map_or(0, |base| base.wrapping_sub(lowest.unwrap_or(0)));
        let damaged = |error: Box<dyn std::error::Error>| {
            KernelError::Damaged(path.into(), error.to_string())
        };
        Ok(Self {
            lines: Loader::new(path).map_err(damaged)?,
            instances: Instances::of(&file),
            path: path.into(),
            layouts: OnceCell::new(),
            functions,
            code: code(&file),
            slide,
            has_lines,
            is_damaged: Cell::new(false),
            folder: folder.into(),
            known: HashMap::new(),
        })
    }

    /// Whether there is debug information.
    pub fn has_lines(&self) -> bool {
        self.has_lines
    }

    /// Whether debug information that was needed could not be read.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.get()
    }

    /// Where its code lay when it ran, from the lowest address to the highest.
    pub fn extent(&self) -> Range<u64> {
        let start = self.code.iter().map(|range| range.start).min().unwrap_or(0);
        let end = self.code.iter().map(|range| range.end).max().unwrap_or(0);
        start.wrapping_add(self.slide)..end.wrapping_add(self.slide)
    }

    fn look_up(&self, address: u64) -> Frame {
        let address = address.wrapping_sub(self.slide);
        let call = address.wrapping_sub(1);
        let is_code = self.code.iter().any(|range| range.contains(&call));
        let mut places = match is_code {
            true => self.places(call),
            false => Vec::new(),
        };
        let function = self.function(call).filter(|_| is_code);
        let instances = self.instances(call, &places, function);
        let own = places.pop().unwrap_or_default();
        let name = function.map_or(own.name, |function| Some(demangled(&function.name)));
        let Some(name) = name else {
            return Frame {
                functions: Vec::new(),
                instances: Vec::new(),
                is_machinery: false,
                is_code,
            };
        };
        let is_machinery =
            |name: &Option<String>| name.as_deref().is_none_or(is_allocation_machinery);
        let all_machinery =
            is_allocation_machinery(&name) && places.iter().all(|place| is_machinery(&place.name));
        let inlined = places
            .iter()
            .filter(|place| !is_machinery(&place.name))
            .map(|place| {
                format!(
                    "{}{}",
                    place.name.as_deref().unwrap_or_default(),
                    place.line
                )
            });
        let extent = function.map_or(String::new(), |function| {
            let (offset, size) = (address - function.start, function.end - function.start);
            format!("+{offset:#x}/{size:#x}")
        });
        let own = format!("{name}{extent}{}", own.line);
        Frame {
            functions: inlined.chain([own]).collect(),
            instances,
            is_machinery: all_machinery,
            is_code,
        }
    }

    /// These places, which contain an address of the file, as functions with their arguments. If the debug information has none, the
    /// function of the symbol table tells at least whether it may lie between an allocator and the code that asked for memory.
    fn instances(&self, address: u64, places: &[Place], own: Option<&Function>) -> Vec<String> {
        let shared = own.map_or(Start::Own, |function| function.begins);
        if places.is_empty() {
            let own = own.into_iter();
            return own
                .map(|own| {
                    let name = demangled(&own.name);
                    instance(&own.name, &name, None, None, own.begins)
                })
                .collect();
        }
        let unit = self.instances.as_ref().and_then(|all| all.unit(address));
        let all = places.iter().map(|place| {
            let (mangled, name) = (place.mangled.as_deref()?, place.name.as_deref()?);
            let unit = unit.as_ref();
            Some(instance(mangled, name, unit, place.entry, shared))
        });
        all.collect::<Option<_>>().unwrap_or_default()
    }

    /// The function of the symbol table that contains an address of the file.
    fn function(&self, address: u64) -> Option<&Function> {
        let next = self
            .functions
            .partition_point(|function| function.start <= address);
        let function = self.functions.get(next.checked_sub(1)?)?;
        (address < function.end).then_some(function)
    }

    /// The functions that contain an address of the file, the innermost first, from the debug information.
    fn places(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.lines.find_frames(address) else {
            self.is_damaged.set(true);
            return places;
        };
        loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    let function = frame.function.as_ref();
                    let mangled = function.and_then(|function| function.raw_name().ok());
                    places.push(Place {
                        name: mangled.as_deref().map(demangled),
                        mangled: mangled.map(|name| name.into_owned()),
                        entry: frame.dw_die_offset.and_then(unit_offset),
                        line: frame.location.map_or(String::new(), |at| self.line(&at)),
                    });
                }
                Ok(None) => return places,
                Err(_) => {
                    self.is_damaged.set(true);
                    return places;
                }
            }
        }
    }

    /// A place in a source, as it stands behind a function's name.
    fn line(&self, location: &Location<'_>) -> String {
        match (location.file, location.line) {
            (Some(file), Some(line)) => format!(" ({}:{line})", self.shortened(file)),
            _ => String::new(),
        }
    }

    /// A path without what belongs to the machine that compiled it.
    fn shortened<'a>(&self, path: &'a str) -> &'a str {
        if let Ok(rest) = Path::new(path).strip_prefix(&self.folder) {
            return rest.to_str().unwrap_or(path);
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
}

impl Names for Kernel {
    fn frame(&mut self, address: u64) -> Rc<Frame> {
        if let Some(frame) = self.known.get(&address) {
            return Rc::clone(frame);
        }
        let frame = Rc::new(self.look_up(address));
        self.known.insert(address, Rc::clone(&frame));
        frame
    }

    fn field(&mut self, word: &Word<'_>) -> Option<String> {
        let layouts = self.layouts.get_or_init(|| Layouts::open(&self.path));
        layouts.as_ref()?.field(word)
    }
}

/// A function that contains an address.
#[derive(Default)]
struct Place {
    name: Option<String>,
    /// The name for the linker.
    mangled: Option<String>,
    /// Its entry in the debug information.
    entry: Option<UnitOffset>,
    /// The line of the address, or of the call that was inlined; empty if it is not known.
    line: String,
}

fn unit_offset<T: ReaderOffset>(entry: UnitOffset<T>) -> Option<UnitOffset> {
    usize::try_from(entry.0.into_u64()).ok().map(UnitOffset)
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The functions of the symbol table. One without a size ends where the next one starts.
fn functions(file: &object::File<'_>) -> Vec<Function> {
    let symbols = file.symbols();
    let mut functions: Vec<Function> = symbols
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .filter_map(|symbol| {
            Some(Function {
                start: symbol.address(),
                end: symbol.address().checked_add(symbol.size())?,
                name: symbol.name().ok()?.to_owned(),
                begins: Start::Own,
            })
        })
        .collect();
    // Of several names of one place, that of the largest comes first, and stays.
    functions.sort_by_key(|function| (function.start, u64::MAX - function.end));
    functions.dedup_by(|next, first| {
        let is_same = next.start == first.start;
        if is_same {
            first.begins = Start::Shared;
        }
        is_same
    });
    for index in 1..functions.len() {
        let next = functions[index].start;
        let before = &mut functions[index - 1];
        if before.end == before.start {
            before.end = next;
        }
    }
    functions
}

/// The segments that are executed.
fn code(file: &object::File<'_>) -> Vec<Range<u64>> {
    let is_code =
        |flags| matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags.0 & elf::PF_X.0 != 0);
    let segments = file.segments();
    segments
        .filter(|segment| is_code(segment.flags()))
        .filter_map(|segment| {
            let start = segment.address();
            Some(start..start.checked_add(segment.size())?)
        })
        .collect()
}
