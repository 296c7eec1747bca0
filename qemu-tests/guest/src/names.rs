//! What words in roots and return addresses are called.

use alloc::format;
use alloc::string::String;
use core::arch::naked_asm;
use core::fmt;
use core::hint::black_box;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kernel::arch::context::Next;
use kernel::arch::percpu::running;
use kernel::arch::{backtrace, context, memory, percpu};
use kernel::leak::hooks::KernelPlatform;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::frame::{self, Frame};
use kernel::mm::vmalloc;
use kernel::percpu;
use kernel::stop;
use kernel::sync::IrqGuard;
use kernel::task::{self, JoinHandle, Priority, State, TaskId};
use kmemleak::{Platform, Root, RootCursor, RootKind};

use crate::guest_test;

const WORD: usize = size_of::<usize>();

/// The first root that satisfies the condition.
fn root(is_it: impl Fn(&Root) -> bool) -> Option<Root> {
    let mut cursor = RootCursor::default();
    core::iter::from_fn(|| KernelPlatform.next_root(&mut cursor)).find(is_it)
}

/// What the word at `address` is called, in the root that has it.
fn name(address: usize) -> String {
    let root = root(|root| (root.start..root.start + root.len).contains(&address));
    name_in(root.expect("a word in a root"), address)
}

fn name_in(root: Root, address: usize) -> String {
    let mut text = String::new();
    KernelPlatform
        .name_root(root, address, &mut text)
        .expect("a string takes it");
    text
}

static IN_DATA: [AtomicUsize; 4] = [const { AtomicUsize::new(1) }; 4];
static IN_BSS: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

guest_test! {
    /// The name of a variable's word is its section, the variable's name, and the offset.
    fn words_of_variables() smp [1, 2] {
        let (data, bss) = (black_box(&IN_DATA), black_box(&IN_BSS));
        assert_eq!(name((&raw const data[0]).addr()), ".data guest::names::IN_DATA+0x0");
        assert_eq!(name((&raw const data[2]).addr()), ".data guest::names::IN_DATA+0x10");
        assert_eq!(name((&raw const bss[3]).addr()), ".bss guest::names::IN_BSS+0x18");
    }
}

guest_test! {
    /// The name of a word in no variable is its section and the offset in it.
    fn words_of_no_variable() smp [1] {
        // Sections are filled up to whole pages.
        let unnamed = [(".data", memory::data()), (".bss", memory::bss())].map(|(section, at)| {
            let last = at.end - WORD;
            (name(last), format!("{section}+{:#x}", last - at.start))
        });
        assert!(unnamed.iter().any(|(name, expected)| name == expected), "{unnamed:?}");
    }
}

percpu! {
    static PER_CPU: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
}

guest_test! {
    /// The name of a word in a CPU's static area is the CPU, and the variable of the template.
    fn words_of_percpu_variables() smp [1, 2] {
        for cpu in 0..running() {
            let address = (&raw const PER_CPU.on(cpu)[1]).addr();
            assert_eq!(name(address), format!("cpu {cpu} guest::names::PER_CPU+0x8"));
            let end = percpu::area(cpu).expect("it runs") + percpu::area_len();
            assert_eq!(name(end - WORD), format!("cpu {cpu} .percpu+{:#x}", percpu::area_len() - WORD));
        }
    }
}

guest_test! {
    /// The name of a word in a frame's descriptor is the frame's number and what the word is for.
    fn words_of_frame_descriptors() smp [1, 2] {
        let page = buddy::alloc(0, Tracking::Untracked).expect("memory");
        let address = page.addr().get();
        let number = (address as u64 - memory::PHYSICAL_WINDOW) / 4096;
        let descriptor = ptr::from_ref(frame::frame_of(address).expect("a descriptor")).addr();
        // The owner's word is the last.
        let owner = descriptor + size_of::<Frame>() - WORD;
        assert_eq!(name(owner), format!("frame {number:#x} owner word"));
        assert_eq!(name(owner - WORD), format!("frame {number:#x} previous and kind of owner"));
        assert_eq!(name(descriptor), format!("frame {number:#x} usage and next"));
        buddy::free(page, 0, Tracking::Untracked);
    }
}

/// How far a test has got: 1 when its holder waits, 2 when that may end, 3 when a later task may.
static GO: AtomicU32 = AtomicU32::new(0);
/// A word of its stack.
static SLOT: AtomicUsize = AtomicUsize::new(0);

/// A task that waits, with a word of its stack noted.
fn holder() -> JoinHandle {
    let hold = || {
        let slot = black_box([1_usize, 2]);
        SLOT.store((&raw const slot[1]).addr(), Ordering::Release);
        GO.store(1, Ordering::Release);
        while GO.load(Ordering::Acquire) != 2 {
            task::park();
        }
        black_box(slot);
    };
    let holder = task::spawn("holder", Priority::Normal, hold).expect("memory for a task");
    while GO.load(Ordering::Acquire) != 1 || holder.task().state() != State::Blocked {
        task::yield_now();
    }
    holder
}

fn let_go(holder: JoinHandle) {
    GO.store(2, Ordering::Release);
    task::unpark(holder.task());
    holder.join();
}

/// The root that is this task's stack, as it is now.
fn stack_root(id: TaskId) -> Option<Root> {
    root(|root| root.kind == RootKind::Stack(id))
}

guest_test! {
    /// The name of a word in a waiting task's stack is the task and the offset from its stack pointer, or a register that it
    /// has pushed there; when the task is gone, its number and the offset.
    fn words_of_a_waiting_tasks_stack() smp [1, 2] {
        let holder = holder();
        let id = holder.task().id();
        // This waits for the scheduler's lock, so until the pointer is saved.
        let root = stack_root(id).expect("its stack");
        let pointer = holder.task().stack_pointer();
        let slot = SLOT.load(Ordering::Acquire);
        let in_frame = name(slot);
        let holds = format!("task {id} \"holder\" guest::names::holder::{{{{closure}}}} stack+{:#x}", slot - pointer);
        assert_eq!(in_frame, holds);
        for (index, register) in ["r15", "r14", "r13", "r12", "rbx", "rbp"].iter().enumerate() {
            assert_eq!(name(pointer + index * WORD), format!("task {id} \"holder\" register {register}"));
        }
        // The return address into who called.
        assert_eq!(name(pointer + 6 * WORD), format!("task {id} \"holder\" stack+0x30"));
        // One with a higher number, which is not to be taken for it.
        let later = task::spawn("later", Priority::Normal, || while GO.load(Ordering::Acquire) != 3 { task::yield_now(); });
        let_go(holder);
        assert_eq!(name_in(root, slot), format!("task {id} stack+{:#x}", slot - pointer));
        assert_eq!(name_in(root, pointer), format!("task {id} stack+0x0"));
        GO.store(3, Ordering::Release);
        later.expect("memory for a task").join();
    }
}

/// Where the stack of the task that checks and of one that runs meanwhile began, in a stopped world.
static STARTS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

guest_test! {
    /// In a stopped world the stacks of the tasks that run begin with the same registers; while other code runs their
    /// place is not known.
    fn words_of_a_running_tasks_stack() smp [1, 2] {
        let spin = || while GO.load(Ordering::Acquire) != 2 {};
        let spinner = task::spawn("spinner", Priority::Normal, spin).expect("memory for a task");
        // Two CPUs: until it has one.
        while running() > 1 && spinner.task().state() != State::Running {
            task::yield_now();
        }
        let tasks = [task::current().id(), spinner.task().id()];
        stop::stop_world(&|cpu| {
            if cpu.initiator {
                for (start, id) in STARTS.iter().zip(tasks) {
                    start.store(stack_root(id).map_or(0, |root| root.start), Ordering::Release);
                }
            }
        })
        .expect("it stops");
        for ((start, id), comm) in STARTS.iter().zip(tasks).zip(["init", "spinner"]) {
            let start = start.load(Ordering::Acquire);
            let stopped = Root { kind: RootKind::Stack(id), start, len: 8 * WORD };
            assert_eq!(name_in(stopped, start + 4 * WORD), format!("task {id} {comm:?} register rbx"));
            assert_eq!(name_in(stopped, start + 6 * WORD), format!("task {id} {comm:?} stack+0x30"));
        }
        let whole = stack_root(tasks[0]).expect("ours");
        assert_eq!(whole.start, task::current().stack().start);
        assert_eq!(name_in(whole, whole.start), format!("task {} \"init\" stack+0x0", tasks[0]));
        GO.store(2, Ordering::Release);
        spinner.join();
    }
}

/// What each register holds below.
fn marked(register: &str) -> usize {
    match register {
        "r15" => 0x1515,
        "r14" => 0x1414,
        "r13" => 0x1313,
        "r12" => 0x1212,
        "rbx" => 0x0b0b,
        "rbp" => 0x0bb0,
        _ => panic!("{register} is not kept by a function"),
    }
}

/// Calls `call` with `first` and `second`, each register that it keeps holding its mark.
#[unsafe(naked)]
extern "C" fn call_with_marked_registers(first: *mut usize, second: usize, call: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov r15d, 0x1515",
        "mov r14d, 0x1414",
        "mov r13d, 0x1313",
        "mov r12d, 0x1212",
        "mov ebx, 0x0b0b",
        "mov ebp, 0x0bb0",
        "call rdx",
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

/// The stack pointer that was saved, and what lay there.
static SAVED: AtomicUsize = AtomicUsize::new(0);
static PUSHED: [AtomicUsize; 6] = [const { AtomicUsize::new(0) }; 6];

fn look_at_pushed(stack_pointer: usize) {
    for (index, word) in PUSHED.iter().enumerate() {
        let pushed = ptr::with_exposed_provenance::<usize>(stack_pointer + index * WORD);
        // SAFETY: a word of a stack in use, at or above its stack pointer.
        word.store(unsafe { pushed.read_volatile() }, Ordering::Relaxed);
    }
}

/// Switches to `next`, a stack pointer, and saves this one in `save`.
#[unsafe(naked)]
unsafe extern "C" fn switch(save: *mut usize, next: u64) {
    extern "C" fn choose(save: usize, next: u64) -> Next {
        Next {
            save: ptr::with_exposed_provenance_mut(save),
            stack_pointer: next as usize,
        }
    }
    extern "C" fn finish() {}

    naked_asm!(
        "mov rdx, offset {choose}",
        "mov rcx, offset {finish}",
        "jmp {switch}",
        choose = sym choose,
        finish = sym finish,
        switch = sym context::switch,
    )
}

guest_test! {
    /// A switch pushes the registers in the order in which they are named.
    fn a_switch_pushes_what_is_named() smp [1] {
        extern "C" fn other_side() -> ! {
            look_at_pushed(SAVED.load(Ordering::Relaxed));
            let mut never_used = 0;
            // SAFETY: saved by the switch that led here, and used once; interrupts are off.
            unsafe { switch(&raw mut never_used, SAVED.load(Ordering::Relaxed) as u64) };
            unreachable!("nobody switches back here");
        }
        let stack = vmalloc::vmalloc(0x4000, vmalloc::Kind::Data).expect("memory");
        let top = stack.as_ptr().expose_provenance() + 0x4000;
        // SAFETY: the end of a block that nobody uses.
        let next = unsafe { context::prepare(top, other_side) };
        let quiet = IrqGuard::new();
        let switch = switch as unsafe extern "C" fn(*mut usize, u64) as usize;
        call_with_marked_registers(SAVED.as_ptr(), next, switch);
        drop(quiet);
        for (register, word) in context::PUSHED.iter().zip(&PUSHED) {
            assert_eq!(word.load(Ordering::Relaxed), marked(register), "{register}");
        }
        vmalloc::vfree(stack.as_ptr());
    }
}

guest_test! {
    /// A CPU that joins a stopped world pushes the registers in the order in which they are named, as does the task that checks.
    fn a_stop_pushes_what_is_named() smp [1] {
        extern "C" fn push(_: *mut usize, _: usize) {
            context::with_registers_pushed(&mut look_at_pushed);
        }
        call_with_marked_registers(ptr::null_mut(), 0, push as extern "C" fn(_, _) as usize);
        // The two others are the compiler's, on the way there.
        for (register, word) in context::PUSHED.iter().zip(&PUSHED).take(4) {
            assert_eq!(word.load(Ordering::Relaxed), marked(register), "{register}");
        }
    }
}

/// Where this call returns to.
#[inline(never)]
fn return_address() -> usize {
    let above = backtrace::frame_pointer() + WORD;
    // SAFETY: the return address lies above the caller's frame pointer.
    unsafe { ptr::with_exposed_provenance::<usize>(above).read_volatile() }
}

#[inline(always)]
fn inlined() -> usize {
    // By way of a function of core, which is inlined as well.
    Some(1).map_or(0, |one| return_address() + one) - 1
}

#[inline(never)]
fn outer() -> usize {
    black_box(inlined())
}

fn functions(address: usize) -> String {
    let mut text = String::new();
    KernelPlatform
        .functions(address, &mut text)
        .expect("a string takes it");
    text
}

guest_test! {
    /// A return address leads into a function and those inlined there, the library's left out: bare names.
    fn functions_of_a_return_address() smp [1, 2] {
        let address = outer();
        let expected = "guest::names::outer\nguest::names::inlined\nguest::names::inlined::{{closure}}";
        assert_eq!(functions(address), expected);
        let mut symbol = String::new();
        KernelPlatform.symbol(address, &mut symbol).expect("a string takes it");
        let mut lines = symbol.lines();
        let [Some(closure), Some(inlined), Some(own), None] = [(); 4].map(|()| lines.next()) else {
            panic!("{symbol}");
        };
        assert!(closure.starts_with("guest::names::inlined::{{closure}} (qemu-tests/guest/src/names.rs:"), "{symbol}");
        assert!(inlined.starts_with("guest::names::inlined (qemu-tests/guest/src/names.rs:"), "{symbol}");
        assert!(own.starts_with("guest::names::outer+0x"), "{symbol}");
        assert!(own.contains(" (qemu-tests/guest/src/names.rs:"), "{symbol}");
        assert_eq!(functions(8), "0x0000000000000008");
    }
}

guest_test! {
    /// While the machine is being ended no code waits for the debug information: names come from the symbol table alone.
    fn functions_while_ending() smp [1, 2] fails "[guest::names::outer]" {
        /// Panics under the lock over the debug information.
        struct Panics(usize);
        /// Asks again, when the panic is told.
        struct AsksAgain(usize);
        impl fmt::Write for Panics {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                assert!(!text.contains("inlined"), "[{}]", AsksAgain(self.0));
                Ok(())
            }
        }
        impl fmt::Display for AsksAgain {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                KernelPlatform.functions(self.0, f)
            }
        }
        let address = outer();
        let _ = KernelPlatform.functions(address, &mut Panics(address));
    }
}
