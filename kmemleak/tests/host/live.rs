//! Live objects: with their addresses, the oldest first.

use kmemleak::{AllocOptions, Colour, Context, Level, LiveObject, NotDone, ObjectFilter, Tracking};
use kmemleak_emulated::{set_comm, set_current};

use crate::lab::{Lab, try_to};

const SECOND: u64 = 1_000_000;

/// The starts of the objects that match, and how many match in all.
fn live(lab: &Lab, filter: ObjectFilter) -> (Vec<usize>, usize) {
    let mut starts = Vec::new();
    let all = lab
        .detector
        .for_each_object(&filter, &mut |object| starts.push(object.start));
    (starts, all.expect("on, with memory").objects)
}

/// The checksum of a call stack of this one frame, as `sites` shows it.
fn crc(lab: &Lab, function: &str) -> String {
    let sites = lab.say("sites 1000 --full");
    let (before, _) = sites
        .split_once(&format!("\n    {function}\n"))
        .expect("a site");
    let (_, crc) = before.rsplit_once("(crc ").expect("a checksum");
    crc[..8].to_owned()
}

fn as_task(task: u32, work: impl FnOnce()) {
    let before = Context {
        cpu: 0,
        task: 1,
        level: Level::Task,
    };
    set_current(Context { task, ..before });
    work();
    set_current(before);
}

#[test]
fn the_oldest_come_first_wherever_they_lie() {
    let lab = Lab::new();
    // The ages don't follow the addresses: blocks are told of in another order than they were taken.
    let blocks: Vec<usize> = (0..500).map(|_| lab.machine.slab(16)).collect();
    let mut by_age: Vec<usize> = (0..500).map(|place| blocks[place * 223 % 500]).collect();
    for &start in &by_age {
        lab.machine.advance_us(1);
        lab.detector.alloc(start, 16, AllocOptions::new());
    }
    assert_eq!(live(&lab, ObjectFilter::ALL), (by_age.clone(), 500));
    for top in [0, 1, 2, 7, 64, 499, 500, 501] {
        let filter = ObjectFilter {
            top,
            ..ObjectFilter::ALL
        };
        let shown = by_age[..top.min(500)].to_vec();
        assert_eq!(live(&lab, filter), (shown, 500), "{top}");
    }
    // The question before leaves nothing in the next one.
    by_age.drain(..250).for_each(|start| lab.free(start));
    assert_eq!(live(&lab, ObjectFilter::ALL), (by_age, 250));
}

#[test]
fn the_command_says_how_many_more_there_are() {
    let lab = Lab::new();
    set_comm("test");
    lab.machine.call_from(&["probe", "main"]);
    let blocks: Vec<usize> = (0..25).map(|_| lab.block(8)).collect();
    lab.machine.advance_us(2 * SECOND);
    let crc = {
        let answer = lab.say("sites --full");
        let (_, crc) = answer.split_once("(crc ").expect("a checksum");
        crc[..8].to_owned()
    };
    // What is listed after its call site.
    let line = |place: usize| {
        let handle = format!("#{}", place + 2);
        let start = blocks[place];
        format!("{handle:>5} {start:#018x}       8 B   2.0 s test/1   probe\n")
    };
    let heading = "    # address                bytes     age task     allocated by        at\n";
    let answer = lab.say("objects");
    assert_eq!(answer.matches(" probe\n").count(), 20);
    assert!(answer.ends_with("kmemleak: 20 of 25 objects (200 bytes), 5 more that are younger\n"));
    let two = format!(
        "{heading}{}{}kmemleak: 2 of 25 objects (200 bytes), 23 more that are younger\n",
        line(0),
        line(1)
    );
    assert_eq!(lab.say("objects --top 2"), two);
    let all = lab.say("objects --top=25");
    assert!(all.ends_with("kmemleak: 25 of 25 objects (200 bytes)\n"));
    assert!(all.contains(&line(24)));
    let start = blocks[24];
    assert!(lab.say("objects --full --top 25").contains(&format!(
        "  #26 {start:#018x} (size 8), age 2.000s, comm \"test\", pid 1, crc {crc}, from probe\n"
    )));
    assert_eq!(
        lab.say("objects --task 9"),
        "kmemleak: 0 of 0 objects (0 bytes)\n"
    );
}

#[test]
fn filters_choose_by_site_task_and_age() {
    let lab = Lab::new();
    let block = |function: &str| {
        lab.machine.call_from(&[function]);
        lab.block(16)
    };
    let (mut early, mut late) = (0, 0);
    as_task(7, || early = block("open"));
    let other = block("probe");
    lab.machine.advance_us(10 * SECOND);
    as_task(7, || late = block("open"));
    let bare = {
        lab.machine.call_from(&[]);
        lab.block(16)
    };
    let site = |function| u32::from_str_radix(&crc(&lab, function), 16).ok();
    let all = ObjectFilter::ALL;
    for (filter, starts) in [
        (all, vec![early, other, late, bare]),
        (
            ObjectFilter {
                task: Some(7),
                ..all
            },
            vec![early, late],
        ),
        (
            ObjectFilter {
                task: Some(8),
                ..all
            },
            vec![],
        ),
        (
            ObjectFilter {
                site: site("open"),
                ..all
            },
            vec![early, late],
        ),
        (
            ObjectFilter {
                site: site("probe"),
                ..all
            },
            vec![other],
        ),
        (
            ObjectFilter {
                site: Some(1),
                ..all
            },
            vec![],
        ),
        // The checksum of no addresses.
        (
            ObjectFilter {
                site: Some(0),
                ..all
            },
            vec![bare],
        ),
        (
            ObjectFilter {
                min_age_us: 10 * SECOND,
                ..all
            },
            vec![early, other],
        ),
        (
            ObjectFilter {
                min_age_us: 11 * SECOND,
                ..all
            },
            vec![],
        ),
        (
            ObjectFilter {
                min_age_us: u64::MAX,
                ..all
            },
            vec![],
        ),
        (
            ObjectFilter {
                task: Some(7),
                min_age_us: SECOND,
                site: site("open"),
                ..all
            },
            vec![early],
        ),
    ] {
        let count = starts.len();
        assert_eq!(live(&lab, filter), (starts, count), "{filter:?}");
    }
    let shown = |command: &str| {
        let answer = lab.say(command);
        let starts = answer.lines().filter_map(|line| {
            let (start, _) = line
                .trim_start()
                .strip_prefix('#')?
                .split_once(" 0x")?
                .1
                .split_once(' ')?;
            usize::from_str_radix(start, 16).ok()
        });
        starts.collect::<Vec<_>>()
    };
    let open = crc(&lab, "open");
    assert_eq!(shown("objects"), [early, other, late, bare]);
    assert_eq!(shown("objects --task 7"), [early, late]);
    assert_eq!(shown("objects --older 10"), [early, other]);
    assert_eq!(shown("objects --older 11"), []);
    assert_eq!(shown("objects --older 18446744073709551615"), []);
    assert_eq!(shown(&format!("objects --site {open}")), [early, late]);
    let both = format!("objects --older=5 --site={open} --top 1");
    assert_eq!(shown(&both), [early]);
    assert!(
        lab.say("objects --full --site 0")
            .contains(", no call stack\n")
    );
}

/// Whose site an object is, is not mixed up where there are many.
#[test]
fn each_site_has_its_own_objects() {
    let lab = Lab::new();
    for number in 0..400 {
        lab.machine.call_from(&[&format!("site {}", number % 200)]);
        lab.block(16);
    }
    let mut sites = std::collections::HashMap::<u32, Vec<usize>>::new();
    let answer = lab.say("objects --top 400 --json");
    for line in answer.lines().take(400) {
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":\"")).expect("a field");
            rest.split_once('"').expect("its end").0
        };
        let crc = u32::from_str_radix(field("crc"), 16).expect("a checksum");
        let start = usize::from_str_radix(&field("address")[2..], 16).expect("an address");
        sites.entry(crc).or_default().push(start);
    }
    assert_eq!(sites.len(), 200);
    for (crc, starts) in sites {
        let filter = ObjectFilter {
            site: Some(crc),
            ..ObjectFilter::ALL
        };
        assert_eq!(live(&lab, filter), (starts, 2));
    }
}

#[test]
fn wrong_options_are_told_of() {
    let lab = Lab::new();
    for (line, told) in [
        (
            "objects --older soon",
            "objects --older: invalid value `soon`: expected a number of seconds",
        ),
        (
            "objects --older -1",
            "objects --older: invalid value `-1`: expected a number of seconds",
        ),
        (
            "objects --task",
            "objects --task: missing argument: expected a task's number",
        ),
        (
            "objects --task 4294967296",
            "objects --task: invalid value `4294967296`: expected a task's number",
        ),
        (
            "objects --site +1",
            "objects --site: invalid value `+1`: expected a checksum in hexadecimal (crc)",
        ),
        (
            "objects --site 123456789",
            "objects --site: invalid value `123456789`: expected a checksum in hexadecimal (crc)",
        ),
        (
            "objects --top many",
            "objects --top: invalid value `many`: expected a number",
        ),
        ("objects 3", "objects: unexpected argument `3`"),
        ("objects --all", "objects: unexpected argument `--all`"),
        (
            "site",
            "site: missing argument: expected a checksum in hexadecimal (crc) or a number from a report, like #1",
        ),
        (
            "site probe",
            "site: invalid value `probe`: expected a checksum in hexadecimal (crc) or a number from a report, like #1",
        ),
        ("site 1 --site 2", "site: unexpected argument `--site`"),
    ] {
        assert_eq!(lab.say(line), format!("kmemleak: {told}\n"));
        assert_eq!(
            try_to(&lab.detector, line).0,
            Err(kmemleak::CommandError::NotUnderstood),
            "{line}"
        );
    }
}

/// What a filter of all shows of the object that starts there.
fn shown(lab: &Lab, start: usize, look: &mut dyn FnMut(LiveObject<'_>)) {
    let mut seen = 0;
    let all = lab
        .detector
        .for_each_object(&ObjectFilter::ALL, &mut |object| {
            if object.start == start {
                seen += 1;
                look(object);
            }
        });
    assert!(all.is_ok());
    assert_eq!(seen, 1);
}

#[test]
fn all_that_is_known_of_an_object() {
    let lab = Lab::new();
    set_comm("probe");
    set_current(Context {
        cpu: 1,
        task: 5,
        level: Level::Interrupt,
    });
    let gray = lab.block_with(16, AllocOptions::new().min_count(0));
    set_current(Context {
        cpu: 0,
        task: 6,
        level: Level::Task,
    });
    lab.machine.call_from(&["ignored", "main"]);
    let black = lab.block(24);
    lab.detector.ignore(black);
    let large = lab.machine.arena(5 << 30);
    lab.detector.alloc(large, 5 << 30, AllocOptions::new());
    let percpu = lab.machine.percpu(40);
    lab.detector.alloc_percpu(percpu, 40);
    shown(&lab, gray, &mut |object| {
        assert_eq!(object.colour, Some(Colour::Gray));
        assert_eq!((object.cpu, object.task, object.interrupt), (1, 5, true));
        assert_eq!(object.comm.as_str(), "hardirq");
    });
    shown(&lab, black, &mut |object| {
        assert_eq!(object.colour, Some(Colour::Black));
        assert_eq!((object.cpu, object.task, object.interrupt), (0, 6, false));
        assert_eq!((object.size, object.comm.as_str()), (24, "probe"));
        assert_eq!(object.call_stack.len(), 2);
    });
    shown(&lab, large, &mut |object| assert_eq!(object.size, 5 << 30));
    shown(&lab, percpu, &mut |object| {
        assert_eq!((object.size, object.colour), (40, None));
    });
    let all = lab
        .detector
        .for_each_object(&ObjectFilter::ALL, &mut |_| ());
    let bytes = 16 + 24 + (5 << 30) + 40;
    assert_eq!(
        all,
        Ok(Tracking { objects: 4, bytes }),
        "copies don't count"
    );
    assert!(lab.say("objects").contains(" hardirq/5, gray "));
    let answer = lab.say("objects --full");
    assert!(answer.contains("comm \"hardirq\", pid 5, gray, "));
    assert!(answer.contains("comm \"probe\", pid 6, black, crc "));
}

#[test]
fn what_is_freed_while_others_are_shown_says_so() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..3).map(|_| lab.block(16)).collect();
    let mut seen = Vec::new();
    let all = lab
        .detector
        .for_each_object(&ObjectFilter::ALL, &mut |object| {
            if seen.is_empty() {
                // Whoever looks may free and allocate: no lock is held.
                lab.free(blocks[1]);
                lab.machine.advance_us(1);
                lab.detector.alloc(blocks[1], 8, AllocOptions::new());
                lab.free(blocks[2]);
            }
            seen.push((object.start, object.size, object.freed));
        });
    assert_eq!(all.map(|all| all.objects), Ok(3));
    assert_eq!(
        seen,
        [
            (blocks[0], 16, false),
            (blocks[1], 16, true),
            (blocks[2], 16, true)
        ]
    );
}

/// Where memory is short, the oldest are shown nevertheless, as many as there was memory for, and the answer says so.
#[test]
fn want_of_memory_is_told() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..500).map(|_| lab.machine.slab(16)).collect();
    let by_age: Vec<usize> = (0..500).map(|place| blocks[place * 223 % 500]).collect();
    for &start in &by_age {
        lab.machine.advance_us(1);
        lab.detector.alloc(start, 16, AllocOptions::new());
    }
    lab.detector.exhaust_metadata(true);
    let answer = "kmemleak: no memory to list more than 0 objects\nkmemleak: 0 of 500 objects (8000 bytes), 500 more that are younger\n";
    assert_eq!(lab.say("objects"), answer);
    lab.detector.exhaust_metadata(false);
    let mut counts = Vec::new();
    for refused in 0..12 {
        let lab = Lab::new();
        for &start in &by_age {
            lab.machine.advance_us(1);
            lab.detector.alloc(start, 16, AllocOptions::new());
        }
        lab.detector.refuse_metadata(refused..u64::MAX);
        let mut starts = Vec::new();
        let all = lab
            .detector
            .for_each_object(&ObjectFilter::ALL, &mut |object| starts.push(object.start));
        assert_eq!(starts, by_age[..starts.len()]);
        match starts.len() {
            500 => assert_eq!(all.map(|all| all.objects), Ok(500)),
            _ => assert_eq!(all, Err(NotDone::NoMemory)),
        }
        counts.push(starts.len());
    }
    assert_eq!((counts[0], counts[11]), (0, 500));
    assert!(
        counts.iter().any(|&count| 0 < count && count < 500),
        "{counts:?}"
    );
}

#[test]
fn once_it_is_off_nothing_is_known_to_be_alive() {
    let lab = Lab::new();
    lab.block(16);
    lab.say("off");
    let refused = lab
        .detector
        .for_each_object(&ObjectFilter::ALL, &mut |_| panic!("no"));
    assert_eq!(refused, Err(NotDone::Off));
    for command in ["objects", "site 1"] {
        let off = "kmemleak: off, and can't be switched on again\n";
        assert_eq!(lab.say(command), off);
    }
}

#[test]
fn a_site_is_shown_with_its_history_and_its_objects() {
    let lab = Lab::new();
    set_comm("test");
    let block = |function: &str| {
        lab.machine.call_from(&[function]);
        lab.block(16)
    };
    let first = block("open");
    block("probe");
    lab.say("mark");
    lab.machine.advance_us(SECOND);
    let second = block("open");
    lab.say("mark");
    lab.machine.advance_us(SECOND);
    let third = block("open");
    let open = crc(&lab, "open");
    let object = |handle: u32, start: usize, age: u32| {
        let age = match age {
            0 => "0 ms".to_owned(),
            seconds => format!("{seconds}.0 s"),
        };
        format!("   #{handle} {start:#018x}      16 B {age:>7} test/1\n")
    };
    let head = format!(
        "48 bytes in 3 objects, grown by +16 bytes (+1), #1:\n  bytes at the last 2 marks: 16, 32, now 48\n  backtrace (crc {open}):\n    open\n    # address                bytes     age task\n"
    );
    assert_eq!(
        lab.say(&format!("site {open}")),
        format!(
            "{head}{}{}{}kmemleak: 3 of 3 objects (48 bytes)\n",
            object(3, first, 2),
            object(4, second, 1),
            object(5, third, 0)
        )
    );
    assert_eq!(
        lab.say(&format!("site={open} --top 1")),
        format!(
            "{head}{}kmemleak: 1 of 3 objects (48 bytes), 2 more that are younger\n",
            object(3, first, 2)
        )
    );
    // A site of which nothing is left is there once more, without objects.
    [first, second, third]
        .iter()
        .for_each(|&start| lab.free(start));
    let answer = lab.say(&format!("site {open}"));
    assert!(answer.starts_with("0 bytes in 0 objects, grown by -32 bytes (-2), #1:\n"));
    assert!(answer.ends_with("kmemleak: 0 of 0 objects (0 bytes)\n"));
    lab.say("mark");
    assert_eq!(
        lab.say(&format!("site {open}")),
        format!("kmemleak: no call site {open} has live objects, or had any at the mark\n")
    );
    assert_eq!(
        lab.say("site 1"),
        "kmemleak: no call site 00000001 has live objects, or had any at the mark\n"
    );
    // Without memory to count call sites, the objects are listed as far as there is any.
    let lab = Lab::new();
    lab.machine.call_from(&["open"]);
    lab.block(16);
    lab.detector.exhaust_metadata(true);
    let answer = lab.say(&format!("site {open}"));
    assert!(
        answer.starts_with("kmemleak: no memory to count all call sites\nkmemleak: no memory to list more than 0 objects\nkmemleak: 0 of 1 object (16 bytes)"),
        "{answer}"
    );
}

/// The list takes memory for what it shows, and keeps that for the next one.
#[test]
fn memory_is_bounded_by_what_is_shown() {
    let lab = Lab::new();
    (0..5000).for_each(|_| _ = lab.block(16));
    let before = lab.machine.metadata_pages();
    (0..3).for_each(|_| _ = lab.say("objects --top 80"));
    // A page that names pages, and one of rows; and the same for handles.
    assert!(lab.machine.metadata_pages() <= before + 4);
    lab.say("off");
    lab.say("clear");
    assert_eq!(lab.machine.metadata_pages(), 0);
}
