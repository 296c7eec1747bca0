//! Exceptions: all but writes to frozen memory end the machine, after a report of what is known. A non-maskable interrupt does so, too, and is
//! also the way in which the CPU that ends the machine halts the others.

use core::fmt;

use x86_64::registers::control::{Cr2, Cr3};
use x86_64::registers::model_specific::Msr;

use super::frame::TrapFrame;
use crate::arch::percpu::cpu_id;
use crate::arch::{ending, gdt};
use crate::mm::frozen;
use crate::{mm, panic};

/// Names of the exceptions by vector (Intel SDM volume 3, table 6-1).
const NAMES: [&str; 22] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid tss",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved",
    "x87 floating point",
    "alignment check",
    "machine check",
    "simd floating point",
    "virtualization",
    "control protection",
];

const NON_MASKABLE: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// Reports the exception and ends the machine with failure, or halts this CPU if another one ends the machine. A write to a page that
/// is frozen is allowed, and goes on.
pub fn handle(frame: &TrapFrame) {
    if frame.vector == PAGE_FAULT
        && frozen::handle_fault(Cr2::read_raw() as usize, frame.error_code)
    {
        return;
    }
    if frame.vector == NON_MASKABLE && ending::is_ending() {
        if ending::ends_here() {
            // This CPU is writing the report already.
            return;
        }
        ending::halt_here(frame.rip as usize);
    }
    panic::fatal(
        format_args!("{}", Description(frame)),
        frame.rip as usize,
        frame.rbp as usize,
    )
}

struct Description<'a>(&'a TrapFrame);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        let name = NAMES
            .get(frame.vector as usize)
            .unwrap_or(&"unknown exception");
        write!(
            f,
            "{name} (vector {}, error code {:#x})",
            frame.vector, frame.error_code
        )?;
        if frame.vector == PAGE_FAULT || frame.vector == DOUBLE_FAULT {
            let address = Cr2::read_raw() as usize;
            write!(f, " at address {address:#018x}")?;
            write_guard_page(f, address, frame.rsp as usize)?;
        }
        if frame.vector == MACHINE_CHECK {
            MachineCheck.fmt(f)?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "  rip {:#018x}  rsp {:#018x}  rflags {:#010x}  cs {:#x}  ss {:#x}",
            frame.rip, frame.rsp, frame.rflags, frame.cs, frame.ss
        )?;
        let registers = [
            [("rax", frame.rax), ("rbx", frame.rbx), ("rcx", frame.rcx)],
            [("rdx", frame.rdx), ("rsi", frame.rsi), ("rdi", frame.rdi)],
            [("rbp", frame.rbp), ("r8 ", frame.r8), ("r9 ", frame.r9)],
            [("r10", frame.r10), ("r11", frame.r11), ("r12", frame.r12)],
            [("r13", frame.r13), ("r14", frame.r14), ("r15", frame.r15)],
        ];
        for line in registers {
            for (name, value) in line {
                write!(f, "  {name} {value:#018x}")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "  cr2 {:#018x}  cr3 {:#018x}",
            Cr2::read_raw(),
            Cr3::read().0.start_address().as_u64()
        )
    }
}

/// Says which guard page lies at `address`, if one does.
fn write_guard_page(
    f: &mut fmt::Formatter<'_>,
    address: usize,
    stack_pointer: usize,
) -> fmt::Result {
    for stack in gdt::exception_stacks(cpu_id()) {
        if (stack.start.saturating_sub(mm::PAGE)..stack.start).contains(&address) {
            let start = stack.start;
            return write!(
                f,
                ": guard page hit, overflow of the exception stack at {start:#018x}"
            );
        }
    }
    match mm::vmalloc::guard_page(address, stack_pointer) {
        Some(guard) => write!(f, ": guard page hit, {guard}"),
        None => Ok(()),
    }
}

/// What the banks of error registers say after a machine check (Intel SDM volume 3, 15.3). Read on the CPU that had it.
struct MachineCheck;

impl MachineCheck {
    const CAPABILITIES: u32 = 0x179;
    const STATUS: u32 = 0x17a;
    /// The first bank's status; its address and what else it tells follow, then the next bank's control register.
    const BANK_STATUS: u32 = 0x401;
    const VALID: u64 = 1 << 63;
    const HAS_MISC: u64 = 1 << 59;
    const HAS_ADDRESS: u64 = 1 << 58;

    fn read(register: u32) -> u64 {
        // SAFETY: a CPU that has machine checks has these registers, of as many banks as it says; reading changes nothing.
        unsafe { Msr::new(register).read() }
    }
}

impl fmt::Display for MachineCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", global status {:#x}", Self::read(Self::STATUS))?;
        let banks = Self::read(Self::CAPABILITIES) as u32 & 0xff;
        for bank in 0..banks {
            let register = Self::BANK_STATUS + 4 * bank;
            let status = Self::read(register);
            if status & Self::VALID == 0 {
                continue;
            }
            write!(f, "\n  bank {bank}: status {status:#018x}")?;
            if status & Self::HAS_ADDRESS != 0 {
                write!(f, "  address {:#018x}", Self::read(register + 1))?;
            }
            if status & Self::HAS_MISC != 0 {
                write!(f, "  misc {:#018x}", Self::read(register + 2))?;
            }
        }
        Ok(())
    }
}
