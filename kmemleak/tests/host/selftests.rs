//! The self-test: what it says where it can and can't be done, and that it leaves nothing behind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{
    AllocOptions, BootstrapPool, Detector, IrqState, METADATA_PAGE, Platform, Root, RootCursor,
    RootKind, StopError, StoppedCpu, Tracked,
};
use kmemleak_emulated::{Emulated, Machine, Stop};

use crate::lab::{Lab, answer, try_to};

const PASSED: &str = "kmemleak: selftest passed: a planted leak and what it owned were found, and nothing is left of them\n";

/// What is left when it is over must be what was before.
fn unchanged(lab: &Lab) -> String {
    let figures = |lab: &Lab| {
        let unrecorded = lab.status("unrecorded");
        (
            lab.detector.tracking(),
            lab.warnings(),
            unrecorded,
            lab.detector.metadata().objects,
        )
    };
    let before = figures(lab);
    let answer = lab.say("selftest");
    assert_eq!(figures(lab), before);
    answer
}

#[test]
fn passes_again_and_again() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        // The first one makes the tables that later ones use.
        assert_eq!(lab.say("selftest"), PASSED);
        let pages = lab.machine.metadata_pages();
        for _ in 0..20 {
            assert_eq!(unchanged(&lab), PASSED);
        }
        assert_eq!(lab.machine.metadata_pages(), pages);
        assert_eq!(lab.leaks(), []);
    }
}

/// A kernel that has what every kernel must have.
struct Least;

// SAFETY: no roots; no interrupts, and one thread.
unsafe impl Platform for Least {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }
}

#[test]
fn passes_where_a_tracked_allocator_alone_vouches_for_blocks_and_goes_on_to() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Least> = Detector::new(Least).with_pool(&POOL);
    static HEAP: Tracked<System, Least> = Tracked::new(System, &DETECTOR);
    let layout = Layout::new::<[u64; 8]>();
    // SAFETY: the layout is not of size zero.
    let lost = unsafe { HEAP.alloc_zeroed(layout) };
    let mut answer = String::new();
    DETECTOR.command("selftest", &mut answer).expect("text");
    assert_eq!(answer, PASSED);
    let summary = DETECTOR.check().expect("on");
    assert_eq!((summary.objects, summary.doubt()), (1, None));
    // SAFETY: it came from there, with this layout.
    unsafe { HEAP.dealloc(lost, layout) };
}

#[test]
fn passes_beside_leaks_which_stay_new() {
    let lab = Lab::new();
    let (lost, held) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    assert_eq!(lab.say("selftest"), PASSED);
    assert_eq!(lab.listed(), [lost], "its check is one as any other");
    assert_eq!(lab.detector.check().expect("on").unreported_objects, 1);
}

#[test]
fn passes_with_the_bootstrap_pool_alone_and_without_it() {
    let lab = Lab::new();
    lab.machine.set_metadata_budget(0);
    assert_eq!(lab.say("selftest"), PASSED);
    let machine = Machine::new();
    let detector: Detector<_> = Detector::new(Emulated::of(&machine));
    let mut answer = String::new();
    detector.command("selftest", &mut answer).expect("text");
    assert_eq!(answer, PASSED);
}

#[test]
fn passes_with_any_memory_or_says_that_there_is_too_little() {
    let mut seen = [false; 2];
    for pages in 0..24 {
        let machine = Machine::new();
        machine.set_metadata_budget(pages);
        let detector: Detector<_> = Detector::new(Emulated::of(&machine));
        let (done, answer) = try_to(&detector, "selftest");
        let short = answer == "kmemleak: selftest not done: no memory for the planted blocks\n";
        assert!(short || answer == PASSED, "{pages}: {answer}");
        assert_eq!(done.is_err(), short, "{pages}");
        seen[usize::from(short)] = true;
        assert_eq!(detector.tracking().objects, 0);
        let mut status = String::new();
        detector.command("status", &mut status).expect("text");
        assert!(status.contains("\nunrecorded   0 (ever: 0)\n"), "{status}");
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn without_memory_it_says_so() {
    let lab = Lab::new();
    lab.block(64);
    lab.detector.exhaust_metadata(true);
    assert_eq!(
        unchanged(&lab),
        "kmemleak: selftest not done: no memory for the planted blocks\n"
    );
}

#[test]
fn where_what_it_plants_is_no_leak_it_says_so() {
    let lab = Lab::new();
    lab.detector.disabled_begin();
    assert_eq!(
        unchanged(&lab),
        "kmemleak: selftest not done: what this task allocates is no leak\n"
    );
    lab.detector.disabled_end();
    lab.detector.suppress("*").expect("room");
    lab.machine.call_from(&["command"]);
    assert_eq!(lab.leaks(), []);
    assert_eq!(
        unchanged(&lab),
        "kmemleak: selftest not done: a suppression hides what it plants\n"
    );
    lab.detector.unsuppress_all().expect("asked from outside");
    assert_eq!(unchanged(&lab), PASSED);
}

#[test]
fn a_root_over_all_of_memory_fails_it() {
    let lab = Lab::new();
    lab.machine.set_metadata_budget(usize::MAX);
    // All metadata that comes from now on is in the platform's pages: whoever makes them a root keeps leaks alive.
    lab.say("selftest");
    let lost = lab.block(64);
    let start = core::ptr::from_ref(&*lab.detector).addr();
    lab.machine.add_root(start, 64);
    assert_eq!(lab.leaks(), [lost]);
    assert_eq!(
        lab.say("selftest"),
        PASSED,
        "its own memory is left out of roots"
    );
}

#[test]
fn when_off() {
    let lab = Lab::new();
    lab.say("off");
    assert_eq!(
        lab.say("selftest"),
        "kmemleak: off, and can't be switched on again\n"
    );
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    lab.machine.ask_to_stop();
    assert_eq!(lab.say("selftest"), "kmemleak: asked to stop\n");
    assert_eq!(lab.tracked(), 0);
}

#[test]
fn beside_blocks_that_are_black_or_gray() {
    let lab = Lab::new();
    for min_count in [-1, 0, 2] {
        lab.block_with(64, AllocOptions::new().min_count(min_count));
    }
    assert_eq!(lab.say("selftest"), PASSED);
}

/// A kernel that has a root with the addresses of all its metadata, so that nothing that is planted there seems lost.
struct Retaining {
    /// Addresses, 64 bytes apart.
    addresses: Box<[AtomicUsize]>,
    used: AtomicUsize,
    kind: RootKind,
    /// In how many checks that is a root.
    checks: usize,
    stops: AtomicUsize,
}

impl Retaining {
    fn new(kind: RootKind, checks: usize) -> Self {
        Self {
            addresses: (0..1 << 14).map(|_| AtomicUsize::new(0)).collect(),
            used: AtomicUsize::new(0),
            kind,
            checks,
            stops: AtomicUsize::new(0),
        }
    }
}

#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "the detector's")] [u8; METADATA_PAGE]);

// SAFETY: the root is a box of the platform's, pages stay for good; no interrupts, one thread.
unsafe impl Platform for Retaining {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        let is_root = self.stops.load(Ordering::Relaxed) <= self.checks && cursor.index == 1;
        is_root.then(|| Root {
            kind: self.kind,
            start: self.addresses.as_ptr().expose_provenance(),
            len: size_of_val(&*self.addresses),
        })
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        let page = NonNull::from(Box::leak(Box::new(Page([0; METADATA_PAGE]))));
        let start = page.expose_provenance().get();
        for address in (start..start + METADATA_PAGE).step_by(64) {
            let next = self.used.fetch_add(1, Ordering::Relaxed);
            self.addresses.get(next)?.store(address, Ordering::Relaxed);
        }
        Some(page.cast())
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        self.stops.fetch_add(1, Ordering::Relaxed);
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        Ok(())
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        true
    }
}

fn failed(kind: RootKind, checks: usize) -> String {
    let detector: Detector<_> = Detector::new(Retaining::new(kind, checks));
    let answer = answer(&detector, "selftest");
    let first = "kmemleak: selftest FAILED: 0 of 4 planted blocks were reported, not 2\n";
    let rest = answer.strip_prefix(first);
    rest.unwrap_or_else(|| panic!("{answer}")).into()
}

#[test]
fn which_word_held_what_was_planted_and_what_to_do() {
    for (kind, name, remedy) in [
        (
            RootKind::Section,
            ": section 0x",
            "leave that out of Platform::next_root",
        ),
        (
            RootKind::Stack(0),
            ": task 0 stack+0x",
            "implement Platform::on_unscanned_stack",
        ),
        (
            RootKind::Stack(7),
            ": task 7 stack+0x",
            "another task's stack",
        ),
    ] {
        let told = failed(kind, usize::MAX);
        let [held, word, advice] = told.lines().collect::<Vec<_>>()[..] else {
            panic!("{told}")
        };
        assert_eq!(held, "kmemleak: a planted leak is held by this word:");
        assert!(word.contains(name), "{told}");
        assert!(advice.contains(remedy), "{told}");
    }
}

#[test]
fn when_the_word_is_gone_it_was_the_checks_own() {
    let told = failed(RootKind::Section, 1);
    assert!(
        told.starts_with("kmemleak: nothing holds them any more"),
        "{told}"
    );
    assert!(
        told.ends_with("implement Platform::on_unscanned_stack\n"),
        "{told}"
    );
}
