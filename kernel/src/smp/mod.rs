//! Starting the other CPUs.
//!
//! CPUs are started one after the other: memory for one is made ready, offered in the [`trampoline`]'s page, and the CPU is sent
//! INIT and start-up interrupts (Intel SDM volume 3, 9.4.4). Which CPU takes the offer is not asked: it gets the next number.
//!
//! # What may fail
//!
//! - There is no memory for a CPU, or too little would be left for its tasks: what was taken for it is given back, and no more CPUs
//!   are started.
//! - A CPU does not take the offer in time: it is withdrawn, and the next CPU has its turn. When all have had theirs, those that did
//!   not come have another one. Time is what this CPU has run ([`Patience`]), so a busy host does not count against a virtual CPU. A CPU
//!   that comes late halts, or takes what is offered then.
//! - A CPU has taken the offer and is not up after a long time. It keeps its memory, is kept from going on, and no more are started.
//!
//! In all cases a line says so, and the machine goes on with the CPUs that run.
//!
//! Nothing is known of a CPU before it has taken its offer: it enters its per-CPU area and its idle task itself.

mod trampoline;

use core::fmt;
use core::ptr::NonNull;

use arrayvec::ArrayVec;
use x86_64::registers::control::Cr3;

use self::trampoline::{Parameters, Stage, Trampoline, change, is};
use crate::arch::gdt::ExceptionStacks;
use crate::arch::percpu::{self, MAX_CPUS, running};
use crate::arch::{gdt, interrupts, protection};
use crate::dev::acpi::Machine;
use crate::dev::apic;
use crate::dev::time::{self, Patience};
use crate::mm::buddy::{self, Tracking};
use crate::mm::{PAGE, vmalloc};
use crate::println;
use crate::stop;
use crate::sync::{LocalIrqDisabled, SpinLock};
use crate::task::scheduler::{self, IdleTask};
use crate::trap::idt;

/// How long to wait after INIT (Intel SDM volume 3, 9.4.4.1), and between start-up interrupts, in microseconds.
const AFTER_INIT_US: u64 = 10_000;
const AFTER_STARTUP_US: u64 = 200;

/// How long a CPU may take to take its offer, in microseconds, if the caller does not say otherwise.
pub const PATIENCE_US: u64 = 1_000_000;

/// How long a CPU that has taken its offer may take to come up, in microseconds.
const MOST_US: u64 = 20_000_000;

/// How many times a CPU is started that does not come.
const ROUNDS: u32 = 3;

/// The part of the memory, one in so many, that is to be free when a CPU is started: without memory for tasks, a CPU is of no use.
/// (The smallest machines have less than 2 MiB, a CPU takes 0.4, and a task 0.1.)
const LEAST_FREE: usize = 2;

/// Why a CPU does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotStarted {
    NoMemory(&'static str),
    /// So many bytes are free, and so many are to be left.
    LittleMemory(usize, usize),
    /// It has not taken the offer, and may still come to the trampoline.
    Late,
    /// It has taken the offer, and then it was not heard of.
    Stuck,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory(what) => write!(f, "no memory for its {what}"),
            Self::LittleMemory(free, least) => write!(
                f,
                "{} KiB of memory are free, {} are to be left for tasks",
                free / 1024,
                least / 1024
            ),
            Self::Late => f.write_str("did not come up"),
            Self::Stuck => f.write_str("began, and did not come up"),
        }
    }
}

/// Starts all CPUs that the machine has. Each may take so many microseconds of this CPU's time to begin. Called once, on the
/// boot CPU; task context. Keeps the world from being stopped meanwhile: a CPU that came up in a stopped world would run in it.
pub fn start_all(machine: &Machine, patience_us: u64) {
    let _not_stopped = stop::keep_going();
    let trampoline = Trampoline::install();
    let boot_cpu = apic::apic_id(0);
    let ids = machine.apic_ids.iter().copied();
    let mut waiting: ArrayVec<u32, MAX_CPUS> = ids.filter(|&id| id != boot_cpu).collect();
    for _ in 0..ROUNDS {
        for apic_id in waiting.clone() {
            // Another one's offer may have been taken by it.
            if !waiting.contains(&apic_id) {
                continue;
            }
            match start_one(&trampoline, apic_id, patience_us) {
                Ok(came) => waiting.retain(|&mut id| id != came),
                Err(NotStarted::Late) => {}
                Err(error) => {
                    if error == NotStarted::Stuck {
                        keep_away(&waiting);
                    }
                    println!("cpu with apic id {apic_id}: {error}; no more CPUs are started");
                    withdraw_memory();
                    return;
                }
            }
        }
    }
    withdraw_memory();
    for apic_id in waiting {
        println!("cpu with apic id {apic_id}: {}", NotStarted::Late);
    }
}

/// Starts a CPU, and returns the APIC number of the one that has come up: it may be one that was late. There is no offer now, and
/// none afterwards.
fn start_one(trampoline: &Trampoline, apic_id: u32, patience_us: u64) -> Result<u32, NotStarted> {
    let cpu = running();
    let parameters = memory_for(cpu)?;
    apic::send_init(apic_id);
    time::spin_us(AFTER_INIT_US);
    trampoline.offer(parameters);
    apic::send_startup(apic_id, trampoline.page());
    if !wait_while(Stage::Offered, AFTER_STARTUP_US) {
        apic::send_startup(apic_id, trampoline.page());
    }
    if !wait_while(Stage::Offered, patience_us) && change(Stage::Offered, Stage::Closed) {
        return Err(NotStarted::Late);
    }
    wait_while(Stage::Taken, MOST_US);
    wait_while(Stage::Entered, MOST_US);
    if !change(Stage::Up, Stage::Closed) {
        return Err(NotStarted::Stuck);
    }
    while running() <= cpu {
        core::hint::spin_loop();
    }
    Ok(apic::apic_id(cpu))
}

/// Waits until the offer is not at this stage any more; false if it still is after that time.
fn wait_while(stage: Stage, patience_us: u64) -> bool {
    let mut patience = Patience::new(patience_us);
    while is(stage) {
        if !patience.lasts() {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Sees to it that a CPU that has taken an offer does not go on: one of these.
fn keep_away(waiting: &[u32]) {
    if change(Stage::Taken, Stage::Closed) {
        // It is in the trampoline, which is about to be unmapped.
        waiting.iter().for_each(|&apic_id| apic::send_init(apic_id));
        time::spin_us(AFTER_INIT_US);
    }
    // In the kernel, it halts where it looks whether it was given up; there it may be at any time.
    let _is_there = change(Stage::Entered, Stage::Closed);
    // Its memory is its own, whatever it has done with it.
    core::mem::forget(OFFERED.lock().take());
}

/// Memory for a CPU that has not started.
struct Memory {
    area: NonNull<u8>,
    stacks: ExceptionStacks,
    idle: IdleTask,
}

// SAFETY: memory that belongs to whoever has this.
unsafe impl Send for Memory {}

/// The memory that is offered, or will be next. Taken by the CPU that has taken the offer.
static OFFERED: SpinLock<Option<Memory>, LocalIrqDisabled> = SpinLock::new(None);

impl Memory {
    /// Takes memory for this CPU: all, or none.
    fn new(cpu: u32) -> Result<Self, NotStarted> {
        let (free, least) = (buddy::free_pages(), buddy::total_pages() / LEAST_FREE);
        if free < least {
            return Err(NotStarted::LittleMemory(free * PAGE, least * PAGE));
        }
        let idle = IdleTask::new(cpu).ok_or(NotStarted::NoMemory("idle task"))?;
        let Some(area) = buddy::alloc(area_order(), Tracking::Untracked) else {
            idle.give_back();
            return Err(NotStarted::NoMemory("per-CPU area"));
        };
        let mut stacks = ArrayVec::<_, { gdt::STACKS }>::new();
        while !stacks.is_full()
            && let Some(stack) = vmalloc::map_untold_stack(gdt::EXCEPTION_STACK_LEN)
        {
            stacks.push(stack);
        }
        match stacks.into_inner() {
            Ok(stacks) => Ok(Self { area, stacks, idle }),
            Err(some) => {
                some.into_iter().for_each(vmalloc::unmap_untold_stack);
                buddy::free(area, area_order(), Tracking::Untracked);
                idle.give_back();
                Err(NotStarted::NoMemory("exception stacks"))
            }
        }
    }

    /// Gives all of it back: no CPU has taken it.
    fn give_back(self) {
        let Self { area, stacks, idle } = self;
        stacks.into_iter().for_each(vmalloc::unmap_untold_stack);
        buddy::free(area, area_order(), Tracking::Untracked);
        idle.give_back();
    }
}

fn area_order() -> u32 {
    buddy::order_of(percpu::area_len())
}

/// Makes memory ready for a CPU, if there is none yet, and returns what the trampoline is told.
fn memory_for(cpu: u32) -> Result<Parameters, NotStarted> {
    if OFFERED.lock().is_none() {
        // Not under the lock, which is nobody else's now.
        let memory = Memory::new(cpu)?;
        *OFFERED.lock() = Some(memory);
    }
    let (page_table, _) = Cr3::read();
    let page_table = page_table.start_address().as_u64();
    assert!(
        page_table < 1 << 32,
        "page table at {page_table:#x} is out of a starting CPU's reach"
    );
    let offered = OFFERED.lock();
    let memory = offered.as_ref().expect("made ready above");
    Ok(Parameters {
        page_table,
        stack_top: memory.idle.stack_end() as u64,
        entry: start as *const () as u64,
        cpu: cpu.into(),
        area: memory.area.addr().get() as u64,
    })
}

/// Gives back the memory that no CPU has taken, if there is any.
fn withdraw_memory() {
    let memory = OFFERED.lock().take();
    if let Some(memory) = memory {
        memory.give_back();
    }
}

/// Where a CPU that has taken an offer enters the kernel, on its idle task's stack.
extern "C" fn start(cpu: u64, area: *mut u8) -> ! {
    if !change(Stage::Taken, Stage::Entered) {
        interrupts::halt_forever();
    }
    let cpu = cpu as u32;
    // SAFETY: the offered memory is this CPU's since it has taken the offer; its number is the next one.
    unsafe { percpu::prepare(cpu, area) };
    // SAFETY: prepared just now.
    unsafe { percpu::enter(cpu) };
    let memory = OFFERED.lock().take();
    let Some(memory) = memory else {
        // Given up meanwhile.
        interrupts::halt_forever();
    };
    memory.idle.adopt();
    // SAFETY: this is that CPU, and the memory stays its own.
    unsafe { gdt::init(cpu, memory.stacks) };
    idt::init();
    protection::enable();
    apic::init_cpu(cpu);
    if !change(Stage::Entered, Stage::Up) {
        interrupts::halt_forever();
    }
    percpu::has_come_up(cpu);
    apic::start_timer();
    scheduler::idle()
}
