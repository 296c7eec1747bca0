//! Files, lines and inlined functions, from the debug information.
//!
//! The library that reads it needs memory, 5 to 6 MiB in thousands of blocks, panics if it gets none, and expects sound debug
//! information. So it runs [confined](crate::mm::confined): if it gets no memory, or panics over damaged information, it is
//! left, and a name is written without its line. [`missing`] gives the reason, and [`tell_missing`] writes it once.
//!
//! The results are references into the kernel's file and into the confined memory; other code here does not allocate.
//!
//! # Locks
//!
//! A sleeping lock over the debug information, held while a name is written. The CPU that ends the machine takes it if it is
//! free, and otherwise writes names without lines.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use addr2line::Context;
use addr2line::gimli::{self, EndianSlice, LittleEndian};

use super::Image;
use super::instance::{self, Reader};
use crate::arch::ending;
use crate::mm::confined::{Confined, Ended};
use crate::task::{Mutex, MutexGuard};

/// None if the debug information is damaged.
type Lines = Option<Context<Reader>>;

static DEBUG: Mutex<Confined<Lines>> = Mutex::new(Confined::new());

/// Why lines are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is too little memory for them.
    NoMemory,
    /// The debug information is damaged.
    Damaged,
    /// A task that never goes on was reading the debug information.
    InUse,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "no memory for file and line",
            Self::Damaged => "no file and line where the debug information is damaged",
            Self::InUse => "no file and line: the debug information was in use",
        })
    }
}

/// Why lines are missing at present: a number for each reason, zero if they are not.
static MISSING: AtomicU32 = AtomicU32::new(0);

/// Why names are written without lines at present; none if they have lines.
pub fn missing() -> Option<Missing> {
    match MISSING.load(Ordering::Relaxed) {
        0 => None,
        1 => Some(Missing::NoMemory),
        2 => Some(Missing::Damaged),
        _ => Some(Missing::InUse),
    }
}

/// Whether [`tell_missing`] has still to write what is missing.
static IS_NEWS: AtomicBool = AtomicBool::new(false);

/// Writes once why names have no lines, in a line of its own: not among the names, which are part of a report. Task context.
pub fn tell_missing(out: &mut dyn fmt::Write) -> fmt::Result {
    match missing() {
        Some(missing) if IS_NEWS.swap(false, Ordering::Relaxed) => {
            writeln!(out, "symbols: {missing}")
        }
        _ => Ok(()),
    }
}

/// Notes why the last name had no line, or that it had one. At the end of the machine the report itself says why.
fn note(lacked: Option<Missing>) {
    let Some(lacked) = lacked else {
        // The information is still damaged at another place.
        if missing() != Some(Missing::Damaged) {
            MISSING.store(0, Ordering::Relaxed);
        }
        return;
    };
    let number = match lacked {
        Missing::NoMemory => 1,
        Missing::Damaged => 2,
        Missing::InUse => 3,
    };
    let before = MISSING.swap(number, Ordering::Relaxed);
    if before != number && !ending::is_ending() {
        IS_NEWS.store(true, Ordering::Relaxed);
    }
}

/// A function that contains an address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    /// Its name for the linker.
    pub name: Option<&'a str>,
    /// Its name in the source, with its generic arguments, if that was asked for.
    pub instance: Option<&'a str>,
    /// The file of the address, or of the call that was inlined.
    pub file: Option<&'a str>,
    /// The line of the address, or of the call that was inlined.
    pub line: Option<u32>,
}

/// The most functions that are named for one address.
const MOST: usize = 32;

/// The functions that contain an address, the innermost first.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    places: [Place<'a>; MOST],
    count: usize,
    /// Whether the innermost functions are missing.
    is_cut: bool,
}

impl<'a> Chain<'a> {
    const EMPTY: Self = Self {
        places: [Place {
            name: None,
            instance: None,
            file: None,
            line: None,
        }; MOST],
        count: 0,
        is_cut: false,
    };

    /// Whether the innermost functions are missing: there were too many.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The function itself, then what is inlined in it.
    pub fn outermost_first(&self) -> impl Iterator<Item = &Place<'a>> {
        self.places[..self.count].iter().rev()
    }

    /// What is inlined in the function, the innermost first, and the function itself, if it is known.
    pub fn innermost_first(&self) -> (&[Place<'a>], Option<&Place<'a>>) {
        match self.places[..self.count].split_last() {
            Some((own, inlined)) => (inlined, Some(own)),
            None => (&[], None),
        }
    }

    /// Adds the function that contains the others. If there are too many, the innermost is dropped.
    fn push(&mut self, place: Place<'a>) {
        if self.count == MOST {
            self.places.rotate_left(1);
            self.count -= 1;
            self.is_cut = true;
        }
        self.places[self.count] = place;
        self.count += 1;
    }
}

/// Which names of functions are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Those for the linker.
    Linkage,
    /// Those in the source as well, with generic arguments.
    Instances,
}

/// Runs `work` on the functions that contain `address`, or on none if they can't be found.
pub(super) fn with_functions<R>(
    image: &Image,
    address: u64,
    names: Names,
    work: impl FnOnce(&Chain<'_>) -> R,
) -> R {
    // In one place: it is large, and debug builds copy what they return.
    let mut chain = Chain::EMPTY;
    let Some(mut debug) = lock() else {
        note(Some(Missing::InUse));
        return work(&chain);
    };
    // SAFETY: both work on the kernel's file and what they allocate; they hold nothing.
    let found = unsafe {
        debug.with(
            || read(image),
            |lines| look_up(lines.as_ref(), address, names, &mut chain),
        )
    };
    note(match found {
        Ok(Some(())) => None,
        Ok(None) | Err(Ended::Panicked) => Some(Missing::Damaged),
        Err(Ended::OutOfMemory) => Some(Missing::NoMemory),
        Err(Ended::Busy) => Some(Missing::InUse),
    });
    if found != Ok(Some(())) {
        chain.count = 0;
    }
    work(&chain)
}

fn lock() -> Option<MutexGuard<'static, Confined<Lines>>> {
    if ending::is_ending() {
        DEBUG.try_lock()
    } else {
        Some(DEBUG.lock())
    }
}

/// Reads what must be read before the first address can be looked up. Runs confined.
fn read(image: &Image) -> Lines {
    let load = |id: gimli::SectionId| -> Result<Reader, ()> {
        Ok(EndianSlice::new(image.section(id.name()), LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(load).ok()?;
    Context::from_dwarf(dwarf).ok()
}

/// Reads as much more as this address needs, and adds the functions to the chain; none if the information is damaged. Runs confined.
fn look_up<'a>(
    lines: Option<&'a Context<Reader>>,
    address: u64,
    names: Names,
    chain: &mut Chain<'a>,
) -> Option<()> {
    let lines = lines?;
    let unit = match names {
        Names::Linkage => None,
        Names::Instances => lines.find_dwarf_and_unit(address).skip_all_loads(),
    };
    let mut frames = lines.find_frames(address).skip_all_loads().ok()?;
    while let Some(frame) = frames.next().ok()? {
        let name = frame.function.map(|function| function.name.slice());
        let entry = unit.as_ref().zip(frame.dw_die_offset);
        chain.push(Place {
            name: name.and_then(|name| core::str::from_utf8(name).ok()),
            instance: entry.and_then(|(unit, entry)| instance::name(unit, entry)),
            file: frame.location.as_ref().and_then(|location| location.file),
            line: frame.location.as_ref().and_then(|location| location.line),
        });
    }
    Some(())
}
