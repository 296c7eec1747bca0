//! Interrupt controllers: a local APIC for each CPU, and the I/O APIC that routes the serial line's interrupt.
//!
//! The register work is the `x2apic` crate's, which uses the registers in memory (xAPIC) or those of the CPU
//! (x2APIC), whichever there is. Each CPU talks to its own local APIC only.
//!
//! What a CPU writes before it interrupts another one is seen by the handler there: the sender calls [`fence`].

use core::arch::asm;
use core::cell::RefCell;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;
use x2apic::ioapic::{IoApic, IrqFlags, IrqMode, RedirectionTableEntry};
use x2apic::lapic::{IpiAllShorthand, LocalApic, LocalApicBuilder, TimerDivide, TimerMode};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::acpi::Machine;
use super::time::Hpet;
use crate::arch::mmio::Registers;
use crate::arch::percpu::MAX_CPUS;
use crate::arch::vector;
use crate::percpu;
use crate::sync::IrqGuard;

/// Timer interrupts a second, on each CPU.
pub const TICKS_PER_SECOND: u32 = 250;

/// How long the timer is measured, in microseconds.
const CALIBRATION_US: u64 = 5_000;

const FS_PER_SECOND: u64 = 1_000_000_000_000_000;

/// A local APIC, in the variable of the CPU that it belongs to.
struct OwnApic(LocalApic);

// SAFETY: it never leaves the per-CPU variable that it is put into by its own CPU, and
// `PerCpu::local` lends it to that CPU alone.
unsafe impl Send for OwnApic {}

percpu! {
    static LOCAL: RefCell<Option<OwnApic>> = RefCell::new(None);
}

/// Where the local APIC's registers are mapped, in xAPIC mode.
static REGISTERS: Once<usize> = Once::new();

/// Timer counts between two ticks.
static TIMER_PERIOD: AtomicU32 = AtomicU32::new(0);

/// APIC numbers of the CPUs, by the kernel's CPU numbers.
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// Runs `action` on this CPU's local APIC, if it is set up.
fn with_local<R>(action: impl FnOnce(&mut LocalApic) -> R) -> Option<R> {
    let guard = IrqGuard::new();
    let mut local = LOCAL.local(&guard).borrow_mut();
    local.as_mut().map(|own| action(&mut own.0))
}

/// Masks the old interrupt controllers, which a PC starts with: they use the vectors of exceptions.
fn mask_legacy_controllers() {
    for port in [0x21, 0xa1] {
        // SAFETY: the data port of an 8259; all ones masks all of its inputs.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Sets up what all CPUs share, the boot CPU's local APIC, and the timer's rate. `map` maps the registers of a device.
pub fn init(machine: &Machine, hpet: &Hpet, map: impl Fn(u64, usize) -> Registers) {
    mask_legacy_controllers();
    REGISTERS.call_once(|| map(machine.local_apic, 4096).address());
    init_cpu(0);
    let (fs, counts) = with_local(|local| {
        // SAFETY: this CPU's own timer, whose interrupt is masked and which no code uses yet.
        unsafe { local.set_timer_initial(u32::MAX) };
        hpet.measure(CALIBRATION_US, || {
            // SAFETY: reads a register of this CPU's own.
            let rest = unsafe { local.timer_current() };
            u64::from(u32::MAX - rest)
        })
    })
    .expect("the boot CPU's local APIC has just been set up");
    let per_tick = u128::from(counts) * u128::from(FS_PER_SECOND)
        / (u128::from(fs) * u128::from(TICKS_PER_SECOND));
    TIMER_PERIOD.store(per_tick as u32, Ordering::Release);
    route_serial(machine, map(machine.io_apic, 4096));
}

/// Sets up this CPU's local APIC, with its timer stopped. Interrupts are off.
pub fn init_cpu(cpu: u32) {
    let registers = *REGISTERS
        .get()
        .expect("the boot CPU has mapped the registers");
    let mut local = LocalApicBuilder::new()
        .timer_vector(vector::TIMER.into())
        .error_vector(vector::APIC_ERROR.into())
        .spurious_vector(vector::SPURIOUS.into())
        .timer_mode(TimerMode::Periodic)
        .timer_divide(TimerDivide::Div16)
        .timer_initial(0)
        .set_xapic_base(registers as u64)
        .build()
        .expect("all that the builder asks for was given");
    // SAFETY: this CPU's own, whose vectors have their handlers.
    unsafe { local.enable() };
    // SAFETY: as above.
    unsafe { local.disable_timer() };
    // SAFETY: as above.
    let apic_id = unsafe { local.id() };
    let apic_id = if is_x2apic() { apic_id } else { apic_id >> 24 };
    APIC_IDS[cpu as usize].store(apic_id, Ordering::Release);
    let guard = IrqGuard::new();
    *LOCAL.local(&guard).borrow_mut() = Some(OwnApic(local));
    take_nmis(registers);
}

/// Makes this CPU's local interrupt pin 1 deliver non-maskable interrupts: every PC wires its button for them to it
/// (MultiProcessor Specification 1.4, 3.6.2). After a reset the pin is masked, and not all firmware changes that.
fn take_nmis(registers: usize) {
    /// The entry of the local vector table, as a model-specific register and as an offset.
    const LINT1: (u32, usize) = (0x836, 0x360);
    /// Delivered as a non-maskable interrupt, on an edge, not masked.
    const NMI: u32 = 0b100 << 8;
    if is_x2apic() {
        // SAFETY: the register is there, and its vector, 2, has its handler.
        unsafe { Msr::new(LINT1.0).write(NMI.into()) };
    } else {
        let register: *mut u32 = ptr::with_exposed_provenance_mut(registers + LINT1.1);
        // SAFETY: the same register, mapped uncached.
        unsafe { register.write_volatile(NMI) };
    }
}

/// Whether the `x2apic` crate uses the CPU's registers: wherever the CPU has them.
fn is_x2apic() -> bool {
    const X2APIC: u32 = 1 << 21;
    core::arch::x86_64::__cpuid(1).ecx & X2APIC != 0
}

/// APIC number of a CPU that runs.
pub fn apic_id(cpu: u32) -> u32 {
    APIC_IDS[cpu as usize].load(Ordering::Acquire)
}

/// The destination field in the form of the mode in use.
fn destination(apic_id: u32) -> u32 {
    if is_x2apic() { apic_id } else { apic_id << 24 }
}

/// Starts this CPU's timer ticks.
pub fn start_timer() {
    let period = TIMER_PERIOD.load(Ordering::Acquire);
    with_local(|local| {
        // SAFETY: this CPU's own timer; its vector has its handler.
        unsafe { local.set_timer_initial(period) };
        // SAFETY: as above.
        unsafe { local.enable_timer() };
    });
}

fn route_serial(machine: &Machine, registers: Registers) {
    // SAFETY: the I/O APIC's registers, mapped uncached, used nowhere else.
    let mut io_apic = unsafe { IoApic::new(registers.address() as u64) };
    let mut entry = RedirectionTableEntry::default();
    entry.set_mode(IrqMode::Fixed);
    entry.set_flags(IrqFlags::empty());
    entry.set_vector(vector::SERIAL);
    entry.set_dest(apic_id(0) as u8);
    // SAFETY: the input is the serial port's, and the vector has its handler.
    unsafe { io_apic.set_table_entry(machine.serial_input, entry) };
    // SAFETY: as above.
    unsafe { io_apic.enable_irq(machine.serial_input) };
}

/// Tells the local APIC that the interrupt was handled.
pub fn end_of_interrupt() {
    // SAFETY: called at the end of a handler.
    with_local(|local| unsafe { local.end_of_interrupt() });
}

/// Makes all CPUs see what this one has written so far, before it interrupts them. A write to an x2APIC's register does not wait
/// for earlier writes (Intel SDM volume 3, 11.12.3): without this, a handler might read old values and never answer.
fn fence() {
    // SAFETY: orders memory accesses, and nothing else. No `nomem`: the compiler must keep the order, too.
    unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
}

/// Interrupts one other CPU.
pub fn send(cpu: u32, vector: u8) {
    fence();
    // SAFETY: all our vectors have their handlers.
    with_local(|local| unsafe { local.send_ipi(vector, destination(apic_id(cpu))) });
}

/// Interrupts all other CPUs. Those that were never started ignore it.
pub fn send_to_others(vector: u8) {
    fence();
    // SAFETY: all our vectors have their handlers.
    with_local(|local| unsafe { local.send_ipi_all(vector, IpiAllShorthand::AllExcludingSelf) });
}

/// Interrupts one other CPU that runs, by a non-maskable interrupt.
///
/// # Safety
///
/// This CPU ends the machine: if it interrupted code that was using its local APIC, that code never goes on.
pub(super) unsafe fn send_nmi(cpu: u32) {
    fence();
    let guard = IrqGuard::new();
    let local = LOCAL.local(&guard).as_ptr();
    // SAFETY: this CPU's own; a borrower was interrupted on this CPU, and never goes on.
    if let Some(own) = unsafe { &mut *local } {
        // SAFETY: the vector has its handler, with a stack of its own.
        unsafe { own.0.send_nmi(destination(apic_id(cpu))) };
    }
}

/// Sends INIT to a CPU that is not running yet, named by its APIC number: it then waits for [`send_startup`].
pub fn send_init(apic_id: u32) {
    // SAFETY: the caller starts this CPU, so it runs nothing of ours.
    with_local(|local| unsafe { local.send_init_ipi(destination(apic_id)) });
}

/// Makes a CPU that got INIT run the code in the page with this number, in real mode. A CPU that has not got INIT ignores it.
pub fn send_startup(apic_id: u32, page: u8) {
    fence();
    // SAFETY: the caller starts this CPU; the page holds the code to start with.
    with_local(|local| unsafe { local.send_sipi(page, destination(apic_id)) });
}
