//! Who holds an object, and the way to it: every kind of root, every answer that is none.

use kmemleak::{AllocOptions, Detector, NoAnswer, RootKind, Slot, SlotPlace};
use kmemleak_emulated::{Emulated, Machine, PARKED_TASK, Place, Stop};

use crate::lab::{Lab, answer, many};

fn holders(lab: &Lab, address: usize) -> (Result<(), NoAnswer>, Vec<Slot>) {
    let mut slots = Vec::new();
    let answer = lab.detector.holders(address, &mut |slot| slots.push(slot));
    (answer, slots)
}

fn path(lab: &Lab, address: usize) -> (Result<(), NoAnswer>, Vec<usize>) {
    let mut slots = Vec::new();
    let answer = lab
        .detector
        .path(address, &mut |slot| slots.push(slot.address));
    (answer, slots)
}

fn both(stop: Stop, work: impl Fn(&Lab)) {
    for stop in [Stop::Works, stop] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        work(&lab);
    }
}

#[test]
fn a_word_in_each_kind_of_root() {
    both(Stop::Unsupported, |lab| {
        let region = lab.machine.address(Place::Region(2, 0));
        assert!(lab.detector.region_add(region, 64 * 8));
        for (place, kind) in [
            (Place::Data(3), RootKind::Section),
            (Place::Bss(63), RootKind::Section),
            (Place::PerCpu(1, 7), RootKind::PerCpu(1)),
            (Place::Page(9), RootKind::Frames(0)),
            (Place::Stack(0), RootKind::Stack(PARKED_TASK)),
            (Place::Register(4), RootKind::Registers(0)),
            (Place::Region(2, 63), RootKind::Region),
        ] {
            let block = lab.block(64);
            lab.machine.store(place, block + 63);
            let address = lab.machine.address(place);
            let (answer, slots) = holders(lab, block);
            assert_eq!((answer, slots.len()), (Ok(()), 1), "{place}");
            assert_eq!(slots[0].address, address);
            let SlotPlace::Root(root) = slots[0].place else {
                panic!("{place} is a root")
            };
            assert_eq!(root.kind, kind, "{place}");
            assert!((root.start..root.start + root.len).contains(&address));
            assert_eq!(path(lab, block), (Ok(()), vec![address]), "{place}");
            let expected =
                format!("  {address:#018x}: {place}\nkmemleak: 1 holder of object {block:#018x}\n");
            assert_eq!(lab.say(&format!("holders {block:#x}")), expected);
            lab.machine.store(place, 0);
            assert_eq!(holders(lab, block), (Ok(()), vec![]));
        }
        let dead = lab.block(64);
        lab.machine.store(Place::Dead(5), dead);
        assert_eq!(holders(lab, dead), (Ok(()), vec![]));
    });
}

#[test]
fn stacks_that_are_no_roots_hold_nothing() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.store(Place::Stack(1), block);
    lab.say("stack=off");
    assert_eq!(holders(&lab, block).1, []);
    assert_eq!(path(&lab, block).0, Err(NoAnswer::Unreached));
}

#[test]
fn words_that_are_not_scanned_hold_but_lead_nowhere() {
    both(Stop::Unsupported, |lab| {
        let (holder, block) = (lab.block(64), lab.block(64));
        lab.hold(0, holder);
        lab.detector.no_scan(holder);
        lab.machine.write(holder + 56, block);
        assert_eq!(holders(lab, block).1.len(), 1);
        assert_eq!(path(lab, block).0, Err(NoAnswer::Unreached));
        assert_eq!(lab.leaks(), [block]);
    });
}

#[test]
fn itself_is_no_holder_and_the_lost_are() {
    both(Stop::Unsupported, |lab| {
        let (lost, block) = (lab.block(64), lab.block(64));
        lab.machine.write(block, block);
        lab.machine.write(lost + 8, block + 1);
        let (answer, slots) = holders(lab, block + 5);
        assert_eq!(answer, Ok(()));
        let place = SlotPlace::Object {
            start: lost,
            size: 64,
        };
        assert_eq!(
            slots,
            [Slot {
                address: lost + 8,
                place
            }]
        );
    });
}

#[test]
fn no_object() {
    both(Stop::Unsupported, |lab| {
        let block = lab.block(64);
        for address in [0, block + 64, block - 1, usize::MAX, 1 << 47] {
            assert_eq!(holders(lab, address), (Err(NoAnswer::NoObject), vec![]));
            assert_eq!(path(lab, address), (Err(NoAnswer::NoObject), vec![]));
        }
        lab.free(block);
        assert_eq!(holders(lab, block).0, Err(NoAnswer::NoObject));
    });
}

#[test]
fn no_way_and_no_need_of_one() {
    both(Stop::Unsupported, |lab| {
        let lost = lab.block(64);
        let gray = lab.block_with(64, AllocOptions::new().min_count(0));
        let black = lab.block_with(64, AllocOptions::new().min_count(-1));
        lab.machine.write(black, lost);
        assert_eq!(path(lab, lost).0, Err(NoAnswer::Unreached));
        assert_eq!(path(lab, gray).0, Err(NoAnswer::IsRoot));
        assert_eq!(path(lab, black).0, Err(NoAnswer::Unreached));
        // A gray object is where a way begins.
        lab.machine.write(gray + 16, lost);
        assert_eq!(path(lab, lost), (Ok(()), vec![gray + 16]));
        lab.hold(0, gray);
        let bss = lab.machine.address(Place::Bss(0));
        assert_eq!(path(lab, gray), (Ok(()), vec![bss]));
        assert_eq!(
            path(lab, lost),
            (Ok(()), vec![gray + 16]),
            "the shorter one"
        );
    });
}

#[test]
fn an_object_that_lies_in_a_root() {
    both(Stop::Unsupported, |lab| {
        let region = lab.machine.address(Place::Region(0, 0));
        lab.detector.region_add(region, 64 * 8);
        lab.detector.alloc(region + 64, 64, AllocOptions::new());
        let below = lab.block(64);
        lab.machine.write(region + 72, below);
        lab.machine.advance_us(1);
        assert_eq!(path(lab, region + 100).0, Err(NoAnswer::InRoot));
        // Its words are the root's: once.
        assert_eq!(path(lab, below), (Ok(()), vec![region + 72]));
        let (_, slots) = holders(lab, below);
        assert!(
            matches!(
                slots[..],
                [Slot {
                    place: SlotPlace::Root(_),
                    ..
                }]
            ),
            "{slots:?}"
        );
        assert_eq!(lab.leaks(), []);
    });
}

#[test]
fn off_and_given_up() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.set_stop(Stop::Unsupported);
    lab.machine.ask_to_stop();
    assert_eq!(holders(&lab, block), (Err(NoAnswer::Stopped), vec![]));
    assert_eq!(path(&lab, block), (Err(NoAnswer::Stopped), vec![]));
    assert_eq!(
        lab.say(&format!("path {block:#x}")),
        "kmemleak: asked to stop\n"
    );
    assert_eq!(lab.say("scan"), "kmemleak: asked to stop\n");
    assert_eq!(lab.say("mark"), "kmemleak: asked to stop\n");
    lab.say("off");
    assert_eq!(holders(&lab, block).0, Err(NoAnswer::Off));
    assert_eq!(path(&lab, block).0, Err(NoAnswer::Off));
    lab.say("clear");
    assert_eq!(holders(&lab, block).0, Err(NoAnswer::Off));
    assert_eq!(
        lab.say(&format!("holders {block:#x}")),
        "kmemleak: off, and can't be switched on again\n"
    );
}

#[test]
fn when_all_memory_is_given_back_none_is_taken() {
    let machine = Machine::new();
    let detector: Detector<_> = Detector::new(Emulated::of(&machine));
    let say = |line: &str| answer(&detector, line);
    say("scan");
    say("off");
    say("clear");
    for command in [
        "status",
        "report",
        "holders 10",
        "path 10",
        "sites",
        "objects",
        "help",
    ] {
        say(command);
    }
    assert_eq!(detector.path(0x10, &mut |_| ()), Err(NoAnswer::Off));
    assert_eq!(detector.unsuppress("x"), Ok(false));
    assert_eq!(detector.check(), Err(kmemleak::NotDone::Off));
    detector.unmark().expect("asked from outside");
    assert_eq!(
        detector.for_each_site(kmemleak::SiteOrder::Bytes, &mut |_| ()),
        Ok(())
    );
    assert_eq!(machine.metadata_pages(), 0);
}

#[test]
fn without_memory_there_is_a_part_of_the_answer_or_none() {
    both(Stop::Unsupported, |lab| {
        let block = lab.block(64);
        let below = lab.block(64);
        lab.hold(0, block);
        lab.machine.write(block, below);
        lab.detector.exhaust_metadata(true);
        assert_eq!(holders(lab, block), (Err(NoAnswer::NoMemory), vec![]));
        assert_eq!(path(lab, below), (Err(NoAnswer::NoMemory), vec![]));
        assert_eq!(
            lab.say(&format!("path {below:#x}")),
            "kmemleak: no memory for all of the answer\n"
        );
        lab.detector.exhaust_metadata(false);
        assert_eq!(path(lab, below).1.len(), 2);
        // What memory there is is used again.
        lab.detector.exhaust_metadata(true);
        assert_eq!(path(lab, below).1.len(), 2);
        assert_eq!(holders(lab, block).1.len(), 1);
    });
}

#[test]
fn a_long_chain() {
    both(Stop::Unsupported, |lab| {
        let count = many(if cfg!(debug_assertions) {
            5_000
        } else {
            100_000
        });
        let chain: Vec<usize> = (0..count).map(|_| lab.block(16)).collect();
        for pair in chain.windows(2) {
            lab.machine.write(pair[0] + 8, pair[1]);
        }
        lab.hold(0, chain[0]);
        let (answer, slots) = path(lab, chain[count - 1]);
        assert_eq!(answer, Ok(()));
        assert_eq!(slots[0], lab.machine.address(Place::Bss(0)));
        let below = chain[..count - 1].iter().map(|block| block + 8);
        assert!(slots[1..].iter().copied().eq(below));
    });
}

#[test]
fn the_shortest_of_several() {
    both(Stop::Unsupported, |lab| {
        let chain: Vec<usize> = (0..20).map(|_| lab.block(64)).collect();
        for pair in chain.windows(2) {
            lab.machine.write(pair[0], pair[1]);
        }
        lab.hold(0, chain[0]);
        lab.machine.write(chain[3] + 16, chain[15] + 8);
        let (_, slots) = path(lab, chain[19]);
        let bss = lab.machine.address(Place::Bss(0));
        let mut expected = vec![bss, chain[0], chain[1], chain[2], chain[3] + 16];
        expected.extend(&chain[15..19]);
        assert_eq!(slots, expected);
    });
}

#[test]
fn blocks_at_odd_addresses() {
    both(Stop::Unsupported, |lab| {
        let room = lab.machine.slab(128);
        let (odd, block) = (room + 13, lab.block(32));
        lab.detector.alloc(odd, 64, AllocOptions::new());
        lab.machine.advance_us(1);
        lab.hold(0, odd);
        lab.machine.write(room + 16, block);
        let bss = lab.machine.address(Place::Bss(0));
        assert_eq!(path(lab, block), (Ok(()), vec![bss, room + 16]));
        let (answer, slots) = holders(lab, odd + 63);
        assert_eq!((answer, slots.len()), (Ok(()), 1));
        let text = lab.say(&format!("holders {block:#x}"));
        assert!(
            text.contains(&format!("object {odd:#018x} (size 64)+0x3\n")),
            "{text}"
        );
    });
}

#[test]
fn percpu_blocks_hold_and_are_held_in_each_copy() {
    both(Stop::Unsupported, |lab| {
        let handle = lab.machine.percpu(32);
        lab.detector.alloc_percpu(handle, 32);
        lab.machine.advance_us(1);
        let copy = |cpu| lab.machine.percpu_copy(handle, cpu).expect("live");
        let below = lab.block(64);
        lab.machine.write(copy(1) + 8, below);
        for (slot, word) in [(0, handle), (1, copy(0) + 3), (2, copy(1) + 31)] {
            lab.hold(slot, word);
            assert_eq!(path(lab, below).1.len(), 2, "{word:#x}");
            assert_eq!(holders(lab, handle).1.len(), slot + 1);
            assert_eq!(holders(lab, copy(1)).1, holders(lab, handle).1);
        }
        let (_, slots) = holders(lab, below);
        let place = SlotPlace::Object {
            start: handle,
            size: 32,
        };
        assert_eq!(
            slots,
            [Slot {
                address: copy(1) + 8,
                place
            }]
        );
        let text = lab.say(&format!("holders {below:#x}"));
        assert!(text.contains("(size 32), another copy\n"), "{text}");
        assert_eq!(lab.leaks(), []);
    });
}

#[test]
fn asking_does_not_change_what_is_found() {
    both(Stop::Unsupported, |lab| {
        lab.detector.set_min_age_us(0);
        let blocks: Vec<usize> = (0..6).map(|_| lab.block(64)).collect();
        lab.hold(0, blocks[0] + 8);
        lab.machine.write(blocks[0], blocks[1]);
        lab.machine.write(blocks[2], blocks[3]);
        let ask = || {
            for &block in &blocks {
                let _ = (holders(lab, block), path(lab, block));
            }
        };
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        ask();
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        assert_eq!(lab.listed(), blocks[2..]);
        let report = lab.say("report --all");
        let interior = lab.say("interior");
        assert_eq!(lab.detector.mark(), Ok(()));
        ask();
        assert_eq!(lab.say("report --all"), report);
        assert_eq!(lab.say("interior"), interior);
        let mut new = Vec::new();
        lab.detector
            .for_each_new(&mut |object| new.push(object.start))
            .expect("asked from outside");
        assert_eq!(new, []);
        // One that changed after the first scan that saw it is no suspect to the next one, questions or not.
        let late = lab.block(64);
        lab.detector.scan().expect("on");
        lab.machine.write(late, 1);
        ask();
        lab.detector.scan().expect("on");
        assert_eq!(lab.listed(), blocks[2..]);
        lab.detector.scan().expect("on");
        assert_eq!(lab.listed(), [&blocks[2..], &[late]].concat());
    });
}
