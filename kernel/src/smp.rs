//! Starting the other CPUs.
//!
//! A CPU that gets INIT and then a start-up interrupt begins in real mode at a page below 1 MiB. The page
//! holds a copy of the trampoline, which goes to long mode in one step and on to [`start`], on the stack of
//! the CPU's idle task. CPUs are started one after the other, so one page with one set of parameters
//! serves them all.

use core::arch::global_asm;
use core::ptr::{self, NonNull};

use arrayvec::ArrayVec;
use x86_64::registers::control::Cr3;

use crate::arch::gdt::ExceptionStacks;
use crate::arch::percpu::{self, running};
use crate::arch::{gdt, memory, protection};
use crate::dev::acpi::Machine;
use crate::dev::{apic, time};
use crate::mm::buddy::{self, Tracking};
use crate::mm::{frame, vmalloc};
use crate::stop;
use crate::sync::{LocalIrqDisabled, SpinLock};
use crate::task::scheduler;
use crate::trap::idt;

/// How long to wait after INIT (Intel SDM volume 3, 9.4.4.1), and between start-up interrupts, in microseconds.
const AFTER_INIT_US: u64 = 10_000;
const AFTER_STARTUP_US: u64 = 200;

/// How long a CPU may take to come up, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

// The trampoline: position-independent within its page, since it runs at whatever page it is copied to.
// CS holds the page, so that offsets from the trampoline's start are addresses in real mode.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\", @progbits",
    ".balign 16",
    ".global trampoline_start, trampoline_end, trampoline_parameters",
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
    ".quad 0, 0, 0, 0",
    "trampoline_end:",
    ".code64",
    ".popsection",
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static trampoline_parameters: u8;
}

/// What the trampoline reads from the end of its page.
#[repr(C)]
struct Parameters {
    page_table: u64,
    stack_top: u64,
    entry: u64,
    cpu: u64,
}

/// The page of the trampoline.
struct Trampoline {
    physical: u64,
}

impl Trampoline {
    fn install() -> Self {
        let physical = frame::trampoline_page();
        // SAFETY: the page is reserved for this, in the first megabyte.
        unsafe { vmalloc::identity_map(physical) };
        let start = &raw const trampoline_start;
        let len = (&raw const trampoline_end).addr() - start.addr();
        let page: *mut u8 = ptr::with_exposed_provenance_mut(memory::window(physical));
        // SAFETY: the page is reserved for this; the trampoline is shorter than a page.
        unsafe { page.copy_from_nonoverlapping(start, len) };
        Self { physical }
    }

    fn set(&self, parameters: Parameters) {
        let offset =
            (&raw const trampoline_parameters).addr() - (&raw const trampoline_start).addr();
        let page: *mut u8 = ptr::with_exposed_provenance_mut(memory::window(self.physical));
        let place = page.wrapping_add(offset).cast::<Parameters>();
        // SAFETY: inside the page, aligned; no CPU is in the trampoline now.
        unsafe { place.write_volatile(parameters) };
    }
}

impl Drop for Trampoline {
    fn drop(&mut self) {
        // SAFETY: mapped by `install`; the CPUs that were started have left the trampoline.
        unsafe { vmalloc::unmap_identity(self.physical) };
    }
}

/// Starts all CPUs that the machine has. Called once, on the boot CPU; task context. Keeps the world from
/// being stopped meanwhile: a CPU that came up in a stopped world would run in it.
pub fn start_all(machine: &Machine) {
    let _not_stopped = stop::keep_going();
    let trampoline = Trampoline::install();
    let boot_cpu = apic::apic_id(0);
    let others = machine
        .apic_ids
        .iter()
        .copied()
        .filter(|&id| id != boot_cpu);
    for apic_id in others {
        if let Err(error) = start_one(&trampoline, apic_id) {
            crate::println!("cpu with apic id {apic_id}: {error}");
            // It may still come up later, and would then read the next CPU's parameters: start no more CPUs.
            break;
        }
    }
}

fn start_one(trampoline: &Trampoline, apic_id: u32) -> Result<(), &'static str> {
    let cpu = running();
    let stacks = exception_stacks().ok_or("no memory for its exception stacks")?;
    *STACKS.lock() = Some(stacks);
    let area = untracked(percpu::area_len()).ok_or("no memory for its per-CPU area")?;
    // SAFETY: fresh memory, page-aligned, never given back; the next CPU's number.
    unsafe { percpu::prepare(cpu, area.as_ptr()) };
    let stack_top = scheduler::prepare_idle(cpu).ok_or("no memory for its stack")?;
    let (page_table, _) = Cr3::read();
    let page_table = page_table.start_address().as_u64();
    assert!(
        page_table < 1 << 32,
        "page table at {page_table:#x} is out of a starting CPU's reach"
    );
    trampoline.set(Parameters {
        page_table,
        stack_top: stack_top as u64,
        entry: start as *const () as u64,
        cpu: u64::from(cpu),
    });
    let page = (trampoline.physical >> 12) as u8;
    apic::send_init(apic_id);
    time::spin_us(AFTER_INIT_US);
    for _ in 0..2 {
        apic::send_startup(apic_id, page);
        if came_up(cpu, AFTER_STARTUP_US) {
            return Ok(());
        }
    }
    if came_up(cpu, PATIENCE_US) {
        Ok(())
    } else {
        Err("did not come up")
    }
}

fn came_up(cpu: u32, within_us: u64) -> bool {
    let deadline = time::now_us() + within_us;
    while running() <= cpu {
        if time::now_us() > deadline {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// The exception stacks of the CPU that is being started.
struct Stacks(ExceptionStacks);

// SAFETY: memory that belongs to whoever has this.
unsafe impl Send for Stacks {}

static STACKS: SpinLock<Option<Stacks>, LocalIrqDisabled> = SpinLock::new(None);

/// Takes memory for a CPU's exception stacks, each with a guard page below it.
fn exception_stacks() -> Option<Stacks> {
    let mut stacks = ArrayVec::<_, { gdt::STACKS }>::new();
    for _ in 0..gdt::STACKS {
        stacks.push(vmalloc::map_untold_stack(gdt::EXCEPTION_STACK_LEN)?);
    }
    stacks.into_inner().ok().map(Stacks)
}

fn untracked(len: usize) -> Option<NonNull<u8>> {
    buddy::alloc(buddy::order_of(len), Tracking::Untracked)
}

/// Where a CPU enters the kernel, on its idle task's stack.
extern "C" fn start(cpu: u64) -> ! {
    let cpu = cpu as u32;
    // SAFETY: prepared for this CPU before it was started.
    unsafe { percpu::enter(cpu) };
    let stacks = STACKS.lock().take();
    let stacks = stacks.expect("whoever starts a CPU leaves its exception stacks");
    // SAFETY: this is that CPU, and the fresh memory stays its own.
    unsafe { gdt::init(cpu, stacks.0) };
    idt::init();
    protection::enable();
    apic::init_cpu(cpu);
    percpu::has_come_up(cpu);
    apic::start_timer();
    scheduler::idle()
}
