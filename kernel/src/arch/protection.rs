//! What a CPU is told to refuse: writes to read-only pages, code in data pages, use of a user's pages, and errors of the machine
//! that nobody has heard of.
//!
//! | name | what it refuses |
//! | --- | --- |
//! | WP | writing to read-only pages |
//! | NX | running code of pages that are data |
//! | SMEP | running code of a user's pages |
//! | SMAP | reading and writing a user's pages |
//! | UMIP | telling user code where descriptor tables lie |
//! | MCE | going on after a machine check |
//!
//! This kernel has no user's pages, so SMEP and SMAP catch entries of page tables that are broken. WP and NX are on any CPU with
//! 64 bits that the boot loader lets through; the others are turned on where `cpuid` has them. Each CPU calls [`enable`] once,
//! before it takes interrupts.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

/// A protection of the fourth control register, and the bit of `cpuid` that says whether the CPU has it (Intel SDM volume 2,
/// CPUID).
struct Protection {
    name: &'static str,
    flag: Cr4Flags,
    is_there: fn() -> bool,
}

const PROTECTIONS: [Protection; 4] = [
    Protection {
        name: "SMEP",
        flag: Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        is_there: || extended().0 & 1 << 7 != 0,
    },
    Protection {
        name: "SMAP",
        flag: Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        is_there: || extended().0 & 1 << 20 != 0,
    },
    Protection {
        name: "UMIP",
        flag: Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION,
        is_there: || extended().1 & 1 << 2 != 0,
    },
    Protection {
        name: "MCE",
        flag: Cr4Flags::MACHINE_CHECK_EXCEPTION,
        is_there: || __cpuid(1).edx & 1 << 7 != 0,
    },
];

/// EBX and ECX of the leaf of extended features; zeros on a CPU without it.
fn extended() -> (u32, u32) {
    const LEAF: u32 = 7;
    if __cpuid(0).eax < LEAF {
        return (0, 0);
    }
    let leaf = __cpuid_count(LEAF, 0);
    (leaf.ebx, leaf.ecx)
}

/// Turns all protections on that this CPU has.
pub fn enable() {
    let there = PROTECTIONS.iter().filter(|one| (one.is_there)());
    let flags = there.fold(Cr4Flags::empty(), |flags, one| flags | one.flag);
    // SAFETY: no page is a user's, and machine checks have their handler.
    unsafe { Cr4::write(Cr4::read() | flags) };
    // SAFETY: what is written to is mapped writable.
    unsafe { Cr0::write(Cr0::read() | Cr0Flags::WRITE_PROTECT) };
    // SAFETY: code is mapped executable.
    unsafe { Efer::write(Efer::read() | EferFlags::NO_EXECUTE_ENABLE) };
}

/// The protections that this CPU has, but that are off. The caller can't be moved to another CPU.
pub fn missing() -> impl Iterator<Item = &'static str> {
    let cr4 = Cr4::read();
    let in_cr4 = PROTECTIONS
        .iter()
        .filter(move |one| (one.is_there)() && !cr4.contains(one.flag));
    let others = [
        ("WP", Cr0::read().contains(Cr0Flags::WRITE_PROTECT)),
        ("NX", Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE)),
    ];
    let others = others.into_iter().filter(|(_, is_on)| !is_on);
    in_cr4
        .map(|one| one.name)
        .chain(others.map(|(name, _)| name))
}

/// As long as this lives, this CPU may write to all pages that are present.
#[derive(Debug)]
pub struct AllWritable(Cr0Flags);

impl AllWritable {
    /// Lets this CPU write.
    ///
    /// # Safety
    ///
    /// Interrupts are off as long as it lives, and the caller writes to no page whose protection others rely on.
    pub unsafe fn begin() -> Self {
        let before = Cr0::read();
        // SAFETY: allows writes, and forbids none.
        unsafe { Cr0::write(before - Cr0Flags::WRITE_PROTECT) };
        Self(before)
    }
}

impl Drop for AllWritable {
    fn drop(&mut self) {
        // SAFETY: as it was before.
        unsafe { Cr0::write(self.0) };
    }
}
