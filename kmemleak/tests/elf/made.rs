//! ELF files made by hand.

pub const LOAD: u32 = 1;
pub const TLS: u32 = 7;
pub const RELRO: u32 = 0x6474_e552;

pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 1;

/// Bytes of an ELF header and of a program header, and where some fields are.
pub const HEADER: usize = 64;
pub const SEGMENT: usize = 56;
pub const CLASS: usize = 4;
pub const BYTE_ORDER: usize = 5;
pub const TYPE: usize = 16;
pub const MACHINE: usize = 18;
pub const TABLE: usize = 32;
pub const ENTRY_SIZE: usize = 54;
pub const ENTRIES: usize = 56;

/// A program header.
#[derive(Clone, Copy)]
pub struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub in_file: u64,
    pub in_memory: u64,
}

/// A segment that is loaded, and has all its bytes in the file.
pub fn load(flags: u32, address: u64, len: u64) -> Segment {
    Segment {
        kind: LOAD,
        flags,
        offset: 0x1000,
        address,
        in_file: len,
        in_memory: len,
    }
}

/// The same place, said to be constant after relocation.
pub fn relro(address: u64, len: u64) -> Segment {
    Segment {
        kind: RELRO,
        ..load(READ, address, len)
    }
}

/// An executable for x86_64 with these program headers, right behind its header.
pub fn file(segments: &[Segment]) -> Vec<u8> {
    let mut file = vec![0; HEADER];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    put(&mut file, TYPE, &2_u16.to_le_bytes());
    put(&mut file, MACHINE, &62_u16.to_le_bytes());
    put(&mut file, 20, &1_u32.to_le_bytes());
    put(&mut file, TABLE, &(HEADER as u64).to_le_bytes());
    put(&mut file, 52, &(HEADER as u16).to_le_bytes());
    put(&mut file, ENTRY_SIZE, &(SEGMENT as u16).to_le_bytes());
    put(&mut file, ENTRIES, &(segments.len() as u16).to_le_bytes());
    for it in segments {
        file.extend(it.kind.to_le_bytes());
        file.extend(it.flags.to_le_bytes());
        let words = [
            it.offset,
            it.address,
            it.address,
            it.in_file,
            it.in_memory,
            0x1000,
        ];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    file
}

/// Overwrites a field.
pub fn put(file: &mut [u8], at: usize, field: &[u8]) {
    file[at..at + field.len()].copy_from_slice(field);
}

/// The bytes, as an image wants them.
pub fn kept(file: Vec<u8>) -> &'static [u8] {
    file.leak()
}
