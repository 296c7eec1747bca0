//! Each kind of root keeps a block alive, and stops doing so; what is no root never does.

use alloc::boxed::Box;
use core::arch::asm;
use core::hint::black_box;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kernel::arch::percpu::running;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::frame::{self, Owner};
use kernel::mm::{percpu as dynamic_percpu, vmalloc};
use kernel::percpu;
use kernel::task::{self, JoinHandle, Priority, State};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check, plant, secret_of, uproot};

/// The block is not reported; after `clear` it is; after it is freed it is not.
fn alive_until(block: Secret, clear: impl FnOnce()) {
    assert_eq!(check(), [], "while it is pointed to");
    clear();
    assert_eq!(check(), [block], "when nothing points to it any more");
    // SAFETY: planted above, and given back once.
    unsafe { uproot(block) };
    assert_eq!(check(), [], "when it has been freed");
}

static IN_DATA: AtomicUsize = AtomicUsize::new(1);
static IN_BSS: AtomicUsize = AtomicUsize::new(0);

guest_test! {
    /// A variable with an initial value keeps a block alive.
    fn data() smp [1, 2] {
        let block = plant(|address| IN_DATA.store(address, Ordering::Release));
        alive_until(block, || IN_DATA.store(1, Ordering::Release));
    }
}

guest_test! {
    /// A variable that starts as zero keeps a block alive.
    fn bss() smp [1, 2] {
        let block = plant(|address| IN_BSS.store(address, Ordering::Release));
        alive_until(block, || IN_BSS.store(0, Ordering::Release));
    }
}

/// Variables in sections that only the source names.
#[unsafe(link_section = ".data.ro_after_init")]
static IN_OWN_DATA: AtomicUsize = AtomicUsize::new(1);
#[unsafe(link_section = ".bss.own")]
static IN_OWN_BSS: AtomicUsize = AtomicUsize::new(0);

guest_test! {
    /// A variable in a section that the source names keeps a block alive, if the linker script's patterns cover it.
    fn sections_of_ones_own() smp [1] {
        for variable in [&IN_OWN_DATA, &IN_OWN_BSS] {
            let block = plant(|address| variable.store(address, Ordering::Release));
            alive_until(block, || variable.store(0, Ordering::Release));
        }
    }
}

percpu! {
    static PER_CPU: AtomicUsize = AtomicUsize::new(0);
}

guest_test! {
    /// Each CPU's copy of a static per-CPU variable keeps a block alive.
    fn static_percpu() smp [1, 2, 4] {
        for cpu in 0..running() {
            let block = plant(move |address| PER_CPU.on(cpu).store(address, Ordering::Release));
            alive_until(block, || PER_CPU.on(cpu).store(0, Ordering::Release));
        }
    }
}

guest_test! {
    /// Each CPU's copy of a dynamic per-CPU block keeps a block alive, if its handle or any copy is itself pointed to.
    fn dynamic_percpu_blocks() smp [1, 2, 4] {
        for holder in 0..running() {
            let handle = secret_of(|| dynamic_percpu::alloc_percpu(16, 8).expect("memory"));
            for cpu in 0..running() {
                apart(move || IN_BSS.store(dynamic_percpu::percpu_copy(handle.show(), holder), Ordering::Release));
                let word = move || {
                    let copy = dynamic_percpu::percpu_copy(handle.show(), cpu);
                    // SAFETY: a word of the block, which all code here uses as an atomic.
                    unsafe { AtomicUsize::from_ptr(ptr::with_exposed_provenance_mut(copy)) }
                };
                let block = plant(move |address| word().store(address, Ordering::Release));
                alive_until(block, || apart(move || word().store(0, Ordering::Release)));
            }
            IN_BSS.store(0, Ordering::Release);
            assert_eq!(check(), [handle], "a per-CPU block that nothing points to");
            apart(move || dynamic_percpu::free_percpu(handle.show()));
            assert_eq!(check(), []);
        }
    }
}

guest_test! {
    /// The descriptor of a page frame in use keeps a block alive until it is cleared, or the frame is given back.
    fn frame_descriptors() smp [1, 2] {
        let page = buddy::alloc(0, Tracking::Untracked).expect("memory");
        let frame = frame::frame_of(page.addr().get()).expect("a descriptor");
        let block = plant(move |address| frame.set_owner(Owner::User(address)));
        alive_until(block, || frame.set_owner(Owner::User(0)));
        let block = plant(move |address| frame.set_owner(Owner::User(address)));
        alive_until(block, || buddy::free(page, 0, Tracking::Untracked));
    }
}

/// Tells a waiting task to go on.
static GO: AtomicU32 = AtomicU32::new(0);

/// Runs `hold` in a task until it is told to go on.
fn held_by(hold: impl FnOnce() + Send + 'static) -> JoinHandle {
    GO.store(0, Ordering::Release);
    let holder = task::spawn("holder", Priority::Normal, hold).expect("memory for a task");
    // Until it holds it.
    while GO.load(Ordering::Acquire) == 0 {
        task::yield_now();
    }
    holder
}

fn let_go(holder: JoinHandle) {
    GO.store(2, Ordering::Release);
    task::unpark(holder.task());
    holder.join();
}

extern "C" fn park_until_told() {
    GO.store(1, Ordering::Release);
    while GO.load(Ordering::Acquire) != 2 {
        task::park();
    }
}

guest_test! {
    /// The live part of a waiting task's stack keeps a block alive.
    fn stack_of_a_waiting_task() smp [1, 2, 4] {
        let block = plant(|_| ());
        let holder = held_by(move || {
            let slot = black_box([block.show(), 1, 2]);
            park_until_told();
            black_box(slot);
        });
        alive_until(block, || let_go(holder));
    }
}

guest_test! {
    /// A register of a waiting task, saved where it gave up its CPU, keeps a block alive.
    fn register_of_a_waiting_task() smp [1, 2, 4] {
        let block = plant(|_| ());
        let holder = held_by(move || {
            // SAFETY: calls a function of the C calling convention, which keeps r12.
            unsafe {
                asm!(
                    "mov r12, {inverted}",
                    "not r12",
                    "call {park}",
                    "xor r12d, r12d",
                    inverted = in(reg) block.inverted(),
                    park = sym park_until_told,
                    out("r12") _,
                    clobber_abi("C"),
                );
            }
        });
        alive_until(block, || let_go(holder));
    }
}

guest_test! {
    /// A register of a task that runs (with one CPU: that was running when it was interrupted), which no call
    /// would keep, keeps a block alive.
    fn register_of_a_running_task() smp [1, 2, 4] {
        let block = plant(|_| ());
        let holder = held_by(move || {
            // SAFETY: says that the register has it, and spins until the word is 2.
            unsafe {
                asm!(
                    "mov rcx, {inverted}",
                    "not rcx",
                    "mov dword ptr [{go}], 1",
                    "2:",
                    "pause",
                    "cmp dword ptr [{go}], 2",
                    "jne 2b",
                    "xor ecx, ecx",
                    inverted = in(reg) block.inverted(),
                    go = in(reg) GO.as_ptr(),
                    out("rcx") _,
                    options(nostack),
                );
            }
        });
        alive_until(block, || let_go(holder));
    }
}

guest_test! {
    /// The stack of the task that checks keeps a block alive.
    fn stack_of_the_checking_task() smp [1, 2] {
        let block = plant(|_| ());
        let mut slot = black_box([block.show()]);
        assert_eq!(check(), []);
        black_box(&mut slot)[0] = 0;
        black_box(&slot);
        assert_eq!(check(), [block]);
    }
}

guest_test! {
    /// Objects that are reached keep a block alive by a pointer in their middle: of slabs, of whole pages, of vmalloc.
    fn objects() smp [1, 2] {
        let pages = secret_of(|| buddy::alloc(1, Tracking::Tracked).expect("memory").addr().get());
        let virt = secret_of(|| vmalloc::vmalloc(8192, vmalloc::Kind::Data).expect("memory").addr().get());
        let slab = secret_of(|| Box::into_raw(Box::new([0_usize; 8])).addr());
        apart(move || {
            IN_BSS.store(pages.show() + 24, Ordering::Release);
            // SAFETY: a word of a block of this test.
            unsafe { store(pages.show() + 4096, virt.show() + 8191) };
            // SAFETY: a word of a block of this test.
            unsafe { store(virt.show() + 4096, slab.show()) };
        });
        let block = plant(move |address| {
            // SAFETY: a word of a block of this test.
            unsafe { store(slab.show() + 32, address + 63) }
        });
        alive_until(block, || apart(move || {
            // SAFETY: as above.
            unsafe { store(slab.show() + 32, 0) }
        }));
        IN_BSS.store(0, Ordering::Release);
        let mut all = check();
        all.sort_unstable();
        let mut expected = [pages, virt, slab];
        expected.sort_unstable();
        assert_eq!(all, expected, "cut off at the root, all of the chain is unreferenced");
    }
}

/// Stores a word into a block.
///
/// # Safety
///
/// The test has made the block, and nobody else uses it.
unsafe fn store(address: usize, word: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance_mut::<usize>(address).write_volatile(word) };
}

guest_test! {
    /// Not a root: the part of a waiting task's stack below its stack pointer.
    fn dead_stack_keeps_nothing_alive() smp [1, 2] {
        #[inline(never)]
        fn deep(address: usize, depth: usize) -> usize {
            let frame = black_box([address; 64]);
            if depth == 0 { frame[5] } else { deep(address, depth - 1) ^ frame[7] }
        }
        /// Leaves nothing in the registers that calls keep, and nothing where the next calls' frames will be:
        /// they need not write to all of their slots.
        #[inline(never)]
        fn leave_traces(block: Secret) {
            let apart = black_box([0_u8; 4096]);
            black_box(deep(block.show(), 20));
            black_box(apart);
        }
        let block = plant(|_| ());
        let holder = held_by(move || {
            leave_traces(block);
            park_until_told();
        });
        // As long as it runs, a register that no call keeps may have the address still.
        while holder.task().state() != State::Blocked {
            task::yield_now();
        }
        assert_eq!(check(), [block]);
        let_go(holder);
        // SAFETY: planted above, and given back once.
        unsafe { uproot(block) };
        assert_eq!(check(), []);
    }
}

guest_test! {
    /// Not a root: a block that has been freed, whatever it still holds.
    fn freed_blocks_keep_nothing_alive() smp [1, 2] {
        let holder = plant(|address| IN_BSS.store(address, Ordering::Release));
        let block = plant(move |address| {
            // SAFETY: a word of a block of this test.
            unsafe { store(holder.show() + 8, address) }
        });
        assert_eq!(check(), []);
        // SAFETY: planted above, and given back once.
        unsafe { uproot(holder) };
        assert_eq!(check(), [block], "the freed block is pointed to, and points to it");
        IN_BSS.store(0, Ordering::Release);
    }
}

guest_test! {
    /// Task stacks are no roots after `stack=off`.
    fn stacks_can_be_left_out() smp [1] {
        use kernel::leak::KMEMLEAK;
        let block = plant(|_| ());
        let holder = held_by(move || {
            let slot = black_box([block.show(), 1, 2]);
            park_until_told();
            black_box(slot);
        });
        assert_eq!(check(), []);
        let mut answer = alloc::string::String::new();
        KMEMLEAK.command("stack=off", &mut answer).expect("a string takes it");
        assert!(check().contains(&block));
        KMEMLEAK.command("stack=on", &mut answer).expect("a string takes it");
        assert_eq!(check(), []);
        let_go(holder);
    }
}
