//! Switching stacks.
//!
//! A task that does not run is its stack pointer: what a function call keeps is pushed below it. So its
//! registers lie in the live part of its stack, which the leak detector scans from that pointer up. Whoever notes a
//! stack pointer for it pushes the same registers in the same order: [`PUSHED`] names them.

use core::arch::naked_asm;
use core::ffi::c_void;

/// The registers that lie at a stack pointer which [`switch`] has saved or [`with_registers_pushed`] has told, lowest
/// address first, a word each: those that a function keeps for its caller. The return address is above them.
pub const PUSHED: [&str; 6] = ["r15", "r14", "r13", "r12", "rbx", "rbp"];

/// Saves this task on its stack, leaves its stack pointer in `*save`, and goes on with the task whose
/// stack pointer is `next`. Returns when somebody goes on with this one.
///
/// # Safety
///
/// `save` is writable; `next` was saved here or made by [`prepare`], and is used once. Interrupts are off.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut usize, next: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// What [`switch`] finds on the stack of a task that has not run yet.
#[repr(C)]
struct Initial {
    r15: usize,
    r14: usize,
    r13: usize,
    r12: usize,
    rbx: usize,
    rbp: usize,
    /// Where the task starts.
    rip: usize,
    /// The return address of where it starts: none, and so the end of a backtrace.
    end: usize,
}

/// Lays the ground for a task that starts with `entry`, on the stack that ends at `top`, and returns its
/// stack pointer.
///
/// # Safety
///
/// `top` is the end of a stack that is writable, aligned to 16, and not in use.
pub unsafe fn prepare(top: usize, entry: extern "C" fn() -> !) -> usize {
    // A function is entered with the stack pointer 8 below a multiple of 16.
    let pointer = top - size_of::<Initial>();
    let initial = Initial {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        rbx: 0,
        rbp: 0,
        rip: entry as *const () as usize,
        end: 0,
    };
    // SAFETY: the caller's promise.
    unsafe { core::ptr::with_exposed_provenance_mut::<Initial>(pointer).write(initial) };
    pointer
}

/// Clears the stack below the caller's frame, down to `bottom`, and the registers that a function need not keep: an
/// interrupt would push what is left in them.
///
/// What was called before has left its locals there, and frames that are laid over them need not write to all
/// of their slots: an address that was printed a moment ago would seem to be in use. Who looks for leaks
/// clears the ground first.
///
/// # Safety
///
/// The caller runs on the stack that begins at `bottom`.
#[unsafe(naked)]
pub unsafe extern "C" fn clear_dead_stack(bottom: usize) {
    naked_asm!(
        "mov rcx, rsp",
        "sub rcx, rdi",
        "shr rcx, 3",
        "xor eax, eax",
        "rep stosq",
        "xor edx, edx",
        "xor esi, esi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "ret",
    )
}

/// Gives up all frames of the stack between `bottom` and `top`, clears it, and goes on with `entry` at its top.
///
/// Who has done its work and calls what never returns would keep its frames as long as that runs, and all that is left in
/// them with them.
///
/// # Safety
///
/// The caller runs on the stack from `bottom` to `top`, which is a multiple of 16; nothing in its frames or in those of its
/// callers is used any more, by whomever.
#[unsafe(naked)]
pub unsafe extern "C" fn start_over(bottom: usize, top: usize, entry: extern "C" fn() -> !) -> ! {
    naked_asm!(
        "mov rsp, rsi",
        "mov rcx, rsi",
        "sub rcx, rdi",
        "shr rcx, 3",
        "xor eax, eax",
        "rep stosq",
        "xor ebx, ebx",
        "xor ebp, ebp",
        "xor r12d, r12d",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        // The return address: none, and so the end of a backtrace.
        "push rax",
        "jmp rdx",
    )
}

/// Calls `call` with `data` on clean ground: the stack below, down to `bottom`, is cleared, and so is each register
/// that a function would push there.
///
/// What `call` leaves unwritten in what it builds is then zero, and not what its callers worked with.
///
/// # Safety
///
/// The caller runs on the stack that begins at `bottom`, or `bottom` lies above it: then the stack is left as it is.
/// And `call` can be called with `data`.
#[unsafe(naked)]
pub unsafe extern "C" fn call_on_clean_stack(
    bottom: usize,
    data: *mut c_void,
    call: extern "C" fn(*mut c_void),
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov rcx, rsp",
        "sub rcx, rdi",
        "jbe 2f",
        "shr rcx, 3",
        "xor eax, eax",
        "rep stosq",
        "2:",
        "xor ebx, ebx",
        "xor r12d, r12d",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "mov rdi, rsi",
        "call rdx",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Calls `call` with the registers that a function keeps for its caller pushed on the stack, as [`PUSHED`] says, and the
/// stack pointer: what lies from there up is all that the callers have on this stack.
pub fn with_registers_pushed(mut call: &mut dyn FnMut(usize)) {
    extern "C" fn run(stack_pointer: usize, call: *mut c_void) {
        // SAFETY: the pointer below, whose target waits for us to return.
        let call = unsafe { &mut *call.cast::<&mut dyn FnMut(usize)>() };
        call(stack_pointer);
    }

    #[unsafe(naked)]
    extern "C" fn push_registers(call: *mut c_void) {
        naked_asm!(
            "push rbp", "mov rbp, rsp",
            "push rbx", "push r12", "push r13", "push r14", "push r15",
            "mov rsi, rdi",
            "mov rdi, rsp",
            // A call wants the stack pointer at a multiple of 16.
            "sub rsp, 8",
            "call {run}",
            "add rsp, 8",
            "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
            "ret",
            run = sym run,
        )
    }

    push_registers((&raw mut call).cast());
}

/// Calls `call` with `data` and returns zero; where [`leave`] is called meanwhile, returns at once with its reason. `resume` is
/// written: what `leave` is to be given.
///
/// # Safety
///
/// `call` can be called with `data`, and `resume` be written. If `call` may be left: none of the frames that are dropped then
/// needs its destructor.
#[unsafe(naked)]
pub unsafe extern "C" fn call_until_left(
    resume: *mut usize,
    data: *mut c_void,
    call: extern "C" fn(*mut c_void),
) -> usize {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // A call wants the stack pointer at a multiple of 16.
        "sub rsp, 8",
        "mov [rdi], rsp",
        "mov rdi, rsi",
        "call rdx",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Leaves the call that was begun with [`call_until_left`], which returns `reason`.
///
/// # Safety
///
/// The caller is inside of that call, and `resume` is what it was told.
#[unsafe(naked)]
pub unsafe extern "C" fn leave(resume: usize, reason: usize) -> ! {
    naked_asm!(
        "mov rax, rsi",
        "lea rsp, [rdi + 8]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
