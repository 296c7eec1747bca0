//! Switching stacks.
//!
//! A task that does not run is represented by its stack pointer, at which the registers lie that a function keeps for its
//! caller. So they are in the live part of its stack, which the leak detector scans from that pointer up. All code that notes a
//! stack pointer for the detector pushes the same registers in the same order: [`PUSHED`] names them.

use core::arch::{asm, naked_asm};
use core::ffi::c_void;

/// The registers that lie at a stack pointer which [`switch`] has saved or [`with_registers_pushed`] has passed on, lowest
/// address first, one word each: those that a function keeps for its caller. The return address is above them. The
/// last one links the frames: its place is what the frame pointer of [`switch`] was.
pub const PUSHED: [&str; 6] = ["r15", "r14", "r13", "r12", "rbx", "rbp"];

/// Where [`switch`] goes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Next {
    /// Where to save the stack pointer; null if no switch is made.
    pub save: *mut usize,
    /// The stack pointer of the task to switch to.
    pub stack_pointer: usize,
}

/// Saves this task on its stack, asks `choose(first, second)` which task is next, stores the stack pointer where that says, and
/// switches. Returns when another call switches back to this task, by way of `finish`, which runs on the stack of the task that was
/// switched to, first thing. If there is no switch, `finish` is not called.
///
/// What a waiting task has below the frame of its last caller is this function's frame, all of whose words are written: seven
/// words, the return address included. A choice that was made in the frames of Rust functions above the saved stack pointer would leave
/// the slots that they do not use as earlier calls left them, and the leak detector would read these as long as the
/// task waits. So the choice runs below, in frames that are gone when the switch is made.
///
/// # Safety
///
/// `choose` and `finish` can be called so. What `choose` returns is null, or a writable word, and a stack pointer
/// that was saved here or made by [`prepare`] and is used once; then it has turned interrupts off.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(
    first: usize,
    second: u64,
    choose: extern "C" fn(usize, u64) -> Next,
    finish: extern "C" fn(),
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // Who switches to this task calls its own `finish`; a call wants the stack pointer at a multiple of 16.
        "mov rbx, rcx",
        "sub rsp, 8",
        "call rdx",
        "add rsp, 8",
        "test rax, rax",
        "jz 2f",
        "mov [rax], rsp",
        "mov rsp, rdx",
        "mov rax, rbx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "jmp rax",
        "2:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Bytes that [`on_cleared_frame`] clears: more than any function's frame has that it is used for.
const CLEARED: usize = 256;

/// Calls `call` with the next [`CLEARED`] bytes of the stack zero: what the frame leaves unwritten in which a task waits must not be
/// an address that earlier calls have left there. `call` calls one function, which is not inlined and whose frame is that one. On
/// a stack with less room than that, it hits what lies below, as the next interrupt would.
///
/// The caller needs no frame for it, and so no place for something stale: few registers change. One of them is `rax`, which
/// functions push where they need some word to align their frame, and which else holds what the last call has returned.
///
/// An interrupt between the clearing and the call may leave words there: that is in some forty instructions of a wait.
#[inline(always)]
pub fn on_cleared_frame<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: no code uses what lies below the stack pointer: an interrupt would overwrite it.
    unsafe {
        asm!(
            "lea rdi, [rsp - {cleared}]",
            "mov ecx, {cleared} / 8",
            "xor eax, eax",
            "rep stosq",
            cleared = const CLEARED,
            out("rdi") _, out("rcx") _, out("rax") _,
        );
    }
    let result = call();
    // SAFETY: does nothing. It stands behind the call, so that no compiler makes that a jump, to a frame in place of the caller's.
    unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
    result
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
    /// The return address of the function at `rip`: zero, which ends a backtrace.
    end: usize,
}

/// Prepares the stack that ends at `top` for a task that starts with `entry`, and returns its stack pointer.
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

/// Clears the stack below the caller's frame, down to `bottom`, and the registers that a function need not keep for its
/// caller: an interrupt would push the values left in them.
///
/// Earlier calls have left their locals there, and later frames at the same place need not write to all of their slots: an
/// address that was printed before would seem to be in use. Code that looks for leaks calls this first.
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

/// Discards all frames of the stack between `bottom` and `top`, clears it, and enters `entry` at its top.
///
/// A plain call of `entry`, which never returns, would keep the caller's frames and the addresses in them.
///
/// # Safety
///
/// The caller runs on the stack from `bottom` to `top`, which is a multiple of 16; no code uses anything in its frames or in
/// those of its callers any more.
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
        // The return address: zero, which ends a backtrace.
        "push rax",
        "jmp rdx",
    )
}

/// Calls `call` with `data` on a cleared stack: clears the stack below, down to `bottom`, and each register that a function
/// would push there.
///
/// So the bytes that `call` leaves unwritten in the values it builds are zero, and hold no addresses from its callers.
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

/// Pushes the registers that a function keeps for its caller, in the order of [`PUSHED`], and calls `call` with the stack
/// pointer: all that the callers have on this stack lies from there up.
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

/// Calls `call` with `data` and returns zero; if [`leave`] is called meanwhile, returns its reason at once. Stores in `*resume`
/// the value that `leave` takes.
///
/// # Safety
///
/// `call` can be called with `data`, and `resume` is writable. If [`leave`] is called, no value in the frames that it skips needs
/// its destructor.
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
/// The caller is inside of that call, and `resume` is the value that [`call_until_left`] has stored for it.
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
