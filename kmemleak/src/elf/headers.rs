//! Where an image's program headers are, and what they say.
//!
//! All that is read is checked: numbers in headers may be anything. Of a header in memory no more is read than its first 4096
//! bytes, in which linkers put the program headers, right behind it.

use core::hint::black_box;
use core::ops::Range;
use core::slice;

use ::elf::abi::{ET_DYN, ET_EXEC, PF_W, PT_GNU_RELRO, PT_LOAD};
use ::elf::endian::NativeEndian;
use ::elf::file::{Class, FileHeader, parse_ident};
use ::elf::parse::ParseAt;
use ::elf::segment::{ProgramHeader, SegmentTable};

use super::ImageError;
use super::span::{self, Span};

/// Bytes that tell of what kind an ELF file is, and of its whole header: the ELF specification for 64 bits, "ELF Header".
const IDENT_LEN: usize = 16;
const HEADER_LEN: usize = 64;

/// How far from its ELF header on an image in memory is read, in bytes: a page.
const MOST_READ: usize = 4096;

/// Where an image's headers are.
pub(super) enum Place {
    /// In memory, at this address or nowhere (null).
    Loaded(*const u8),
    /// In a file that was loaded this number of bytes above its link addresses.
    File { file: &'static [u8], bias: usize },
}

// SAFETY: what the pointer leads to does not change, as `Image::loaded_at` demands.
unsafe impl Sync for Place {}

/// The program headers of an image.
pub(super) struct Headers {
    segments: SegmentTable<'static, NativeEndian>,
    /// What is to be added to the addresses in headers.
    pub(super) bias: usize,
}

impl Place {
    /// Reads the headers.
    pub(super) fn headers(&self) -> Result<Headers, ImageError> {
        let headers = match *self {
            Self::Loaded(header) => {
                // The compiler takes it for granted that a static has an address, and would leave out the comparison.
                let header = black_box(header);
                if header.is_null() {
                    return Err(ImageError::NotLoaded);
                }
                // SAFETY: the pointer is not null, and `Image::loaded_at` demands the rest.
                let loaded = unsafe { loaded(header) }?;
                let mut headers = Headers::in_file(loaded, 0)?;
                headers.bias = header
                    .addr()
                    .wrapping_sub(headers.link_address(loaded.len())?);
                headers
            }
            Self::File { file, bias } => Headers::in_file(file, bias)?,
        };
        headers.verify()?;
        Ok(headers)
    }
}

/// An image in memory from its ELF header to the end of its program headers.
///
/// # Safety
///
/// As of [`Image::loaded_at`](super::Image::loaded_at), and the pointer is not null.
unsafe fn loaded(header: *const u8) -> Result<&'static [u8], ImageError> {
    // SAFETY: the caller's promise.
    let first = unsafe { slice::from_raw_parts(header, HEADER_LEN) };
    let end = table(first)?.end;
    if end > MOST_READ {
        return Err(ImageError::NoProgramHeaders);
    }
    // SAFETY: this is an ELF header whose program headers end in the first 4096 bytes, so the caller's promise is of them, too.
    Ok(unsafe { slice::from_raw_parts(header, end) })
}

/// Where in a file its ELF header says that the program headers are.
fn table(file: &[u8]) -> Result<Range<usize>, ImageError> {
    let header = elf_header(file)?;
    let entry = usize::from(header.e_phentsize);
    let len = entry * usize::from(header.e_phnum);
    let start = usize::try_from(header.e_phoff).ok();
    let table = start.and_then(|start| Some(start..start.checked_add(len)?));
    table
        .filter(|table| table.start >= HEADER_LEN && !table.is_empty())
        .filter(|_| entry == ProgramHeader::size_for(Class::ELF64))
        .ok_or(ImageError::NoProgramHeaders)
}

fn elf_header(file: &[u8]) -> Result<FileHeader<NativeEndian>, ImageError> {
    let (ident, tail) = file.split_at_checked(IDENT_LEN).ok_or(ImageError::NoElf)?;
    let ident = parse_ident::<NativeEndian>(ident).map_err(|_| ImageError::NoElf)?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| ImageError::NoElf)?;
    match (header.class, header.e_type) {
        (Class::ELF64, ET_EXEC | ET_DYN) => Ok(header),
        (Class::ELF64, _) => Err(ImageError::NotExecutable),
        (Class::ELF32, _) => Err(ImageError::NoElf),
    }
}

impl Headers {
    fn in_file(file: &'static [u8], bias: usize) -> Result<Self, ImageError> {
        let table = file.get(table(file)?).ok_or(ImageError::NoProgramHeaders)?;
        Ok(Self {
            segments: SegmentTable::new(NativeEndian, Class::ELF64, table),
            bias,
        })
    }

    fn segments(&self) -> impl Iterator<Item = ProgramHeader> + Clone {
        let table = self.segments;
        (0..table.len()).filter_map(move |index| table.get(index).ok())
    }

    /// The link address of the headers, which end at this offset in the file: the segment that has them begins with the file.
    fn link_address(&self, end: usize) -> Result<usize, ImageError> {
        let mut segments = self.segments();
        let holds_headers = segments.find(|segment| {
            segment.p_type == PT_LOAD && segment.p_offset == 0 && segment.p_filesz >= end as u64
        });
        holds_headers
            .map(|segment| segment.p_vaddr as usize)
            .ok_or(ImageError::HeadersInNoSegment)
    }

    /// The writable addresses that are the lowest at or above this link address.
    pub(super) fn span_at_or_above(&self, from: u64) -> Option<Span> {
        let writable = self.segments().filter(is_writable);
        let constant = self.segments().filter(is_constant);
        span::lowest(
            from,
            writable.filter_map(|segment| Span::new(segment.p_vaddr, segment.p_memsz)),
            constant.filter_map(|segment| Span::new(segment.p_vaddr, segment.p_filesz)),
        )
    }

    /// That all that is used of the program headers is possible.
    fn verify(&self) -> Result<(), ImageError> {
        let is_bad = |segment: ProgramHeader| {
            (is_writable(&segment) || is_constant(&segment)) && !self.is_possible(&segment)
        };
        match self.segments().position(is_bad) {
            Some(index) => Err(ImageError::BadSegment(index)),
            None => Ok(()),
        }
    }

    /// Whether a segment lies in the address space, both where it was linked and where it was loaded.
    fn is_possible(&self, segment: &ProgramHeader) -> bool {
        let (first, len) = (segment.p_vaddr, segment.p_memsz);
        let loaded = first.wrapping_add(self.bias as u64);
        let fits = |start| len == 0 || Span::new(start, len).is_some();
        segment.p_filesz <= len && fits(first) && fits(loaded)
    }
}

/// Whether a segment is loaded, and can be written to.
fn is_writable(segment: &ProgramHeader) -> bool {
    segment.p_type == PT_LOAD && segment.p_flags & PF_W != 0
}

/// Whether a segment names what is constant once the image is relocated.
fn is_constant(segment: &ProgramHeader) -> bool {
    segment.p_type == PT_GNU_RELRO
}
