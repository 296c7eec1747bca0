//! Leaks and suspects: what is not certain is not called a leak, and the reason is told.

use kmemleak::{AllocOptions, Detector, Doubt, How};
use kmemleak_emulated::{Place, Stop};

use crate::lab::{Lab, many, pool};
use crate::one_cpu::OneCpu;

/// A list of which the head, that a root holds, could not be recorded.
fn headless(blocks: usize) -> Lab {
    let lab = Lab::new();
    let mut next = 0;
    for _ in 0..blocks {
        let block = lab.block(64);
        lab.machine.write(block, next);
        next = block;
    }
    lab.detector.exhaust_metadata(true);
    let head = lab.block(64);
    lab.detector.exhaust_metadata(false);
    lab.machine.write(head, next);
    lab.hold(0, head);
    lab
}

#[test]
fn what_an_unrecorded_block_holds_is_suspected() {
    let lab = headless(399);
    let summary = lab.detector.check().expect("on");
    assert_eq!((summary.objects, summary.bytes), (0, 0));
    assert_eq!((summary.suspects, summary.suspect_bytes), (399, 399 * 64));
    assert_eq!(summary.how, How::Stopped);
    assert_eq!(summary.doubt(), Some(Doubt::Unrecorded(1)));
    assert_eq!(lab.listed().len(), 399, "they are listed all the same");
    let report = lab.report();
    assert!(!report.contains("unreferenced object 0x"), "{report}");
    assert_eq!(report.matches("suspected object 0x").count(), 1);
    assert!(report.contains(
        "kmemleak: 1 record is missing for lack of memory: what that would keep alive may be among the suspects\n"
    ));
    let sum = "kmemleak: 0 unreferenced objects (0 bytes), 399 suspects, 1 unrecorded\n";
    assert!(report.ends_with(sum), "{report}");
    assert!(lab.say("scan --all --full").ends_with(sum));
    assert!(
        lab.status("last check")
            .ends_with("words, 0 unreferenced objects, 399 suspects")
    );
    let mark = lab.say("mark");
    assert_eq!(
        mark,
        "kmemleak: remembered 0 unreferenced objects (0 bytes), 399 suspects, 1 unrecorded, and what is alive at each call site\n"
    );
    lab.block(64);
    let new = lab.say("new");
    assert!(
        new.contains("kmemleak: 1 suspect (64 bytes) new since the mark\n"),
        "{new}"
    );
    // The self-test finds what it plants, suspected or not.
    assert!(lab.say("selftest").starts_with("kmemleak: selftest passed"));
}

#[test]
fn what_was_taken_for_granted_is_certain_again() {
    let lab = headless(3);
    assert_eq!(lab.leaks().len(), 3);
    lab.say("clear");
    let lost = lab.block(64);
    let summary = lab.detector.check().expect("on");
    assert_eq!((summary.objects, summary.suspects), (1, 0));
    assert_eq!(summary.doubt(), None);
    assert_eq!(lab.listed(), [lost]);
    assert!(
        lab.report()
            .ends_with("\nkmemleak: 1 unreferenced object (64 bytes)\n")
    );
}

#[test]
fn a_group_of_suspects_says_so() {
    let lab = headless(0);
    lab.block(64);
    lab.block(64);
    lab.leaks();
    assert!(
        lab.report()
            .starts_with("group of 2 suspected objects (128 bytes), age")
    );
}

#[test]
fn without_a_confirming_stop_a_scan_has_suspects() {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    let lost = lab.block(64);
    lab.detector.scan().expect("on");
    let summary = lab.detector.scan().expect("on");
    assert_eq!((summary.objects, summary.suspects), (0, 1));
    assert_eq!(summary.doubt(), Some(Doubt::Unconfirmed));
    assert!(lab.report().contains(
        "kmemleak: suspects of 1 pass while other code ran, which no check in a stopped world has confirmed\n"
    ));
    assert_eq!(lab.listed(), [lost]);
}

/// Blocks that are always held, by one of two words each, and move between these whenever others run.
struct Movers {
    lab: Lab,
    lost: usize,
}

impl Movers {
    const BLOCKS: usize = 20;

    fn new(seed: usize) -> Self {
        let lab = Lab::new();
        lab.detector.set_min_age_us(0);
        // The words are in objects of their own, each of which a root holds.
        let tables: Vec<usize> = (0..2 * Self::BLOCKS).map(|_| lab.block(64)).collect();
        for (index, &table) in tables.iter().enumerate() {
            lab.machine.store(Place::Bss(index), table);
        }
        let blocks: Vec<usize> = (0..Self::BLOCKS).map(|_| lab.block(64)).collect();
        for (index, &block) in blocks.iter().enumerate() {
            lab.machine.write(tables[2 * index], block);
        }
        let lost = lab.block(64);
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        lab.machine.at_relax(move |machine| {
            for (index, &block) in blocks.iter().enumerate() {
                number ^= number << 13;
                number ^= number >> 7;
                number ^= number << 17;
                let (to, from) = (number & 1, 1 - (number & 1));
                // Written where it goes before it is taken away.
                machine.write(tables[2 * index + to], block);
                machine.write(tables[2 * index + from], 0);
            }
        });
        Self { lab, lost }
    }
}

#[test]
fn blocks_that_move_at_every_step_are_never_called_leaks() {
    let (mut live_listed, mut unsettled) = (0, 0);
    for seed in 0..many(200) {
        let Movers { lab, lost } = Movers::new(seed);
        lab.machine.set_stop(Stop::Unsupported);
        let summary = lab.detector.check().expect("on");
        assert_eq!((summary.objects, summary.bytes), (0, 0));
        assert!(summary.suspects > 0 && lab.listed().contains(&lost));
        live_listed += usize::from(summary.suspects > 1);
        let How::Repeated { passes, .. } = summary.how else {
            panic!("{:?}", summary.how);
        };
        let told = format!("kmemleak: after {passes} passes the suspects still changed");
        assert_eq!(lab.report().contains(&told), !summary.settled);
        unsettled += usize::from(!summary.settled);
        lab.say("scan=1");
        let mut log = String::new();
        for _ in 0..3 {
            lab.machine.advance_us(1_000_000);
            lab.detector.background_step(&mut log);
        }
        assert!(log.contains("suspected object") && !log.contains("unreferenced"));
        // With the world stopped there is nothing to be seen but what is lost.
        lab.machine.set_stop(Stop::Works);
        assert_eq!(lab.leaks(), [lost]);
    }
    // The exception: passes take away what they find referenced.
    assert!(
        live_listed * 10 <= many(200),
        "{live_listed} with live ones, {unsettled} unsettled"
    );
}

/// Where each pass finds fewer suspects than the one before, passes end all the same, and the verdict says so.
#[test]
fn passes_end_though_the_suspects_still_change() {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    let blocks: Vec<usize> = (0..400).map(|_| lab.block(64)).collect();
    let detector = std::sync::Arc::downgrade(&lab.detector);
    let (mut steps, mut left) = (0, blocks);
    lab.machine.at_relax(move |machine| {
        steps += 1;
        // Several times in each pass.
        if steps % 16 == 0
            && let (Some(block), Some(detector)) = (left.pop(), detector.upgrade())
        {
            detector.free(block);
            machine.free(block);
        }
    });
    let summary = lab.detector.check().expect("on");
    assert!(
        matches!(summary.how, How::Repeated { passes: 16, .. }),
        "{:?}",
        summary.how
    );
    assert!(summary.suspects > 0 && !summary.settled);
    lab.machine.at_relax(|_| ());
    assert!(lab.report().contains(
        "kmemleak: after 16 passes the suspects still changed: what is in use may be among them\n"
    ));
    let again = lab.detector.check().expect("on");
    assert!(matches!(again.how, How::Repeated { passes: 4, .. }) && again.settled);
}

/// Interrupts off are all it takes to stop one CPU.
#[test]
fn one_cpu_is_stopped_without_the_platform_s_help() {
    let detector: Detector<OneCpu> = Detector::new(OneCpu::new()).with_pool(pool::<16>());
    let blocks = [Box::new([0_u64; 8]), Box::new([0; 8])];
    for block in &blocks {
        let start = block.as_ptr().expose_provenance();
        detector.alloc(start, size_of_val(&**block), AllocOptions::new());
    }
    detector.platform().hold(blocks[0].as_ptr().addr());
    let summary = detector.check().expect("on");
    assert_eq!(
        (summary.how, summary.objects, summary.suspects),
        (How::Stopped, 1, 0)
    );
    // So all that ran has ended, too, and the metadata can go.
    let mut answer = String::new();
    for command in ["off", "clear"] {
        detector.command(command, &mut answer).expect("text");
    }
    assert!(answer.ends_with("kmemleak: metadata freed\n"), "{answer}");
}
