//! The tables of the PVH boot protocol, as QEMU leaves them in memory.
//!
//! Layouts are those of Xen's `public/arch-x86/hvm/start_info.h`; all numbers are little endian.

/// Bytes of the start information, version 1.
pub const START_INFO_LEN: usize = 56;
/// Bytes of an entry of the module list.
pub const MODULE_LEN: usize = 32;
/// Bytes of an entry of the memory map.
pub const MEMORY_ENTRY_LEN: usize = 24;

const MAGIC: u32 = 0x336e_c578;

/// What the firmware tells the loader. Addresses are physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartInfo {
    /// Entries of the module list.
    pub modules: u32,
    /// Address of the module list.
    pub module_list: u64,
    /// Address of the command line, which ends with a zero byte; 0 if there is none.
    pub command_line: u64,
    /// Address of the ACPI root pointer; 0 if there is none.
    pub rsdp: u64,
    /// Address of the memory map.
    pub memory_map: u64,
    /// Entries of the memory map.
    pub memory_entries: u32,
}

impl StartInfo {
    /// Reads the start information, or tells the number found in place of the magic one.
    pub fn parse(bytes: &[u8; START_INFO_LEN]) -> Result<Self, u32> {
        let magic = read_u32(bytes, 0);
        if magic != MAGIC {
            return Err(magic);
        }
        Ok(Self {
            modules: read_u32(bytes, 12),
            module_list: read_u64(bytes, 16),
            command_line: read_u64(bytes, 24),
            rsdp: read_u64(bytes, 32),
            memory_map: read_u64(bytes, 40),
            memory_entries: read_u32(bytes, 48),
        })
    }
}

/// A file that QEMU loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its physical address.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

impl Module {
    /// Reads an entry of the module list.
    pub fn parse(bytes: &[u8; MODULE_LEN]) -> Self {
        Self {
            address: read_u64(bytes, 0),
            size: read_u64(bytes, 8),
        }
    }
}

/// An entry of the firmware's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// Physical address of its first byte.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its E820 type.
    pub kind: u32,
}

impl MemoryEntry {
    /// The E820 type of memory that is free for use.
    pub const RAM: u32 = 1;

    /// Reads an entry of the memory map.
    pub fn parse(bytes: &[u8; MEMORY_ENTRY_LEN]) -> Self {
        Self {
            address: read_u64(bytes, 0),
            size: read_u64(bytes, 8),
            kind: read_u32(bytes, 16),
        }
    }
}

fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; START_INFO_LEN] {
        let mut bytes = [0; START_INFO_LEN];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
        for (index, value) in [0x1000u64, 0x2000, 0xf_5a20, 0x3000]
            .into_iter()
            .enumerate()
        {
            bytes[16 + 8 * index..][..8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[48..52].copy_from_slice(&7u32.to_le_bytes());
        bytes
    }

    #[test]
    fn fields_are_where_the_protocol_puts_them() {
        let expected = StartInfo {
            modules: 1,
            module_list: 0x1000,
            command_line: 0x2000,
            rsdp: 0xf_5a20,
            memory_map: 0x3000,
            memory_entries: 7,
        };
        assert_eq!(StartInfo::parse(&sample()), Ok(expected));
    }

    #[test]
    fn another_magic_number_is_told() {
        let mut bytes = sample();
        bytes[0] = 0;
        assert_eq!(StartInfo::parse(&bytes), Err(MAGIC & !0xff));
    }

    #[test]
    fn entries_are_read() {
        let mut bytes = [0; MEMORY_ENTRY_LEN];
        bytes[3] = 1;
        bytes[9] = 2;
        bytes[16] = 3;
        let entry = MemoryEntry {
            address: 0x100_0000,
            size: 0x200,
            kind: 3,
        };
        assert_eq!(MemoryEntry::parse(&bytes), entry);
    }
}
