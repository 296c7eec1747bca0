//! Where memory is mapped.
//!
//! | addresses | what |
//! | --- | --- |
//! | 0xffff_8880_0000_0000… | the window: physical memory, in order |
//! | 0xffff_c900_0000_0000… | vmalloc |
//! | 0xffff_ffff_8000_0000… | the kernel's image |
//!
//! The image's sections are named by symbols of the link script. All CPUs share one set of page tables.

use core::arch::asm;

/// Virtual address at which physical address 0 is mapped; the rest follows.
pub const PHYSICAL_WINDOW: u64 = 0xffff_8880_0000_0000;

/// The virtual address of a physical address, in the window.
pub const fn window(physical: u64) -> usize {
    (PHYSICAL_WINDOW + physical) as usize
}

/// A part of the kernel's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Address of the first byte.
    pub start: usize,
    /// Address after the last byte.
    pub end: usize,
}

impl Section {
    /// Whether the address lies inside.
    pub fn contains(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// Writes zeros over `len` bytes: by one instruction, which no compiler leaves out because nobody reads them.
///
/// # Safety
///
/// These bytes are writable, and nobody uses what is there.
#[inline(always)]
pub unsafe fn clear(start: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") start => _, in("al") 0_u8,
            options(nostack, preserves_flags));
    }
}

macro_rules! sections {
    ($($(#[$meta:meta])* $name:ident: $start:ident..$end:ident;)+) => {
        $(
            $(#[$meta])*
            pub fn $name() -> Section {
                unsafe extern "C" {
                    static $start: u8;
                    static $end: u8;
                }
                Section { start: (&raw const $start).addr(), end: (&raw const $end).addr() }
            }
        )+
    };
}

sections! {
    /// All of the image.
    image: __text_start..__heap_arena_end;
    /// The code.
    text: __text_start..__text_end;
    /// The entry functions of the detector and of the allocators: every call stack of an allocation begins with them.
    hooks: __hooks_start..__hooks_end;
    /// Constants.
    rodata: __rodata_start..__rodata_end;
    /// Variables with initial values.
    data: __data_start..__data_end;
    /// Variables that start as zero.
    bss: __bss_start..__bss_end;
}
