//! The interrupt table and its stubs, by which interrupts and exceptions enter the kernel.
//!
//! Each vector has a stub of a few instructions: it pushes its number (and a zero where the CPU pushes no
//! error code), then jumps to one common path that saves the registers as a [`TrapFrame`] and links a
//! frame into the chain of frame pointers, so that a backtrace goes on through the interrupted code.
//!
//! Handlers run with interrupts off, on the stack of the interrupted task (except for the exceptions that have stacks of
//! their own). So the registers of the interrupted code are where the leak detector scans.

use core::arch::naked_asm;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::idt::InterruptDescriptorTable;

use super::exceptions;
use super::frame::TrapFrame;
use crate::arch::gdt::ExceptionStack;
use crate::arch::vector;
use crate::dev::{apic, tlb};
use crate::shell::input;
use crate::sync::preempt::HandlerScope;
use crate::{stop, task};

static IDT: Once<InterruptDescriptorTable> = Once::new();

/// The path all stubs take. On entry the stack holds vector, error code and what the CPU pushed.
#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push rax", "push rbx", "push rcx", "push rdx", "push rsi", "push rdi", "push rbp",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "cld",
        "mov rdi, rsp",
        // A frame as a call would make it: return address (rip), caller's frame pointer.
        "push qword ptr [rsp + {rip}]",
        "push rbp",
        "mov rbp, rsp",
        "call {handle}",
        "add rsp, 16",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rbp", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "add rsp, 16",
        "iretq",
        rip = const core::mem::offset_of!(TrapFrame, rip),
        handle = sym handle,
    )
}

/// Where every interrupt and exception arrives.
extern "C" fn handle(frame: &mut TrapFrame) {
    let vector = frame.vector as u8;
    if vector < 32 {
        return exceptions::handle(frame);
    }
    if vector == vector::SPURIOUS {
        return;
    }
    let scope = HandlerScope::new();
    match vector {
        vector::TIMER => task::scheduler::tick(),
        vector::SERIAL => input::receive_interrupt(),
        vector::RESCHEDULE => task::scheduler::reschedule_interrupt(),
        vector::STOP => stop::interrupt(),
        vector::TLB => tlb::interrupt(),
        _ => crate::println!("unexpected interrupt {vector:#x}"),
    }
    apic::end_of_interrupt();
    // Last: the pending work that this does may switch to another task.
    drop(scope);
}

/// A stub that pushes its vector. `error` where the CPU has pushed an error code already.
macro_rules! stub {
    ($vector:literal error) => {{
        #[unsafe(naked)]
        extern "C" fn stub() {
            naked_asm!("push {}", "jmp {}", const $vector, sym common)
        }
        VirtAddr::new(stub as *const () as u64)
    }};
    ($vector:expr) => {{
        #[unsafe(naked)]
        extern "C" fn stub() {
            naked_asm!("push 0", "push {}", "jmp {}", const $vector, sym common)
        }
        VirtAddr::new(stub as *const () as u64)
    }};
}

/// Sets entries of the table to their stubs.
macro_rules! set {
    ($($entry:expr => $stub:expr;)+) => {
        $(
            // SAFETY: a stub is what the CPU is to enter: it saves everything and returns by iretq.
            unsafe { $entry.set_handler_addr($stub) };
        )+
    };
}

/// Sets entries of the table that have a stack of their own.
macro_rules! set_on_stack {
    ($($entry:expr, $stack:expr => $stub:expr;)+) => {
        $(
            // SAFETY: a stub is what the CPU is to enter: it saves everything and returns by iretq.
            let options = unsafe { $entry.set_handler_addr($stub) };
            // SAFETY: the stack table has this entry, and no other exception uses it.
            unsafe { options.set_stack_index($stack as u16) };
        )+
    };
}

fn table() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    set! {
        idt.divide_error => stub!(0);
        idt.debug => stub!(1);
        idt.breakpoint => stub!(3);
        idt.overflow => stub!(4);
        idt.bound_range_exceeded => stub!(5);
        idt.invalid_opcode => stub!(6);
        idt.device_not_available => stub!(7);
        idt.invalid_tss => stub!(10 error);
        idt.segment_not_present => stub!(11 error);
        idt.stack_segment_fault => stub!(12 error);
        idt.general_protection_fault => stub!(13 error);
        idt.x87_floating_point => stub!(16);
        idt.alignment_check => stub!(17 error);
        idt.simd_floating_point => stub!(19);
        idt.virtualization => stub!(20);
        idt.cp_protection_exception => stub!(21 error);
        idt[vector::TIMER] => stub!(vector::TIMER);
        idt[vector::SERIAL] => stub!(vector::SERIAL);
        idt[vector::RESCHEDULE] => stub!(vector::RESCHEDULE);
        idt[vector::STOP] => stub!(vector::STOP);
        idt[vector::TLB] => stub!(vector::TLB);
        idt[vector::APIC_ERROR] => stub!(vector::APIC_ERROR);
        idt[vector::SPURIOUS] => stub!(vector::SPURIOUS);
    }
    set_on_stack! {
        idt.non_maskable_interrupt, ExceptionStack::NonMaskable => stub!(2);
        idt.double_fault, ExceptionStack::DoubleFault => stub!(8 error);
        idt.page_fault, ExceptionStack::PageFault => stub!(14 error);
        idt.machine_check, ExceptionStack::MachineCheck => stub!(18);
    }
    idt
}

/// Loads the table, which all CPUs share. Called after the CPU's segments are loaded.
pub fn init() {
    IDT.call_once(table).load();
}
