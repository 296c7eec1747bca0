//! Files, lines and inlined functions, from the debug information.
//!
//! What reads it is a library that needs memory, 5 to 6 MiB in thousands of blocks, and knows no way to go on without; and that
//! takes what it reads for sound. So it runs [confined](crate::mm::confined): if it gets no memory, or stumbles over damaged
//! information, it is left, and a name is told without its line. A caller that asks for names learns that once: [`missing`].
//!
//! What is found is plain references into the kernel's file and into the confined memory; nothing here allocates.
//!
//! # Locks
//!
//! A sleeping one over the debug information, held while a name is written. Who ends the machine takes it if it is free, and does
//! without otherwise.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use addr2line::Context;
use addr2line::gimli::{self, EndianSlice, LittleEndian};

use super::Image;
use crate::arch::ending;
use crate::mm::confined::{Confined, Ended};
use crate::task::{Mutex, MutexGuard};

type Reader = EndianSlice<'static, LittleEndian>;

/// None where what there is makes no sense.
type Lines = Option<Context<Reader>>;

static DEBUG: Mutex<Confined<Lines>> = Mutex::new(Confined::new());

/// Why lines are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is too little memory for them.
    NoMemory,
    /// The debug information is damaged.
    Damaged,
    /// Somebody who never goes on was reading it.
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

/// What is missing at present: a number for each reason, zero for nothing.
static MISSING: AtomicU32 = AtomicU32::new(0);

/// Why names are told without lines at present; none if they have theirs.
pub fn missing() -> Option<Missing> {
    match MISSING.load(Ordering::Relaxed) {
        0 => None,
        1 => Some(Missing::NoMemory),
        2 => Some(Missing::Damaged),
        _ => Some(Missing::InUse),
    }
}

/// Whether nobody has been told yet what is missing.
static IS_NEWS: AtomicBool = AtomicBool::new(false);

/// Writes what names lack since the last time, in a line of its own: not among the names, which stand in a report. Task
/// context.
pub fn tell_missing(out: &mut dyn fmt::Write) -> fmt::Result {
    match missing() {
        Some(missing) if IS_NEWS.swap(false, Ordering::Relaxed) => {
            writeln!(out, "symbols: {missing}")
        }
        _ => Ok(()),
    }
}

/// Notes what the last name has lacked. At the end of the machine the report says so itself.
fn note(lacked: Option<Missing>) {
    let Some(lacked) = lacked else {
        // What is damaged remains so, elsewhere.
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

/// A function that an address is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    /// As the linker knows it.
    pub name: Option<&'a str>,
    /// The file of the address, or of the call that was inlined.
    pub file: Option<&'a str>,
    /// And the line.
    pub line: Option<u32>,
}

/// The most functions that are named for one address.
const MOST: usize = 16;

/// The functions that an address is in, the outermost first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain<'a> {
    places: [Place<'a>; MOST],
    count: usize,
}

impl<'a> Chain<'a> {
    const EMPTY: Self = Self {
        places: [Place {
            name: None,
            file: None,
            line: None,
        }; MOST],
        count: 0,
    };

    /// The function itself, then what is inlined in it.
    pub fn outermost_first(&self) -> impl Iterator<Item = &Place<'a>> {
        self.places[..self.count].iter().rev()
    }

    /// Adds the function round the others. Of more than fit, the outermost are kept.
    fn push(&mut self, place: Place<'a>) {
        if self.count == MOST {
            self.places.rotate_left(1);
            self.count -= 1;
        }
        self.places[self.count] = place;
        self.count += 1;
    }
}

/// Runs `work` on the functions that `address` is in, or on none if that can't be had.
pub(super) fn with_functions<R>(
    image: &Image,
    address: u64,
    work: impl FnOnce(&Chain<'_>) -> R,
) -> R {
    let Some(mut debug) = lock() else {
        note(Some(Missing::InUse));
        return work(&Chain::EMPTY);
    };
    // SAFETY: both work on the kernel's file and what they allocate; they hold nothing.
    let found = unsafe { debug.with(|| read(image), |lines| look_up(lines.as_ref(), address)) };
    note(match found {
        Ok(Some(_)) => None,
        Ok(None) | Err(Ended::Panicked) => Some(Missing::Damaged),
        Err(Ended::OutOfMemory) => Some(Missing::NoMemory),
        Err(Ended::Busy) => Some(Missing::InUse),
    });
    work(&found.ok().flatten().unwrap_or(Chain::EMPTY))
}

fn lock() -> Option<MutexGuard<'static, Confined<Lines>>> {
    if ending::is_ending() {
        DEBUG.try_lock()
    } else {
        Some(DEBUG.lock())
    }
}

/// Reads what must be read before anything can be looked up. Confined.
fn read(image: &Image) -> Lines {
    let load = |id: gimli::SectionId| -> Result<Reader, ()> {
        Ok(EndianSlice::new(image.section(id.name()), LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(load).ok()?;
    Context::from_dwarf(dwarf).ok()
}

/// Reads on, as far as it takes for this address; none if that makes no sense. Confined.
fn look_up(lines: Option<&Context<Reader>>, address: u64) -> Option<Chain<'_>> {
    let mut chain = Chain::EMPTY;
    let mut frames = lines?.find_frames(address).skip_all_loads().ok()?;
    while let Some(frame) = frames.next().ok()? {
        let name = frame.function.map(|function| function.name.slice());
        chain.push(Place {
            name: name.and_then(|name| core::str::from_utf8(name).ok()),
            file: frame.location.as_ref().and_then(|location| location.file),
            line: frame.location.as_ref().and_then(|location| location.line),
        });
    }
    Some(chain)
}
