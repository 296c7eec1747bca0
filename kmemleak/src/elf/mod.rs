//! The roots of a kernel from its own program headers: no linker script, and no symbol for each section.
//!
//! What a kernel can write to lies in its writable segments. A linker puts their addresses into the program headers, and puts the
//! headers into the image, so that a running kernel can read them. With the feature `elf`:
//!
//! ```
//! use kmemleak::elf::Image;
//! # use kmemleak::{IrqState, Platform, Root, RootCursor};
//!
//! // SAFETY: the linker's default layout loads the headers, and they stay mapped.
//! static IMAGE: Image = unsafe { Image::running() };
//!
//! # struct Kernel;
//! # // SAFETY: the sections of a process are mapped.
//! # unsafe impl Platform for Kernel {
//! #     fn now_us(&self) -> u64 { 0 }
//! #     fn irq_save(&self) -> IrqState { IrqState(0) }
//! #     fn irq_restore(&self, _: IrqState) {}
//! fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
//!     IMAGE.next_root(cursor)
//! }
//! # }
//! # assert!(Kernel.next_root(&mut RootCursor::default()).is_some());
//!
//! // Early in the boot: says in words why an image has no roots.
//! IMAGE.check().expect("the kernel's program headers");
//! ```
//!
//! # What is named
//!
//! All writable `PT_LOAD` segments up to their size in memory (`.data`, `.bss`, and all others, whatever their names are), but not
//! what `PT_GNU_RELRO` says is constant after relocation: tables of functions, and the global offset table. No address between
//! segments is named: linkers leave gaps there, which nothing maps.
//!
//! - Of `PT_GNU_RELRO` the bytes that are in the file are left out. Some versions of lld round its size in memory up to a page, and
//!   variables may follow in that page. What is rounded up is zeros, and costs nothing as a root.
//! - `PT_TLS` changes nothing: it is the pattern from which thread-local or per-CPU variables are copied, and its `.tbss` has
//!   addresses that other sections use. The copies are roots that the platform names itself.
//!
//! What else should be no root, such as an array that is a heap's arena, or an allocator's own state, is
//! [excluded](crate::Detector::exclude). A segment that is not mapped at its address must not be named at all: that of a
//! linker script which links per-CPU variables at zero, for example. Such a kernel names its sections itself.
//!
//! # Source
//!
//! The ELF specification (System V gABI, "Program Header"). Segments may come in any order and may overlap; no byte is named
//! twice.

mod headers;
mod span;

use core::fmt;

use self::headers::Place;
use crate::platform::{Root, RootCursor, RootKind};

/// The stage of a [`RootCursor`] in which an image's roots are named.
const STAGE: usize = 0;

/// An ELF image of the running kernel, for a static: [in memory](Self::running), or [as a file](Self::in_file).
///
/// Nothing is read before it is asked. It keeps no state, takes no lock and no memory; all methods may be called in any context,
/// on several CPUs at once.
pub struct Image {
    place: Place,
}

impl Image {
    /// The image that this code is part of, by the symbol `__ehdr_start`, which ld and lld define where the ELF header is loaded.
    /// Relocated kernels (PIE, KASLR) are found where they are.
    ///
    /// A linker script must begin the first segment with the headers: `. = BASE + SIZEOF_HEADERS;` before the first section. Where
    /// it does not, lld defines the symbol as zero, which [`check`](Self::check) tells, and ld does not link.
    ///
    /// # Safety
    ///
    /// See [`loaded_at`](Self::loaded_at), of the address `__ehdr_start`. It holds if what loads the kernel maps all of its
    /// segments, and the kernel unmaps none that is not writable.
    pub const unsafe fn running() -> Self {
        unsafe extern "C" {
            // Only its address is used.
            safe static __ehdr_start: u8;
        }
        // SAFETY: the caller's promise.
        unsafe { Self::loaded_at(&raw const __ehdr_start) }
    }

    /// An image whose ELF header is in memory at this address.
    ///
    /// # Safety
    ///
    /// The address is null, or: 64 bytes can be read there from now on, and do not change. If they are an ELF header, then this
    /// holds for its program headers as well, as far as they lie in the 4096 bytes from the header on.
    pub const unsafe fn loaded_at(header: *const u8) -> Self {
        Self {
            place: Place::Loaded(header),
        }
    }

    /// An image by its ELF file, of which only the headers are read. It was loaded `bias` bytes above the addresses in the file:
    /// 0 where it was not relocated. Segments may be loaded below these addresses as well: numbers wrap.
    ///
    /// With another image's file, or a wrong bias, the roots are not this kernel's, and need not be mapped: who passes them to a
    /// detector promises that they are ([`Platform`](crate::Platform#safety)).
    pub const fn in_file(file: &'static [u8], bias: usize) -> Self {
        Self {
            place: Place::File { file, bias },
        }
    }

    /// Whether roots can be named, or why not.
    pub fn check(&self) -> Result<(), ImageError> {
        let headers = self.place.headers()?;
        match headers.span_at_or_above(0) {
            Some(_) => Ok(()),
            None => Err(ImageError::NothingWritable),
        }
    }

    /// How many bytes the image was loaded above its link addresses; numbers wrap.
    pub fn bias(&self) -> Result<usize, ImageError> {
        Ok(self.place.headers()?.bias)
    }

    /// The next root of the image in a [walk over the roots](crate::Platform::next_root); none where [`check`](Self::check)
    /// returns an error.
    ///
    /// It uses stage 0 of the cursor, and leaves it at index 0 of stage 1 when there are no more. In all other stages it returns
    /// `None` and changes nothing, so that a platform can go on with roots of its own:
    ///
    /// ```
    /// # use kmemleak::{elf::Image, Root, RootCursor, RootKind};
    /// # static STACKS: [(usize, usize); 2] = [(0x1000, 8), (0x2000, 8)];
    /// # struct Kernel { image: Image }
    /// # impl Kernel {
    /// fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
    ///     self.image.next_root(cursor).or_else(|| {
    ///         let task = cursor.index; // of stage 1
    ///         let &(start, len) = STACKS.get(task)?;
    ///         cursor.index += 1;
    ///         Some(Root { kind: RootKind::Stack(task as u32), start, len })
    ///     })
    /// }
    /// # }
    /// # let kernel = Kernel { image: Image::in_file(&[], 0) };
    /// # let mut cursor = RootCursor::default();
    /// # let starts = std::iter::from_fn(|| kernel.next_root(&mut cursor)).map(|root| root.start);
    /// # assert_eq!(starts.collect::<Vec<_>>(), [0x1000, 0x2000]);
    /// ```
    pub fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        if cursor.stage != STAGE {
            return None;
        }
        let found = self.place.headers().ok().and_then(|headers| {
            let span = headers.span_at_or_above(cursor.index as u64)?;
            Some((span, headers.bias))
        });
        // The index is the link address from which on nothing has been named; it may be the end of the address space.
        let next = found.and_then(|(span, _)| (span.last as usize).checked_add(1));
        *cursor = match next {
            Some(index) => RootCursor {
                stage: STAGE,
                index,
            },
            None => RootCursor {
                stage: STAGE + 1,
                index: 0,
            },
        };
        found.map(|(span, bias)| Root {
            kind: RootKind::Section,
            start: (span.first as usize).wrapping_add(bias),
            len: span.len() as usize,
        })
    }
}

/// Why an image has no roots that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The address of the ELF header is null: a linker script leaves the headers out of the image.
    NotLoaded,
    /// There is no ELF header for 64 bits in this machine's byte order.
    NoElf,
    /// The file is neither an executable nor a shared object.
    NotExecutable,
    /// There are no program headers, or they are not where the ELF header says: not in the file, or not in the 4096 bytes from
    /// the loaded header on.
    NoProgramHeaders,
    /// No segment of an image in memory contains its headers, so where it was loaded is unknown.
    HeadersInNoSegment,
    /// This program header, counted from 0, names addresses beyond the end of the address space, or more bytes in the file than
    /// in memory.
    BadSegment(usize),
    /// No segment is writable, but for what is constant after relocation.
    NothingWritable,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLoaded => {
                "the ELF header is not loaded: begin the first segment of the linker script with SIZEOF_HEADERS"
            }
            Self::NoElf => "no ELF header for 64 bits in this machine's byte order",
            Self::NotExecutable => "an ELF file that is neither an executable nor a shared object",
            Self::NoProgramHeaders => "no program headers where the ELF header says",
            Self::HeadersInNoSegment => "no segment contains the headers",
            Self::BadSegment(index) => {
                return write!(f, "program header {index} names impossible addresses");
            }
            Self::NothingWritable => "no segment is writable",
        })
    }
}

impl core::error::Error for ImageError {}
