//! Who asks while somebody has the claim: another task waits, and lets others run meanwhile; who would wait for itself is
//! refused.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kmemleak::{CommandError, Format, NoAnswer, NotDone, ParameterError, SuppressError, Which};
use kmemleak_emulated::{Place, Stop};

use crate::lab::{Lab, Subject};

const NESTED: &str = "asked from inside another answer";

/// Asks for everything that takes the claim, and sees it refused.
fn is_refused(detector: &Subject) {
    let refused = Err(NotDone::Nested);
    assert_eq!(detector.check(), Err(NotDone::Nested));
    assert_eq!(detector.scan(), Err(NotDone::Nested));
    assert_eq!(detector.mark(), refused);
    assert_eq!(detector.unmark(), refused);
    assert_eq!(detector.for_each_unreferenced(&mut |_| ()), refused);
    assert_eq!(detector.for_each_suppressed(&mut |_| ()), refused);
    assert_eq!(detector.for_each_interior(&mut |_| ()), refused);
    assert_eq!(detector.for_each_new(&mut |_| ()), refused);
    assert_eq!(detector.for_each_group(&mut |_, _| ()), refused);
    assert_eq!(
        detector.for_each_site(kmemleak::SiteOrder::Bytes, &mut |_| ()),
        refused
    );
    let all = kmemleak::ObjectFilter::ALL;
    let live = detector.for_each_object(&all, &mut |_| ());
    assert_eq!(live, Err(NotDone::Nested));
    assert_eq!(detector.for_each_suppression(&mut |_| ()), refused);
    assert_eq!(detector.unsuppress("x"), Err(NotDone::Nested));
    assert_eq!(detector.unsuppress_all(), refused);
    assert_eq!(detector.suppress("x"), Err(SuppressError::Nested));
    let address = detector as *const Subject as usize;
    assert_eq!(
        detector.holders(address, &mut |_| ()),
        Err(NoAnswer::Nested)
    );
    assert_eq!(detector.path(address, &mut |_| ()), Err(NoAnswer::Nested));
    assert_eq!(
        detector.boot_parameter("kmemleak=off"),
        Err(ParameterError::Nested)
    );
    let leaked = detector.scope().finish().expect_err("it can't tell");
    assert!(leaked.to_string().contains(NESTED), "{leaked}");
    for command in [
        "scan",
        "report",
        "clear",
        "mark",
        "new",
        "sites",
        "site 1",
        "objects",
        "interior",
        "stack-only",
        "holders 10",
        "path 10",
        "suppress",
        "suppress x",
        "unsuppress x",
        "selftest",
        "off",
    ] {
        let mut answer = String::new();
        let done = detector.command(command, &mut answer);
        assert_eq!(done, Err(CommandError::NotDone), "{command}");
        assert_eq!(answer, format!("kmemleak: {NESTED}\n"), "{command}");
    }
    let mut answer = String::new();
    detector
        .report_as(Format::Json, Which::All, &mut answer)
        .expect("text");
    assert!(answer.contains(r#""kind":"error""#) && answer.contains(NESTED));
    // What takes no claim goes on as ever.
    detector.command("status", &mut answer).expect("text");
    assert!(answer.contains("last check   a check is running, or a report is being read"));
    assert!(detector.is_on() && detector.tracking().objects > 0);
    assert!(detector.for_top_sites(1, &mut |_| ()));
}

/// A lab in whose verdict there is something of everything.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.machine.call_from(&["known"]);
    lab.block(64);
    assert_eq!(lab.detector.suppress("known"), Ok(()));
    lab.machine.call_from(&["lost"]);
    lab.block(64);
    lab.block(64);
    let inside = lab.block(64);
    lab.hold(0, inside + 8);
    lab.leaks();
    lab
}

#[test]
fn who_is_shown_something_may_not_ask() {
    let lab = lab();
    let detector = &*lab.detector;
    let shown = AtomicUsize::new(0);
    let look = || {
        shown.fetch_add(1, Ordering::Relaxed);
        is_refused(detector);
    };
    let looked = |ways: Result<(), NotDone>| {
        assert_eq!(ways, Ok(()));
        assert!(shown.swap(0, Ordering::Relaxed) > 0);
    };
    looked(detector.for_each_unreferenced(&mut |_| look()));
    looked(detector.for_each_suppressed(&mut |_| look()));
    looked(detector.for_each_interior(&mut |_| look()));
    looked(detector.for_each_new(&mut |_| look()));
    looked(detector.for_each_group(&mut |_, _| look()));
    looked(detector.for_each_site(kmemleak::SiteOrder::Bytes, &mut |_| look()));
    let all = kmemleak::ObjectFilter::ALL;
    let live = detector.for_each_object(&all, &mut |_| look());
    looked(live.map(|_| ()));
    looked(detector.for_each_suppression(&mut |_| look()));
    let held = lab.block(64);
    lab.hold(1, held);
    assert_eq!(detector.holders(held, &mut |_| look()), Ok(()));
    assert_eq!(detector.path(held, &mut |_| look()), Ok(()));
    assert_eq!(shown.swap(0, Ordering::Relaxed), 2);
    // And then everything is as it was.
    assert_eq!(lab.leaks().len(), 2);
}

/// What asks whenever it is written to.
struct Asker<'d> {
    detector: &'d Subject,
    asked: usize,
}

impl Write for Asker<'_> {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        self.asked += 1;
        if self.asked == 1 {
            is_refused(self.detector);
        }
        Ok(())
    }
}

#[test]
fn what_is_written_to_may_not_ask() {
    let lab = lab();
    let held = lab.block(64);
    lab.hold(1, held);
    for command in [
        "scan --all",
        "report",
        "report --json",
        "new",
        "mark",
        "sites",
        "sites --json",
        "interior",
        "stack-only",
        "suppress",
        "selftest",
        "clear",
        &format!("holders {held:x}"),
        &format!("path {held:x}"),
        "holders 10",
        "path 10",
    ] {
        let mut asker = Asker {
            detector: &lab.detector,
            asked: 0,
        };
        let done = lab.detector.command(command, &mut asker);
        assert!(!matches!(done, Err(CommandError::Write(_))), "{command}");
        assert!(asker.asked > 0, "{command}");
    }
    lab.say("scan=1");
    lab.block(64);
    lab.machine.advance_us(600_000_000);
    let mut asker = Asker {
        detector: &lab.detector,
        asked: 0,
    };
    lab.detector.set_min_age_us(0);
    for _ in 0..3 {
        lab.machine.advance_us(600_000_000);
        lab.detector.background_step(&mut asker);
    }
    assert!(asker.asked > 0);
}

#[test]
fn what_names_functions_may_not_ask() {
    let lab = lab();
    let asked = Arc::new(AtomicUsize::new(0));
    let (detector, count) = (Arc::downgrade(&lab.detector), Arc::clone(&asked));
    lab.machine.at_name(move || {
        if let Some(detector) = detector.upgrade() {
            count.fetch_add(1, Ordering::Relaxed);
            is_refused(&detector);
        }
    });
    // Call stacks are held against the suppressions in the middle of a check.
    lab.machine.call_from(&["another"]);
    let block = lab.block(64);
    lab.leaks();
    assert!(asked.swap(0, Ordering::Relaxed) > 0);
    lab.hold(1, block);
    for command in [
        "report",
        "sites",
        &format!("holders {block:x}"),
        &format!("path {block:x}"),
    ] {
        lab.say(command);
        assert!(asked.swap(0, Ordering::Relaxed) > 0, "{command}");
    }
}

/// The moments of a scan while other code runs at which it lets others run, and at each of them another thread, which the
/// platform does not tell from the one that scans, asks everything.
#[test]
fn others_wait_and_let_others_run() {
    for command in ["interior", "report", "scan", "sites", "suppress", "clear"] {
        let mut moment = 0;
        while asks_at(moment, command) {
            moment += 7;
        }
        assert!(moment > 7, "{command}");
    }
}

/// Asks at a moment of a scan; false if it had no such moment.
fn asks_at(moment: usize, command: &'static str) -> bool {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    lab.detector.set_min_age_us(0);
    // Leaks that point to one another: their leaders are looked for with the verdict locked.
    let ring: Vec<usize> = (0..16).map(|_| lab.block(64)).collect();
    for (at, &block) in ring.iter().enumerate() {
        lab.machine.write(block, ring[(at + 1) % ring.len()]);
    }
    lab.detector.scan().expect("on");
    lab.machine.advance_us(10);
    let moments = AtomicUsize::new(0);
    let happened = Arc::new(AtomicBool::new(false));
    let asker = Arc::new(Mutex::new(None));
    let (detector, place, done) = (
        Arc::clone(&lab.detector),
        Arc::clone(&asker),
        Arc::clone(&happened),
    );
    lab.machine.at_relax(move |machine| {
        if moments.fetch_add(1, Ordering::Relaxed) != moment {
            return;
        }
        done.store(true, Ordering::Relaxed);
        let (before, detector) = (machine.relaxed(), Arc::clone(&detector));
        let thread = std::thread::spawn(move || {
            let mut answer = String::new();
            detector.command(command, &mut answer).expect("text");
            answer
        });
        *place.lock().expect("no panic") = Some(thread);
        // On one CPU this task gets it back when the other one lets others run: never, if it spins.
        while machine.relaxed() == before {
            std::thread::yield_now();
        }
    });
    lab.detector.scan().expect("on");
    // The action holds the detector.
    lab.machine.at_relax(|_| ());
    if let Some(thread) = asker.lock().expect("no panic").take() {
        let answer = thread.join().expect("no panic");
        assert!(!answer.contains(NESTED), "{answer}");
    }
    happened.load(Ordering::Relaxed)
}

/// The claim is not lost with the closure that panics.
#[test]
fn a_panic_in_a_closure_gives_the_claim_back() {
    let lab = lab();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = lab
            .detector
            .for_each_unreferenced(&mut |_| panic!("as it should"));
    }));
    assert!(panicked.is_err());
    assert_eq!(lab.leaks().len(), 2);
    lab.machine.store(Place::Bss(0), 0);
    assert_eq!(lab.leaks().len(), 3);
}
