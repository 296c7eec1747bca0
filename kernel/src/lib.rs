//! An x86_64 kernel: SMP, preemptive tasks, a buddy and a slab allocator, a serial shell, and a leak
//! detector that watches over all of its memory.
//!
//! A kernel is this library and a binary of a few lines: it names [`BOOT_CONFIG`] to the boot loader and
//! calls [`start`] with what its first task is to do.
//!
//! | module | what |
//! | --- | --- |
//! | [`arch`] | the CPU |
//! | [`dev`] | the devices |
//! | [`sync`] | locks |
//! | [`mm`] | memory |
//! | [`task`] | tasks, and the locks that wait asleep |
//! | [`stop`], [`smp`], [`trap`] | stopping all CPUs, starting them, interrupting them |
//! | [`leak`] | the kernel as the leak detector sees it |
//! | [`scripted`] | a task that plays with the detector, for tests |
//! | [`foreground`] | the command that runs: how it is ended, and how far it has come |
//! | [`console`], [`edited`] | output; the line being typed, and output above it |
//! | [`cmdline`], [`symbols`], [`panic`] | the command line, names of addresses, panics |
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

pub mod arch;
pub mod cmdline;
pub mod console;
pub mod dev;
pub mod edited;
pub mod foreground;
pub mod leak;
pub mod mm;
pub mod panic;
pub mod scripted;
pub mod shell;
pub mod smp;
pub mod stop;
pub mod symbols;
pub mod sync;
pub mod task;
pub mod trap;

use core::slice;

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig};

use crate::arch::exit::{ExitCode, exit};
use crate::arch::{backtrace, gdt, memory, percpu, protection};
use crate::dev::acpi::{Machine, MachineError};
use crate::dev::{apic, serial, time};
use crate::mm::vmalloc::map_device;
use crate::symbols::Detail;
use crate::sync::preempt;
use crate::task::{Priority, reaper, scheduler};
use crate::trap::idt;

/// Bytes of the stack on which the boot CPU starts, and which its idle task keeps.
const BOOT_STACK_LEN: usize = 128 * 1024;

/// What the kernel asks of the boot loader.
pub const BOOT_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.kernel_stack_size = BOOT_STACK_LEN as u64;
    config.mappings.physical_memory = Some(Mapping::FixedAddress(memory::PHYSICAL_WINDOW));
    config
};

/// Brings the kernel up and runs `main` in its first task. The boot CPU's flow of control becomes its idle task, which
/// discards all stack frames of the start. When `main` returns, its task ends and the kernel goes on.
pub fn start(boot_info: &'static mut BootInfo, main: fn()) -> ! {
    // SAFETY: the first thing the kernel does.
    unsafe { percpu::init_boot_cpu() };
    serial::init();
    // SAFETY: this is the boot CPU; no other CPU uses these stacks.
    unsafe { gdt::init(0, gdt::boot_stacks()) };
    preempt::init(stop::join, scheduler::preempt);
    idt::init();
    protection::enable();
    // SAFETY: the boot loader left the ramdisk there, mapped, permanently.
    cmdline::init(unsafe {
        boot_memory(boot_info.ramdisk_addr.into_option(), boot_info.ramdisk_len)
    });
    console::init(cmdline::value("console"));
    let image = boot_info.kernel_addr;
    // SAFETY: the boot loader left the kernel's file there, in memory that it keeps.
    symbols::init(unsafe { boot_memory(Some(memory::window(image) as u64), boot_info.kernel_len) });
    leak::parameters::init();
    mm::poison::init(mm::poison::Outside {
        stack: || scheduler::with_current(task::Task::stack),
        name: |address, f| write!(f, "{}", symbols::of_return(address).with(Detail::Names)),
    });
    mm::init(&boot_info.memory_regions);
    let machine = Machine::read(
        boot_info.rsdp_addr.into_option(),
        mm::mapping::show_firmware,
    );
    let machine = machine.unwrap_or_else(|error| refuse(&error));
    mm::percpu::init(machine.apic_ids.len() as u32);
    // SAFETY: the firmware names the registers of its devices, which nothing else uses.
    let map = |physical, len| unsafe { map_device(physical, len) };
    let hpet = time::Hpet::new(map(machine.hpet, 4096)).unwrap_or_else(|error| refuse(&error));
    time::init(&hpet);
    apic::init(&machine, &hpet, map);
    let top = backtrace::stack_pointer().next_multiple_of(4096);
    let bottom = top - BOOT_STACK_LEN;
    scheduler::init(bottom..top);
    let first = task::spawn("init", Priority::Normal, move || {
        reaper::init().expect("memory for the first tasks");
        smp::start_all(&machine, cpu_patience_us());
        if let Err(broken) = mm::audit::check(bottom) {
            panic!("page tables: {broken}");
        }
        serial::enable_receive_interrupt();
        leak::background::start();
        main();
    });
    drop(first.expect("memory for the first tasks"));
    apic::start_timer();
    scheduler::idle()
}

/// How long a CPU may take to begin: the boot parameter `smp.wait_ms`.
fn cpu_patience_us() -> u64 {
    let Some(value) = cmdline::value("smp.wait_ms") else {
        return smp::PATIENCE_US;
    };
    match value.parse::<u32>() {
        Ok(ms) => u64::from(ms) * 1000,
        Err(_) => {
            println!("smp.wait_ms={value}: expected a number of milliseconds");
            smp::PATIENCE_US
        }
    }
}

/// Ends a machine that the kernel can't run on. This is no failure of the kernel, so no call stack is printed.
fn refuse(error: &MachineError) -> ! {
    println!("kernel: this machine will not do: {error}");
    exit(ExitCode::Failure)
}

/// Memory that the boot loader left us.
///
/// # Safety
///
/// There are `len` mapped bytes at `start`, which are never written to or freed any more.
unsafe fn boot_memory(start: Option<u64>, len: u64) -> &'static [u8] {
    match start {
        Some(start) => {
            let start = core::ptr::with_exposed_provenance(start as usize);
            // SAFETY: the caller's promise.
            unsafe { slice::from_raw_parts(start, len as usize) }
        }
        None => &[],
    }
}
