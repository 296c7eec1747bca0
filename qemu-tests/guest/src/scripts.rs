//! Leak scripts, run against the detector that watches over this kernel.
//!
//! QEMU hands their texts over in one file: for each its length, 4 bytes, little-endian, and the text. The lines that
//! are printed are the runner's interface (`kmemleak/leak-script/src/qemu.rs` reads them), the first script being 0:
//!
//! ```text
//! leak-script 0 begins
//! leak-script 0 ok
//! leak-script 1 begins
//! leak-script 1 skipped
//! leak-script 2 begins
//! leak-script 2 FAILED line 7: expected leaks A, got none
//! ```
//!
//! In the text of a failure each control character, and `%`, is written as `%` and two hexadecimal digits.
//!
//! Each script is run twice: its checks stop the world, and then they [freeze memory](kernel::mm::frozen).
//!
//! A script that turns the detector off is the last one of its machine, for `off` is final: the machine ends with success.
//!
//! # What nothing may keep alive
//!
//! The interpreter runs as the *player* of [`kernel::scripted`]: neither its stack nor its heap is scanned. Its
//! task's stack is no object, either, and what its task is started with is in a static, as nothing would
//! point to it if it were an object.
//!
//! The blocks of a script are memory that others had before, and a task that waits has frames with slots that have not
//! been written to since. A stale address there, of a block that was freed long ago, may be that of a script's block. So no
//! task waits for the player: the task that starts it ends, and its stack is gone. The player begins only then, when all
//! other tasks sleep, which clear the memory of their next frames before. (Idle CPUs have given up their start's frames.)

use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::arch::exit::{ExitCode, exit};
use kernel::arch::percpu::running;
use kernel::leak::{self, KMEMLEAK, player};
use kernel::mm::{PAGE, buddy, percpu, vmalloc};
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::{self, State, TaskId, scheduler};
use kernel::{println, scripted};
use leak_script::{Allocator, Checks, Failure, Only, Script};

use crate::firmware;
use crate::guest_test;
use crate::script_machine::KernelMachine;

/// The file that QEMU hands over.
const FILE: &str = "opt/leak-scripts";

/// Bytes of the interpreter's stack.
const STACK_LEN: usize = 256 * 1024;

/// Starts a task that runs them and ends the machine. It waits for this task to end.
pub fn start() {
    let stack = scripted::play(|| vmalloc::vmalloc(STACK_LEN, vmalloc::Kind::Stack));
    let start = stack.expect("memory for a stack").addr().get();
    *MACHINE.lock() = Some(KernelMachine::new());
    STARTER.store(task::current().id(), Ordering::Relaxed);
    // SAFETY: fresh memory, page-aligned; the task ends the machine.
    let player = unsafe { scripted::spawn_apart("scripts", start..start + STACK_LEN, play) };
    player.expect("memory for a task");
}

/// The task that has started the player.
static STARTER: AtomicU32 = AtomicU32::new(TaskId::MAX);

/// What the player is to begin with. Its task's closure captures nothing: it would be an object that nothing points to.
static MACHINE: SpinLock<Option<KernelMachine>, LocalIrqDisabled> = SpinLock::new(None);

fn play() {
    while !is_alone() {
        task::yield_now();
    }
    let machine = MACHINE.lock().take().expect("made before");
    scripted::play(|| run_all(machine));
}

/// Whether the task that has started this one is gone, and all others wait, but those of CPUs that idle.
fn is_alone() -> bool {
    let player = task::current().id();
    let mut next = 0;
    while let Some((id, state, is_idle)) = scheduler::find_task(next, |task| {
        let is_idle = task.comm().as_str().starts_with("idle/");
        (task.id(), task.state(), is_idle)
    }) {
        let waits = is_idle || id == player || state == State::Blocked;
        if !waits || id == STARTER.load(Ordering::Relaxed) {
            return false;
        }
        next = id + 1;
    }
    true
}

fn run_all(mut machine: KernelMachine) {
    // Warnings are the scripts' from now on.
    let _warnings = leak::hold_warnings();
    let parcel = firmware::read(FILE).expect("QEMU is told of the scripts");
    for (index, text) in texts(&parcel).into_iter().enumerate() {
        println!("leak-script {index} begins");
        println!("leak-script {index} {}", run_both_ways(text, &mut machine));
        if !KMEMLEAK.is_on() {
            break;
        }
    }
    exit(ExitCode::Success)
}

/// The texts that were packed together.
fn texts(mut parcel: &[u8]) -> Vec<&str> {
    let mut texts = Vec::new();
    while let Some((len, rest)) = parcel.split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        let (text, rest) = rest
            .split_at_checked(len)
            .expect("all of the text is there");
        texts.push(core::str::from_utf8(text).expect("the runner sends text"));
        parcel = rest;
    }
    texts
}

/// What became of a script.
enum Outcome {
    Passed,
    Skipped,
    Failed(Failure),
}

/// Runs a script with checks in a stopped world, and then, unless it has failed or is the last one, with checks of frozen memory.
fn run_both_ways(text: &str, machine: &mut KernelMachine) -> Outcome {
    machine.checks = Checks::Stopped;
    let outcome = run_one(text, machine);
    if !KMEMLEAK.is_on() || !matches!(outcome, Outcome::Passed) {
        return outcome;
    }
    machine.checks = Checks::Frozen;
    run_one(text, machine)
}

fn run_one(text: &str, machine: &mut KernelMachine) -> Outcome {
    let script = match Script::parse(text) {
        Ok(script) => script,
        Err(failure) => return Outcome::Failed(failure),
    };
    if script.only == Some(Only::Host) || script.cpus > running() {
        return Outcome::Skipped;
    }
    machine.begin();
    let result = leak_script::run(&script, machine, &KMEMLEAK);
    machine.end();
    leak_script::reset(&script, machine, &KMEMLEAK);
    match result {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Failed(failure),
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("ok"),
            Self::Skipped => f.write_str("skipped"),
            Self::Failed(failure) => write!(f, "FAILED {}", OneLine(failure)),
        }
    }
}

/// Text without control characters.
struct OneLine<T>(T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'f, 'a>(&'f mut Formatter<'a>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '\0'..' ' | '%' | '\x7f' => write!(self.0, "%{:02x}", u32::from(char))?,
                _ => self.0.write_char(char)?,
            }
        }
        Ok(())
    }
}

guest_test! {
    /// The kernel's blocks are aligned as those of any machine that scripts run on: no less, and not much more (those of 16 bytes lie 32 apart).
    fn blocks_are_aligned_as_scripts_expect() smp [1] {
        let sizes = [8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192];
        let and_less = sizes.iter().flat_map(|size| [size - 7, *size]);
        for size in and_less.clone() {
            let align = leak_script::alignment(Allocator::Slab, size, 8).expect("a slab's");
            let blocks: Vec<_> = (0..64).map(|_| Vec::<u8>::with_capacity(size)).collect();
            let are_multiples = |of| blocks.iter().all(|block| block.as_ptr().addr().is_multiple_of(of));
            assert!(are_multiples(align), "{size}");
            assert!(!are_multiples(4 * align), "{size}");
        }
        assert_eq!(leak_script::alignment(Allocator::Percpu, percpu::UNIT + 1, 8), None);
        assert!(leak_script::alignment(Allocator::Percpu, percpu::UNIT, 8).is_some());
        let largest = PAGE << buddy::MAX_ORDER;
        assert_eq!(leak_script::alignment(Allocator::Pages, largest, 8), Some(largest));
        assert_eq!(leak_script::alignment(Allocator::Pages, 2 * largest, 8), None);
    }
}

guest_test! {
    /// What the player had the detector see holds no longer than the play, whether the player took it back or not.
    fn nothing_holds_after_the_play() smp [1] {
        scripted::play(|| {
            scripted::begin();
            scripted::call_from("a site");
            scripted::refuse_metadata(true);
            assert!(player::clock_us().is_some());
            assert!(player::call_site().is_some());
            assert!(player::metadata_is_refused());
        });
        assert_eq!(player::clock_us(), None);
        assert_eq!(player::call_site(), None);
        assert!(!player::metadata_is_refused());
    }
}
