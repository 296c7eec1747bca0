//! The kernel's file: an ELF at fixed addresses, checked before any of it is used.
//!
//! What is checked here needs no check later: segments lie in the file, at canonical addresses, share no
//! page (a page has one set of permissions) and are never both writable and executable; the entry point
//! lies in code.

use core::fmt::{self, Display, Formatter};

use bootloader_api::BootloaderConfig;
use object::LittleEndian;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use crate::PAGE;

const ENDIAN: LittleEndian = LittleEndian;

/// The section in which a kernel says what it asks of its loader.
const CONFIG_SECTION: &[u8] = b".bootloader-config";

/// What is wrong with the kernel's file.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is no 64-bit little-endian ELF file, or it is cut off, with the reader's reason.
    NotElf(object::Error),
    /// It is for this machine (an ELF machine number).
    WrongMachine(u16),
    /// It is no executable at fixed addresses, but this (an ELF type).
    WrongType(u16),
    /// There is nothing to load.
    Empty,
    /// The segment at this address reaches past the end of the file.
    CutOff(u64),
    /// The segment at this address has more bytes in the file than in memory.
    Overfull(u64),
    /// The segment at this address is not wholly within one half of the address space.
    BadAddress(u64),
    /// The segment at this address shares a page with the one before.
    SharedPage(u64),
    /// The segment at this address is both writable and executable.
    WritableCode(u64),
    /// The entry point, at this address, is in no executable segment.
    NoEntry(u64),
    /// It has no `.bootloader-config` section.
    NoConfig,
    /// Its `.bootloader-config` section can't be read, with the reader's reason.
    BadConfig(&'static str),
}

impl Display for ImageError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf(error) => write!(f, "not a readable ELF file: {error}"),
            Self::WrongMachine(machine) => write!(f, "not for x86_64 (ELF machine {machine})"),
            Self::WrongType(kind) => write!(f, "not linked at fixed addresses (ELF type {kind})"),
            Self::Empty => write!(f, "nothing to load in it"),
            Self::CutOff(address) => write!(f, "the file ends within the segment at {address:#x}"),
            Self::Overfull(address) => {
                write!(
                    f,
                    "the segment at {address:#x} is larger in the file than in memory"
                )
            }
            Self::BadAddress(address) => write!(f, "no segment can be at {address:#x}"),
            Self::SharedPage(address) => {
                write!(
                    f,
                    "the segment at {address:#x} shares a page with the one before it"
                )
            }
            Self::WritableCode(address) => {
                write!(
                    f,
                    "the segment at {address:#x} is both writable and executable"
                )
            }
            Self::NoEntry(address) => write!(f, "the entry point {address:#x} is not in its code"),
            Self::NoConfig => write!(f, "no .bootloader-config section (see entry_point!)"),
            Self::BadConfig(reason) => write!(f, ".bootloader-config can't be read: {reason}"),
        }
    }
}

impl From<object::Error> for ImageError {
    fn from(error: object::Error) -> Self {
        Self::NotElf(error)
    }
}

/// What may be done with the memory of a segment, besides reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing besides reading.
    ReadOnly,
    /// Writing.
    Write,
    /// Executing.
    Execute,
}

/// A part of the kernel in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Virtual address of its first byte.
    pub start: u64,
    /// Its bytes in memory. Those that are not in `contents` are zero.
    pub len: u64,
    /// Its first bytes.
    pub contents: &'a [u8],
    /// What may be done with it.
    pub access: Access,
}

impl Segment<'_> {
    /// Virtual address of its first page.
    pub fn first_page(&self) -> u64 {
        self.start / PAGE * PAGE
    }

    /// Virtual address of its last page.
    pub fn last_page(&self) -> u64 {
        (self.start + (self.len - 1)) / PAGE * PAGE
    }
}

/// The kernel's thread-local template, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSegment {
    /// Its virtual address.
    pub start: u64,
    /// Its bytes that have contents.
    pub file_len: u64,
    /// All its bytes.
    pub len: u64,
}

/// The kernel's file, checked.
#[derive(Debug)]
pub struct Image<'a> {
    file: &'a [u8],
    headers: &'a [ProgramHeader64<LittleEndian>],
    /// Virtual address at which the kernel starts.
    pub entry: u64,
    /// What it asks of its loader.
    pub config: BootloaderConfig,
    /// Its thread-local template.
    pub tls: Option<TlsSegment>,
}

impl<'a> Image<'a> {
    /// Reads and checks the kernel's file.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let header = FileHeader64::<LittleEndian>::parse(file)?;
        header.endian()?;
        let machine = header.e_machine(ENDIAN);
        if machine != elf::EM_X86_64 {
            return Err(ImageError::WrongMachine(machine.0));
        }
        let kind = header.e_type(ENDIAN);
        if kind != elf::ET_EXEC {
            return Err(ImageError::WrongType(kind.0));
        }
        let headers = header.program_headers(ENDIAN, file)?;
        let image = Self {
            file,
            headers,
            entry: header.e_entry(ENDIAN),
            config: read_config(header, file)?,
            tls: headers
                .iter()
                .find(|header| header.p_type(ENDIAN) == elf::PT_TLS)
                .map(|header| TlsSegment {
                    start: header.p_vaddr(ENDIAN),
                    file_len: header.p_filesz(ENDIAN),
                    len: header.p_memsz(ENDIAN),
                }),
        };
        image.check()?;
        Ok(image)
    }

    /// What is to be loaded, in ascending order.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        self.loadable().filter_map(Result::ok)
    }

    fn loadable(&self) -> impl Iterator<Item = Result<Segment<'a>, ImageError>> {
        self.headers
            .iter()
            .filter(|header| header.p_type(ENDIAN) == elf::PT_LOAD && header.p_memsz(ENDIAN) > 0)
            .map(|header| segment(header, self.file))
    }

    fn check(&self) -> Result<(), ImageError> {
        let mut last_page = None;
        let mut entry_found = false;
        for segment in self.loadable() {
            let segment = segment?;
            // The standard has them sorted by address, so that only neighbours can share a page.
            if last_page.is_some_and(|last| segment.first_page() <= last) {
                return Err(ImageError::SharedPage(segment.start));
            }
            last_page = Some(segment.last_page());
            let offset = self.entry.checked_sub(segment.start);
            entry_found |= segment.access == Access::Execute
                && offset.is_some_and(|offset| offset < segment.len);
        }
        match (last_page, entry_found) {
            (None, _) => Err(ImageError::Empty),
            (_, false) => Err(ImageError::NoEntry(self.entry)),
            _ => Ok(()),
        }
    }
}

fn segment<'a>(
    header: &ProgramHeader64<LittleEndian>,
    file: &'a [u8],
) -> Result<Segment<'a>, ImageError> {
    let start = header.p_vaddr(ENDIAN);
    let len = header.p_memsz(ENDIAN);
    let contents = header
        .data(ENDIAN, file)
        .map_err(|()| ImageError::CutOff(start))?;
    if contents.len() as u64 > len {
        return Err(ImageError::Overfull(start));
    }
    // Canonical addresses of one half agree in their 17 upper bits, all clear or all set.
    let last = start
        .checked_add(len - 1)
        .ok_or(ImageError::BadAddress(start))?;
    if start >> 47 != last >> 47 || !matches!(start >> 47, 0 | 0x1_ffff) {
        return Err(ImageError::BadAddress(start));
    }
    let flags = header.p_flags(ENDIAN);
    let access = match (flags.contains(elf::PF_W), flags.contains(elf::PF_X)) {
        (true, true) => return Err(ImageError::WritableCode(start)),
        (true, false) => Access::Write,
        (false, true) => Access::Execute,
        (false, false) => Access::ReadOnly,
    };
    Ok(Segment {
        start,
        len,
        contents,
        access,
    })
}

fn read_config(
    header: &FileHeader64<LittleEndian>,
    file: &[u8],
) -> Result<BootloaderConfig, ImageError> {
    let sections = header.sections(ENDIAN, file)?;
    let (_, section) = sections
        .section_by_name(ENDIAN, CONFIG_SECTION)
        .ok_or(ImageError::NoConfig)?;
    BootloaderConfig::deserialize(section.data(ENDIAN, file)?).map_err(ImageError::BadConfig)
}
