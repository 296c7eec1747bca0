//! Marks: what is new since, and what has grown at each call site.

use crate::lab::Lab;

fn new(lab: &Lab) -> Vec<usize> {
    let mut starts = Vec::new();
    lab.detector
        .for_each_new(&mut |object| starts.push(object.start))
        .expect("asked from outside");
    starts
}

/// Call sites: name, bytes, blocks, growth in both.
fn sites(lab: &Lab) -> Vec<(String, usize, usize, i64, i64)> {
    let mut sites = Vec::new();
    let complete = lab
        .detector
        .for_each_site(kmemleak::SiteOrder::Bytes, &mut |site| {
            let mut name = String::new();
            if let Some(&first) = site.call_stack.first() {
                kmemleak::Platform::symbol(lab.detector.platform(), first, &mut name)
                    .expect("text");
            }
            // Where there was no mark, all has come since.
            let growth = site.growth.unwrap_or(kmemleak::Growth {
                bytes: site.bytes as i64,
                objects: site.objects as i64,
            });
            sites.push((name, site.bytes, site.objects, growth.bytes, growth.objects));
        });
    assert_eq!(complete, Ok(()));
    sites
}

fn block(lab: &Lab, function: &str, size: usize) -> usize {
    lab.machine.call_from(&[function]);
    lab.block(size)
}

#[test]
fn without_a_mark_all_is_new() {
    let lab = Lab::new();
    let (one, other) = (lab.block(8), lab.block(8));
    assert_eq!(new(&lab), []);
    lab.leaks();
    assert_eq!(new(&lab), [one, other]);
    // A mark remembers the last verdict: it does not check.
    assert_eq!(lab.detector.mark(), Ok(()));
    let third = lab.block(8);
    assert_eq!(new(&lab), []);
    lab.leaks();
    assert_eq!(new(&lab), [third]);
    lab.detector.unmark().expect("asked from outside");
    assert_eq!(new(&lab), [one, other, third]);
}

#[test]
fn the_command_checks_first() {
    let lab = Lab::new();
    let early = lab.block(8);
    assert_eq!(
        lab.say("mark"),
        "kmemleak: remembered 1 unreferenced object (8 bytes), and what is alive at each call site\n"
    );
    assert_eq!(lab.listed(), [early]);
    let late = lab.block(16);
    let answer = lab.say("new --full");
    assert!(answer.starts_with(&format!(
        "unreferenced object {late:#018x} (size 16), #2:\n"
    )));
    assert!(!answer.contains(&format!("{early:#018x}")));
    assert!(answer.contains("kmemleak: 1 object (16 bytes) new since the mark\n"));
    assert!(answer.ends_with("kmemleak: 2 unreferenced objects (24 bytes)\n"));
    // Asking does not make it old.
    assert_eq!(lab.say("new --full"), answer);
    let table = lab.say("new");
    assert!(
        table.contains("\n   #1        1      16 B         - "),
        "{table}"
    );
    assert!(table.contains("kmemleak: 1 object (16 bytes) new since the mark\n"));
}

#[test]
fn what_was_found_again_or_freed_meanwhile() {
    let lab = Lab::new();
    let (stays, goes, comes) = (lab.block(8), lab.block(8), lab.block(8));
    lab.hold(0, comes);
    lab.say("mark");
    lab.free(goes);
    lab.hold(0, 0);
    lab.leaks();
    assert_eq!(new(&lab), [comes], "allocated before, and lost since");
    // In the place of one that was remembered: another.
    lab.machine.advance_us(1);
    lab.detector.alloc(goes, 8, kmemleak::AllocOptions::new());
    lab.leaks();
    assert_eq!(new(&lab), [comes, goes]);
    // One that is freed after the check is reported no more.
    lab.detector.free(goes);
    assert_eq!(new(&lab), [comes]);
    // What was lost then, held meanwhile, and is lost again, was there.
    lab.hold(1, stays);
    lab.leaks();
    lab.hold(1, 0);
    lab.leaks();
    assert_eq!(new(&lab), [comes]);
}

#[test]
fn many_leaks_are_told_apart() {
    let lab = Lab::new();
    // More than one piece of metadata remembers, some of the same age.
    let mut blocks = Vec::new();
    for number in 0..300 {
        let start = lab.machine.slab(16);
        lab.machine.advance_us(u64::from(number % 3 == 0));
        lab.detector.alloc(start, 16, kmemleak::AllocOptions::new());
        blocks.push(start);
    }
    let held: Vec<usize> = (0..60).map(|index| blocks[index * 5]).collect();
    for (index, &block) in held.iter().enumerate() {
        lab.hold(index, block);
    }
    lab.say("mark");
    (0..60).for_each(|index| lab.hold(index, 0));
    lab.leaks();
    let mut found = new(&lab);
    found.sort_unstable();
    let mut held = held;
    held.sort_unstable();
    assert_eq!(found, held);
}

#[test]
fn without_memory_nothing_is_remembered() {
    let lab = Lab::new();
    let early = lab.block(8);
    lab.leaks();
    lab.detector.exhaust_metadata(true);
    assert_eq!(lab.detector.mark(), Err(kmemleak::NotDone::NoMemory));
    assert_eq!(
        lab.say("mark"),
        "kmemleak: no memory for a new mark: the mark before it stays\n\
         kmemleak: 0 unreferenced objects (0 bytes), 1 suspect, 1 unrecorded\n",
        "there was a check, and it has its sum as any other"
    );
    assert_eq!(new(&lab), [early]);
    lab.detector.exhaust_metadata(false);
    assert_eq!(lab.detector.mark(), Ok(()));
    assert_eq!(new(&lab), []);
}

/// Leaks of before the first mark don't turn new because a second one failed, nor does what is alive turn into growth.
#[test]
fn a_mark_without_memory_leaves_the_one_before() {
    // Want of memory comes where leaks are remembered, then where call sites are counted, then nowhere.
    let mut failed = 0;
    for budget in 0.. {
        let lab = Lab::new();
        let early = block(&lab, "early", 8);
        lab.leaks();
        assert_eq!(lab.detector.mark(), Ok(()));
        let sites_before = sites(&lab);
        let late: Vec<usize> = (0..300)
            .map(|number| block(&lab, &format!("late {number}"), 16))
            .collect();
        assert_eq!(lab.leaks().len(), 301);
        lab.machine.set_metadata_budget(budget);
        let marked = lab.detector.mark();
        lab.machine.set_metadata_budget(usize::MAX);
        if marked == Ok(()) {
            assert_eq!(new(&lab), []);
            assert_eq!(lab.status("unrecorded"), "0 (ever: 0)");
            break;
        }
        failed += 1;
        assert_eq!(marked, Err(kmemleak::NotDone::NoMemory));
        assert_eq!(new(&lab), late, "the early one, {early:#x}, was there");
        let early_site = sites(&lab)
            .into_iter()
            .find(|site| site.0 == sites_before[0].0);
        assert_eq!(early_site, Some(sites_before[0].clone()));
        // And somebody hears of it.
        assert_eq!(lab.status("state"), "enabled, incomplete");
        assert_eq!(lab.status("unrecorded"), "1 (ever: 1)");
        lab.say("clear");
        assert_eq!(lab.status("state"), "enabled");
    }
    assert!(failed > 1, "{failed} places at which memory was short");
}

#[test]
fn without_memory_for_the_list_the_new_ones_are_told_of_alone() {
    let lab = Lab::new();
    let early = lab.block(8);
    lab.say("mark");
    let late: Vec<usize> = (0..2000).map(|_| lab.block(8)).collect();
    lab.detector.exhaust_metadata(true);
    let summary = lab.detector.check().expect("on");
    assert_eq!((summary.objects, summary.leaders), (2001, None));
    let mut found = new(&lab);
    found.sort_unstable();
    let mut wanted = late;
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let answer = lab.say("new --full");
    assert_eq!(answer.matches("unreferenced object 0x").count(), 2000);
    assert!(!answer.contains(&format!("{early:#018x}")));
    assert!(answer.contains("kmemleak: 2000 objects (16000 bytes, 15.6 KiB) new since the mark\n"));
}

#[test]
fn a_mark_gives_its_memory_back() {
    let lab = Lab::new();
    (0..500).for_each(|_| _ = lab.block(8));
    // While one mark takes the place of another there are two.
    lab.say("mark");
    lab.say("mark");
    lab.detector.unmark().expect("asked from outside");
    let before = (
        lab.detector.metadata().objects,
        lab.machine.metadata_pages(),
    );
    for _ in 0..10 {
        lab.say("mark");
        lab.say("mark");
        lab.detector.unmark().expect("asked from outside");
        assert_eq!(
            (
                lab.detector.metadata().objects,
                lab.machine.metadata_pages()
            ),
            before
        );
    }
}

#[test]
fn call_sites_grow_and_shrink() {
    let lab = Lab::new();
    let probe = block(&lab, "probe", 100);
    let open: Vec<usize> = (0..3).map(|_| block(&lab, "open", 40)).collect();
    let rows = [("open", 120, 3), ("probe", 100, 1)];
    let grown = |(name, bytes, blocks): (&str, usize, usize), growth: (i64, i64)| {
        (name.to_owned(), bytes, blocks, growth.0, growth.1)
    };
    // All is growth where there is no mark.
    assert_eq!(
        sites(&lab),
        [grown(rows[0], (120, 3)), grown(rows[1], (100, 1))]
    );
    assert_eq!(lab.detector.mark(), Ok(()));
    assert_eq!(
        sites(&lab),
        [grown(rows[0], (0, 0)), grown(rows[1], (0, 0))]
    );
    lab.free(open[0]);
    lab.free(open[2]);
    lab.free(probe);
    block(&lab, "mount", 8);
    assert_eq!(
        sites(&lab),
        [
            grown(("open", 40, 1), (-80, -2)),
            grown(("mount", 8, 1), (8, 1)),
            grown(("probe", 0, 0), (-100, -1)),
        ]
    );
    // What is gone, and was at the mark, is seen once more only.
    assert_eq!(lab.detector.mark(), Ok(()));
    assert_eq!(sites(&lab).len(), 2);
    lab.detector.unmark().expect("asked from outside");
    assert_eq!(
        sites(&lab),
        [
            grown(("open", 40, 1), (40, 1)),
            grown(("mount", 8, 1), (8, 1))
        ]
    );
    // Reachable or not does not matter, nor does a check.
    lab.leaks();
    assert_eq!(sites(&lab).len(), 2);
}

#[test]
fn the_top_of_the_sites() {
    let lab = Lab::new();
    for number in 0..15 {
        block(&lab, &format!("site_{number}."), 8 * (number + 1));
    }
    let shown = |command: &str| {
        let answer = lab.say(command);
        let end = answer.lines().last().expect("one").to_owned();
        (answer.matches("site_").count(), end)
    };
    assert_eq!(
        shown("sites"),
        (10, "kmemleak: 10 of 15 call sites, by bytes".into())
    );
    assert_eq!(
        shown("sites 3"),
        (3, "kmemleak: 3 of 15 call sites, by bytes".into())
    );
    assert_eq!(
        shown("sites 0"),
        (0, "kmemleak: 0 of 15 call sites, by bytes".into())
    );
    assert_eq!(
        shown("sites=99"),
        (15, "kmemleak: 15 of 15 call sites, by bytes".into())
    );
    let answer = lab.say("sites 1 --full");
    assert!(
        answer.starts_with("120 bytes in 1 object, #1:\n"),
        "{answer}"
    );
    assert!(answer.contains("\n    site_14.\n"));
    lab.say("mark");
    block(&lab, "site_14.", 8);
    let answer = lab.say("sites 1 --by bytes --full");
    assert!(
        answer.starts_with("128 bytes in 2 objects, grown by +8 bytes (+1), #1:\n"),
        "{answer}"
    );
    assert_eq!(
        lab.say("sites x"),
        "kmemleak: sites: invalid value `x`: expected a number\n"
    );
    assert_eq!(
        lab.say("sites -1"),
        "kmemleak: sites: invalid value `-1`: expected a number\n"
    );
}

/// What grows comes first where there is a mark, however small it is.
#[test]
fn the_order_of_the_sites() {
    let lab = Lab::new();
    block(&lab, "large", 4000);
    (0..9).for_each(|_| _ = block(&lab, "many", 8));
    block(&lab, "grows", 16);
    let first = |command: &str| {
        let answer = lab.say(command);
        let name = ["large", "many", "grows"]
            .into_iter()
            .find(|name| answer.contains(&format!(" {name}\n")));
        let end = answer.lines().last().expect("one").to_owned();
        (name, end)
    };
    let end = |by: &str| format!("kmemleak: 1 of 3 call sites, by {by}");
    assert_eq!(first("sites 1"), (Some("large"), end("bytes")));
    assert_eq!(first("sites 1 --by count"), (Some("many"), end("count")));
    let no_mark = "kmemleak: no mark to measure growth from: \"mark\" makes one\n";
    assert_eq!(lab.say("sites --by growth"), no_mark);
    let order = kmemleak::SiteOrder::Growth;
    let refused = lab.detector.for_each_site(order, &mut |_| panic!("no"));
    assert_eq!(refused, Err(kmemleak::NotDone::NoMark));
    lab.say("mark");
    block(&lab, "grows", 16);
    for command in ["sites 1", "sites 1 --by growth", "sites --by=growth 1"] {
        assert_eq!(first(command), (Some("grows"), end("growth")));
    }
    assert_eq!(first("sites 1 --by bytes"), (Some("large"), end("bytes")));
    lab.detector.unmark().expect("asked from outside");
    assert_eq!(first("sites 1"), (Some("large"), end("bytes")));
    assert_eq!(lab.say("sites --by growth"), no_mark);
}

/// The history of a site by its name, in text: the head of its answer, and the marks.
fn history(lab: &Lab, name: &str) -> (String, Option<String>) {
    let answer = lab.say("sites 100 --full");
    let mut head = String::new();
    let mut marks = None;
    for line in answer.lines() {
        if line.contains(" bytes in ") {
            (head, marks) = (line.to_owned(), None);
        } else if line.starts_with("  bytes at ") {
            marks = Some(line.trim().to_owned());
        } else if line.trim() == name {
            return (head, marks);
        }
    }
    panic!("no {name} in {answer}");
}

#[test]
fn a_steady_climb_is_told_from_a_step() {
    let lab = Lab::new();
    block(&lab, "climbs", 100);
    block(&lab, "steps", 100);
    lab.say("mark");
    let (head, marks) = history(&lab, "climbs");
    assert_eq!(head, "100 bytes in 1 object, grown by +0 bytes (+0), #1:");
    assert_eq!(marks, None, "one mark is no history");
    for round in 0..4 {
        block(&lab, "climbs", 10);
        if round == 1 {
            block(&lab, "steps", 400);
        }
        lab.say("mark");
    }
    block(&lab, "climbs", 10);
    assert_eq!(
        history(&lab, "climbs"),
        (
            "150 bytes in 6 objects, grown by +10 bytes (+1), steady, #1:".into(),
            Some("bytes at the last 5 marks: 100, 110, 120, 130, 140, now 150".into())
        )
    );
    assert_eq!(
        history(&lab, "steps"),
        (
            "500 bytes in 2 objects, grown by +0 bytes (+0), step, #2:".into(),
            Some("bytes at the last 5 marks: 100, 100, 500, 500, 500, now 500".into())
        )
    );
    // Eight are kept; what came late had nothing before.
    block(&lab, "late", 7);
    (0..6).for_each(|_| _ = lab.say("mark"));
    assert_eq!(
        history(&lab, "late").1,
        Some("bytes at the last 8 marks: 0, 0, 7, 7, 7, 7, 7, 7, now 7".into())
    );
    lab.detector.unmark().expect("asked from outside");
    assert_eq!(
        history(&lab, "climbs"),
        ("150 bytes in 6 objects, #1:".into(), None)
    );
}

/// A mark for which there is no memory leaves the history as it is, and so does one that a second try makes good.
#[test]
fn want_of_memory_keeps_the_history() {
    let lab = Lab::new();
    block(&lab, "early", 8);
    (0..2).for_each(|_| assert_eq!(lab.detector.mark(), Ok(())));
    block(&lab, "early", 8);
    (0..300).for_each(|number| _ = block(&lab, &format!("late {number}"), 8));
    lab.machine.set_metadata_budget(0);
    assert_eq!(lab.detector.mark(), Err(kmemleak::NotDone::NoMemory));
    lab.machine.set_metadata_budget(usize::MAX);
    let before = history(&lab, "early");
    assert_eq!(
        before.1,
        Some("bytes at the last 2 marks: 8, 8, now 16".into())
    );
    assert_eq!(lab.detector.mark(), Ok(()));
    assert_eq!(
        history(&lab, "early").1,
        Some("bytes at the last 3 marks: 8, 8, 16, now 16".into())
    );
}

#[test]
fn a_changed_call_stack_moves_to_its_site() {
    let lab = Lab::new();
    let pooled = block(&lab, "pool", 64);
    assert_eq!(lab.detector.mark(), Ok(()));
    lab.machine.call_from(&["user"]);
    lab.detector.update_trace(pooled);
    assert_eq!(
        sites(&lab),
        [
            ("user".into(), 64, 1, 64, 1),
            ("pool".into(), 0, 0, -64, -1)
        ]
    );
}

#[test]
fn percpu_blocks_count_once_and_black_ones_count() {
    let lab = Lab::new();
    lab.machine.call_from(&["percpu"]);
    lab.detector.alloc_percpu(lab.machine.percpu(24), 24);
    lab.detector.ignore(block(&lab, "ignored", 8));
    assert_eq!(
        sites(&lab),
        [
            ("percpu".into(), 24, 1, 24, 1),
            ("ignored".into(), 8, 1, 8, 1)
        ]
    );
}

#[test]
fn without_memory_to_count_it_says_so() {
    let lab = Lab::new();
    block(&lab, "probe", 8);
    lab.detector.exhaust_metadata(true);
    assert_eq!(
        lab.detector
            .for_each_site(kmemleak::SiteOrder::Bytes, &mut |_| ()),
        Err(kmemleak::NotDone::NoMemory)
    );
    assert_eq!(
        lab.say("sites"),
        "kmemleak: no memory to count all call sites\nkmemleak: 0 of 0 call sites, by bytes\n"
    );
}

#[test]
fn after_off_there_is_nothing_to_compare() {
    let lab = Lab::new();
    block(&lab, "probe", 8);
    lab.say("mark");
    lab.say("off");
    lab.say("clear");
    assert_eq!(new(&lab), []);
    assert_eq!(sites(&lab), []);
    assert_eq!(lab.detector.mark(), Ok(()));
    lab.detector.unmark().expect("asked from outside");
    assert_eq!(lab.machine.metadata_pages(), 0);
}
