//! The page in which CPUs start, and the offer in it.
//!
//! A CPU that gets INIT and then a start-up interrupt begins in real mode at a page below 1 MiB. The page holds a copy of the
//! trampoline, which goes to long mode in one step and on into the kernel.
//!
//! # The offer
//!
//! How long a CPU takes to get there nobody can say, least of all of a virtual one on a busy host. So what a CPU needs is *offered*
//! in the page, and a CPU takes it, by one atomic operation in the first instructions of the trampoline. Who wants the memory back
//! withdraws the offer, by such an operation as well: one of the two succeeds. A CPU that comes too late, or finds
//! that another one has taken the offer, halts in real mode, where it needs nothing but this page, which is never used
//! for anything else. It does not matter which CPU takes an offer.
//!
//! | stage | whose the offered memory is | next |
//! | --- | --- | --- |
//! | closed | nobody's: there is none | offered |
//! | offered | that of who offers it | taken, or withdrawn: closed |
//! | taken | the CPU's, for ever; it is in the trampoline | entered; closed if it is given up |
//! | entered | the CPU's; it is in the kernel, and has left the page | up; closed if it is given up, and then it halts |
//! | up | the CPU's, which counts as running | closed |

use core::arch::global_asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::memory;
use crate::mm::{frame, vmalloc};

/// Where the start of a CPU stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    Closed,
    Offered,
    Taken,
    Entered,
    Up,
}

// The trampoline: position-independent within its page, since it runs at whatever page it is copied to.
// CS holds the page, so that offsets from the trampoline's start are addresses in real mode.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\", @progbits",
    ".balign 16",
    ".global trampoline_start, trampoline_end, trampoline_parameters, trampoline_stage",
    ".code16",
    "trampoline_start:",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    // ebx = linear address of the page
    "xor ebx, ebx",
    "mov bx, ax",
    "shl ebx, 4",
    // Takes the offer. Without one it halts, in this page, until it gets INIT again.
    ".set OFF_STAGE, trampoline_stage - trampoline_start",
    "mov eax, {OFFERED}",
    "mov ecx, {TAKEN}",
    "lock cmpxchg dword ptr [OFF_STAGE], ecx",
    "je trampoline_taken",
    "trampoline_late:",
    "hlt",
    "jmp trampoline_late",
    "trampoline_taken:",
    // the addresses that depend on the page
    ".set OFF_GDT, trampoline_gdt - trampoline_start",
    ".set OFF_GDT_POINTER, trampoline_gdt_pointer - trampoline_start",
    ".set OFF_FAR, trampoline_far - trampoline_start",
    ".set OFF_LONG, trampoline_long - trampoline_start",
    ".set OFF_PARAMETERS, trampoline_parameters - trampoline_start",
    "lea eax, [ebx + OFF_GDT]",
    "mov dword ptr [OFF_GDT_POINTER + 2], eax",
    "lea eax, [ebx + OFF_LONG]",
    "mov dword ptr [OFF_FAR], eax",
    "lgdt [OFF_GDT_POINTER]",
    // PAE
    "mov eax, 0x20",
    "mov cr4, eax",
    "mov eax, dword ptr [OFF_PARAMETERS]",
    "mov cr3, eax",
    // EFER: long mode, no-execute
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    // CR0: paging, write protection, protection; caches on
    "mov eax, 0x80010011",
    "mov cr0, eax",
    // far jump through memory: offset, selector
    ".byte 0x66, 0xff, 0x2e",
    ".word OFF_FAR",
    ".code64",
    "trampoline_long:",
    "xor eax, eax",
    "mov ss, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov rsp, [rip + trampoline_parameters + 8]",
    "mov rdi, [rip + trampoline_parameters + 24]",
    "mov rsi, [rip + trampoline_parameters + 32]",
    "xor ebp, ebp",
    "push 0",
    "jmp [rip + trampoline_parameters + 16]",
    ".balign 8",
    "trampoline_gdt:",
    ".quad 0",
    // 64-bit code
    ".quad 0x00af9b000000ffff",
    "trampoline_gdt_pointer:",
    ".word 15",
    ".long 0",
    "trampoline_far:",
    ".long 0",
    ".word 8",
    ".balign 8",
    "trampoline_parameters:",
    ".quad 0, 0, 0, 0, 0",
    "trampoline_stage:",
    ".long 0",
    "trampoline_end:",
    ".code64",
    ".popsection",
    OFFERED = const Stage::Offered as u32,
    TAKEN = const Stage::Taken as u32,
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static trampoline_parameters: u8;
    static trampoline_stage: u8;
}

/// What the trampoline reads from the end of its page, once it has taken the offer.
#[repr(C)]
pub(super) struct Parameters {
    pub(super) page_table: u64,
    pub(super) stack_top: u64,
    pub(super) entry: u64,
    /// What `entry` is called with.
    pub(super) cpu: u64,
    pub(super) area: u64,
}

/// Where a symbol of the trampoline lies in the page, as the window shows it.
fn in_page<T>(symbol: *const u8) -> *mut T {
    let offset = symbol.addr() - (&raw const trampoline_start).addr();
    let page: *mut u8 = ptr::with_exposed_provenance_mut(memory::window(frame::trampoline_page()));
    page.wrapping_add(offset).cast()
}

/// The stage of the offer.
fn stage() -> &'static AtomicU32 {
    let stage: *mut AtomicU32 = in_page(&raw const trampoline_stage);
    // SAFETY: in the page, which is used for nothing else; aligned, and changed by atomic operations only.
    unsafe { &*stage }
}

/// Whether the offer is at this stage.
pub(super) fn is(expected: Stage) -> bool {
    stage().load(Ordering::Acquire) == expected as u32
}

/// Takes the offer from one stage to another; false if it is not at that stage.
#[must_use = "false if somebody else was faster"]
pub(super) fn change(from: Stage, to: Stage) -> bool {
    let changed =
        stage().compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Acquire);
    changed.is_ok()
}

/// The page of the trampoline, mapped to where it lies.
pub(super) struct Trampoline {
    physical: u64,
}

impl Trampoline {
    /// Lays the trampoline into its page, with no offer.
    pub(super) fn install() -> Self {
        let physical = frame::trampoline_page();
        // SAFETY: the page is reserved for this, in the first megabyte.
        unsafe { vmalloc::identity_map(physical) };
        let start = &raw const trampoline_start;
        let len = (&raw const trampoline_end).addr() - start.addr();
        let page: *mut u8 = in_page(start);
        // SAFETY: the page is reserved for this; the trampoline is shorter than a page.
        unsafe { page.copy_from_nonoverlapping(start, len) };
        Self { physical }
    }

    /// The number of the page, which a start-up interrupt names.
    pub(super) fn page(&self) -> u8 {
        (self.physical >> 12) as u8
    }

    /// Makes an offer. There is none now.
    pub(super) fn offer(&self, parameters: Parameters) {
        let place: *mut Parameters = in_page(&raw const trampoline_parameters);
        // SAFETY: inside the page, aligned; without an offer no CPU reads it.
        unsafe { place.write_volatile(parameters) };
        let opened = change(Stage::Closed, Stage::Offered);
        assert!(opened, "an offer was not closed");
    }
}

impl Drop for Trampoline {
    fn drop(&mut self) {
        // SAFETY: mapped by `install`. CPUs that have taken an offer have left the page, or were stopped by INIT; the others are in
        // real mode, which needs no mapping.
        unsafe { vmalloc::unmap_identity(self.physical) };
    }
}
