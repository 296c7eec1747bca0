//! Kernels that misbehave on purpose, so that the harness can be tested.

use core::arch::asm;

use kernel::arch::interrupts;
use kernel::println;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use crate::{held, protection};

/// Misbehaves. The kernel's own ways to fail are tests of their own.
pub fn run(name: &str) -> ! {
    match name {
        "triple-fault" => triple_fault(),
        "hang" => {
            println!("hangs");
            interrupts::halt_forever()
        }
        "lock-held" => held::run(),
        "panic" => panic!("asked to, by the harness"),
        "users-code" => protection::run_users_code(),
        "users-data" => protection::read_users_data(),
        _ => panic!("there is no fixture named {name}"),
    }
}

/// A breakpoint with no interrupt table, so that its fault's fault can't be handled either.
fn triple_fault() -> ! {
    interrupts::disable();
    let empty = DescriptorTablePointer {
        limit: 0,
        base: VirtAddr::zero(),
    };
    // SAFETY: the machine ends with the next instruction.
    unsafe { lidt(&empty) };
    // SAFETY: as intended, there is no handler.
    unsafe { asm!("int3", options(noreturn)) }
}
