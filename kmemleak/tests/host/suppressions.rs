//! Suppressions: patterns and ceilings, where they come from, and what becomes of what they hide.

use kmemleak::{Detector, ParameterError, SuppressError};
use kmemleak_emulated::{Emulated, Machine};

use crate::lab::{Lab, pool};

/// A lost block that was allocated by this function.
fn lost(lab: &Lab, function: &str) -> usize {
    lab.machine.call_from(&[function, "caller"]);
    lab.block(64)
}

/// Patterns, with what matched, and the objects and bytes that they hide.
fn figures(lab: &Lab) -> Vec<(String, u64, u64, u64)> {
    let mut figures = Vec::new();
    lab.detector
        .for_each_suppression(&mut |one| {
            figures.push((one.pattern.to_string(), one.matched, one.objects, one.bytes));
        })
        .expect("asked from outside");
    figures
}

fn suppressed(lab: &Lab) -> Vec<usize> {
    let mut starts = Vec::new();
    lab.detector
        .for_each_suppressed(&mut |object| starts.push(object.start))
        .expect("asked from outside");
    starts
}

fn matches(pattern: &str, name: &str) -> bool {
    let lab = Lab::new();
    assert_eq!(lab.detector.suppress(pattern), Ok(()), "{pattern}");
    lost(&lab, name);
    lab.leaks().is_empty()
}

#[test]
fn a_star_is_any_text_and_the_rest_is_itself() {
    for (pattern, name, expected) in [
        ("probe", "probe", true),
        ("probe", "probe2", false),
        ("probe", "aprobe", false),
        ("*", "probe", true),
        ("**", "probe", true),
        ("***********", "p", true),
        ("probe*", "probe", true),
        ("*probe", "probe", true),
        ("*robe*", "a::probe::b", true),
        ("a*b*c", "abc", true),
        ("a*b*c", "a1b2b3c", true),
        ("a*b*c", "acb", false),
        ("a*b*c", "abcd", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*ab*ab*", "abab", true),
        ("*ab*ab*", "aba", false),
        ("?", "x", false),
        (".", "x", false),
        ("ünï*", "ünïcödé", true),
        ("ünï*", "unicode", false),
        ("<T as Foo>::*", "<T as Foo>::bar", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
    }
}

#[test]
fn the_last_segments_of_a_path_are_enough() {
    let path = "kernel::shell::leak::arc_cycle";
    let vec = "<alloc::vec::Vec<kernel::Foo> as core::ops::Drop>::drop";
    let closure = "kernel::task::start::{closure#0}";
    for (pattern, name, expected) in [
        ("arc_cycle", path, true),
        ("leak::arc_cycle", path, true),
        ("shell::leak::arc_cycle", path, true),
        (path, path, true),
        ("arc_cycl", path, false),
        ("rc_cycle", path, false),
        ("ak::arc_cycle", path, false),
        ("leak", path, false),
        ("kernel", path, false),
        ("kernel::shell::leak", path, false),
        ("::arc_cycle", path, false),
        (":arc_cycle", path, false),
        ("leak::arc_cycle::", path, false),
        // Stars are what they were, from each place on.
        ("leak::*", path, true),
        ("arc_*", path, true),
        ("*_cycle", path, true),
        ("s*::a*", path, true),
        ("shell::*::leak", path, false),
        ("drop", vec, true),
        ("<alloc::vec::Vec<*> as *>::drop", vec, true),
        ("Drop>::drop", vec, true),
        ("Drop::drop", vec, false),
        ("Drop", vec, false),
        ("Vec", vec, false),
        ("{closure#0}", closure, true),
        ("start::{closure#0}", closure, true),
        ("start::*", closure, true),
        ("start", closure, false),
        // One colon parts nothing, and where three are there are two places.
        ("b", "a:b", false),
        ("b", "a: :b", false),
        ("b", "a:::b", true),
        (":b", "a:::b", true),
        ("b", "::b", true),
        ("a", "a::", false),
        ("*", "a::", true),
        ("aab", "x::aaab", false),
        ("a::b", "a::a::b", true),
        ("a::a::c", "a::a::a::c", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
    }
}

/// By trying out, for texts of few letters, all of them: what a pattern matches.
#[test]
fn it_matches_what_the_rule_says() {
    fn whole(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| whole(rest, &name[skip..])),
            Some((byte, rest)) => name.first() == Some(byte) && whole(rest, &name[1..]),
        }
    }
    fn rule(pattern: &str, name: &str) -> bool {
        let behind = name.match_indices("::").map(|(at, _)| at + 2);
        let mut from = behind.chain([0]);
        from.any(|from| whole(pattern.as_bytes(), &name.as_bytes()[from..]))
    }
    let lab = Lab::new();
    let text = |mut number: usize, letters: &[&str]| {
        let mut text = String::new();
        while number > 0 {
            text += letters[number % letters.len()];
            number /= letters.len();
        }
        text
    };
    let names = (1..120).map(|name| text(name, &["b", "a", "::"]));
    let blocks: Vec<(String, usize)> = names
        .map(|name| (name.clone(), lost(&lab, &name)))
        .collect();
    for pattern in (1..200)
        .step_by(2)
        .map(|number| text(number, &["a", "::", "*", "b"]))
    {
        assert_eq!(lab.detector.suppress(&pattern), Ok(()), "{pattern}");
        let leaks = lab.leaks();
        for (name, block) in &blocks {
            let hidden = !leaks.contains(block);
            // Its caller has a name as well.
            let expected = rule(&pattern, name) || rule(&pattern, "caller");
            assert_eq!(hidden, expected, "{pattern} and {name}");
        }
        lab.detector.unsuppress_all().expect("asked from outside");
    }
}

#[test]
fn any_frame_of_the_call_stack_is_enough() {
    let lab = Lab::new();
    lab.detector.suppress("driver*").expect("room");
    lab.machine.call_from(&["alloc", "driver_open", "main"]);
    let block = lab.block(64);
    assert_eq!(lab.leaks(), []);
    assert_eq!(suppressed(&lab), [block]);
}

#[test]
fn a_pattern_is_not_held_against_several_frames_together() {
    let lab = Lab::new();
    lab.detector.suppress("alloc*main").expect("room");
    lab.machine.call_from(&["alloc", "main"]);
    let block = lab.block(64);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn long_patterns() {
    for len in [
        63, 64, 65, 127, 128, 129, 159, 160, 161, 255, 256, 319, 320, 321, 5000,
    ] {
        let name: String = ('a'..='z').cycle().take(len).collect();
        assert!(matches(&name, &name), "{len}");
        assert!(!matches(&name, &name[1..]), "{len}");
        assert!(!matches(&name, &format!("{name}x")), "{len}");
        let starred = format!("{}*", &name[..len - 1]);
        assert!(matches(&starred, &name), "{len}");
        assert!(matches(&starred, &format!("{name}{name}")), "{len}");
        assert!(!matches(&starred, &name[..len - 2]), "{len}");
    }
    assert!(matches(&"*".repeat(1000), "short"));
    let long = "x".repeat(1000);
    assert!(matches("x*x", &long));
    // Each character is told whole, wherever the text is parted.
    let lab = Lab::new();
    let odd = format!("x{}", "ünï".repeat(500));
    lab.detector.suppress(&odd).expect("room");
    assert_eq!(figures(&lab)[0].0, odd);
    assert!(lab.say("suppress --json").contains(&odd));
    assert_eq!(lab.detector.unsuppress(&odd), Ok(true));
    assert_eq!(figures(&lab), []);
}

#[test]
fn what_is_no_pattern() {
    let lab = Lab::new();
    let suppress = |pattern: &str| lab.detector.suppress(pattern);
    assert_eq!(suppress(""), Err(SuppressError::Empty));
    assert_eq!(suppress(":max=3"), Err(SuppressError::Empty));
    for ceiling in [
        "",
        "x",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
    ] {
        let pattern = format!("probe:max={ceiling}");
        assert_eq!(suppress(&pattern), Err(SuppressError::Ceiling), "{ceiling}");
    }
    assert_eq!(figures(&lab), []);
    // The last one counts, and colons are text.
    assert_eq!(suppress("a::b:max=1:max=2"), Ok(()));
    assert_eq!(figures(&lab)[0].0, "a::b:max=1");
}

#[test]
fn as_many_as_memory_takes() {
    const MANY: usize = 300;
    let lab = Lab::new();
    for number in 0..MANY {
        assert_eq!(lab.detector.suppress(&format!("site_{number}")), Ok(()));
    }
    // One that is there only gets another ceiling.
    assert_eq!(lab.detector.suppress("site_5:max=0"), Ok(()));
    let over = lost(&lab, "site_5");
    let hidden: Vec<usize> = [0, 31, 32, 63, 64, 65, 128, 299]
        .map(|number| lost(&lab, &format!("site_{number}")))
        .into();
    let told = lost(&lab, "one_more");
    assert_eq!(lab.leaks(), [over, told]);
    assert_eq!(suppressed(&lab), hidden);
    assert_eq!(figures(&lab).len(), MANY);
    assert_eq!(figures(&lab)[64], ("site_64".into(), 1, 1, 64));
    assert_eq!(lab.detector.unsuppress("site_299"), Ok(true));
    assert_eq!(lab.detector.suppress("one_more"), Ok(()));
    assert_eq!(lab.leaks(), [over, hidden[7]]);
    // And without memory one more is refused, and nothing of it stays.
    lab.detector.exhaust_metadata(true);
    assert_eq!(lab.detector.suppress("last"), Err(SuppressError::NoMemory));
    lab.detector.exhaust_metadata(false);
    assert_eq!(figures(&lab).len(), MANY);
}

/// Several that match one block count each for itself, and the first hides.
#[test]
fn many_for_one_block() {
    let lab = Lab::new();
    for number in 0..100 {
        lab.detector
            .suppress(&format!("{}p*:max=0", "*".repeat(number)))
            .expect("room");
    }
    let block = lost(&lab, "a::probe");
    assert_eq!(lab.leaks(), [block]);
    assert!(figures(&lab).iter().all(|one| (one.1, one.2) == (1, 0)));
    lab.detector
        .suppress(&format!("{}p*", "*".repeat(77)))
        .expect("known");
    assert_eq!(lab.leaks(), []);
    assert_eq!(figures(&lab)[77].2, 1);
}

#[test]
fn the_ceiling_is_reached_and_passed_and_kept_again() {
    let lab = Lab::new();
    lab.detector.suppress("probe:max=2").expect("room");
    let mut blocks = vec![lost(&lab, "probe"), lost(&lab, "probe")];
    assert_eq!(lab.leaks(), []);
    assert_eq!(figures(&lab), [("probe".into(), 2, 2, 128)]);
    blocks.push(lost(&lab, "probe"));
    assert_eq!(lab.leaks(), blocks);
    assert_eq!(figures(&lab), [("probe".into(), 3, 0, 0)]);
    assert!(
        lab.say("suppress")
            .contains("  probe:max=2  3 matched, over its ceiling, 0 objects (0 bytes) hidden\n")
    );
    lab.free(blocks[0]);
    assert_eq!(lab.leaks(), []);
    assert_eq!(figures(&lab), [("probe".into(), 2, 2, 128)]);
    // The same pattern again: its ceiling goes up, down, and away.
    blocks.push(lost(&lab, "probe"));
    lab.detector.suppress("probe:max=3").expect("known");
    assert_eq!(lab.leaks(), []);
    lab.detector.suppress("probe:max=1").expect("known");
    assert_eq!(lab.leaks(), blocks[1..]);
    lab.detector.suppress("probe").expect("known");
    assert_eq!(lab.leaks(), []);
}

#[test]
fn what_matches_counts_whoever_else_owns_it() {
    let lab = Lab::new();
    lab.detector.suppress("probe:max=1").expect("room");
    let (owner, owned) = (lost(&lab, "probe"), lost(&lab, "probe"));
    lab.machine.write(owner, owned);
    assert_eq!(lab.leaks(), [owner, owned]);
    lab.detector.suppress("probe:max=2").expect("known");
    assert_eq!(lab.leaks(), []);
}

/// The call stack of what a hidden one owns may never have been listed as a leak.
#[test]
fn what_matches_counts_even_if_it_was_hidden_before_it_was_judged() {
    let lab = Lab::new();
    lab.detector.suppress("probe:max=1").expect("room");
    let first = lost(&lab, "probe");
    assert_eq!(lab.leaks(), []);
    lab.machine.call_from(&["probe", "another"]);
    let second = lab.block(64);
    lab.machine.write(first, second);
    assert_eq!(lab.leaks(), [first, second]);
    assert_eq!(figures(&lab), [("probe".into(), 2, 0, 0)]);
}

/// What a new suppression is said to match is what the next check counts, whatever others hide.
#[test]
fn what_matches_is_foreseen() {
    let answers = |patterns: &[&str]| {
        let lab = Lab::new();
        let mut blocks = Vec::new();
        for path in ["a::probe", "b::probe", "a::open", "b::open"] {
            blocks.push(lost(&lab, path));
        }
        lab.leaks();
        for (place, pattern) in patterns.iter().enumerate() {
            let answer = lab.say(&format!("suppress {pattern} --json"));
            let value = |field: &str| -> u64 {
                let (_, rest) = answer.split_once(field).expect(field);
                let digits = rest.split(|one: char| !one.is_ascii_digit());
                digits
                    .into_iter()
                    .next()
                    .expect(field)
                    .parse()
                    .expect(field)
            };
            let (matched, objects) = (value("\"matched\":"), value("\"objects\":"));
            let before = lab.listed().len();
            lab.leaks();
            let now = figures(&lab);
            let (name, _) = pattern.split_once(":max=").unwrap_or((pattern, ""));
            let figure = now.iter().find(|(one, ..)| one == name).expect("added");
            assert_eq!(figure.1, matched, "{patterns:?} {place}: {answer}");
            let hidden = before.saturating_sub(lab.listed().len()) as u64;
            assert_eq!(hidden, objects, "{patterns:?} {place}: {answer}");
        }
    };
    let all = [
        "probe",
        "a::*",
        "open",
        "probe:max=1",
        "*:max=3",
        "*:max=4",
        "open:max=1",
    ];
    for first in all {
        for second in all {
            for third in all {
                answers(&[first, second, third]);
            }
        }
    }
}

#[test]
fn what_a_hidden_one_owns_is_hidden_for_the_first_that_leads_there() {
    let lab = Lab::new();
    for pattern in ["first", "second"] {
        lab.detector.suppress(pattern).expect("room");
    }
    let (second, first) = (lost(&lab, "second"), lost(&lab, "first"));
    let (shared, below, lone) = (
        lost(&lab, "third"),
        lost(&lab, "third"),
        lost(&lab, "third"),
    );
    lab.machine.write(second, shared);
    lab.machine.write(second + 8, lone);
    lab.machine.write(first, shared + 16);
    lab.machine.write(shared, below);
    assert_eq!(lab.leaks(), []);
    assert_eq!(suppressed(&lab), [second, first, shared, below, lone]);
    let expected = [("first".into(), 1, 3, 192), ("second".into(), 1, 2, 128)];
    assert_eq!(figures(&lab), expected);
    let summary = lab.detector.check().expect("on");
    assert_eq!(
        (summary.suppressed_objects, summary.suppressed_bytes),
        (5, 320)
    );
    assert_eq!(
        lab.status("suppressions"),
        "2, hiding 5 objects (320 bytes)"
    );
}

#[test]
fn a_child_that_a_leak_has_as_well_is_hidden() {
    let lab = Lab::new();
    lab.detector.suppress("known").expect("room");
    let (leader, hidden, child) = (lost(&lab, "new"), lost(&lab, "known"), lost(&lab, "new"));
    lab.machine.write(leader, child);
    lab.machine.write(hidden, child);
    assert_eq!(lab.leaks(), [leader]);
    assert!(
        lab.report()
            .contains("kmemleak: 2 objects (128 bytes) suppressed\n")
    );
    // And what points to a hidden one is none the less a leak.
    lab.machine.write(leader + 8, hidden);
    assert_eq!(lab.leaks(), [leader]);
    assert!(!lab.report().contains("owns"));
}

#[test]
fn taken_back() {
    let lab = Lab::new();
    lab.detector.suppress("probe").expect("room");
    lab.detector.suppress("open:max=4").expect("room");
    let (one, other) = (lost(&lab, "probe"), lost(&lab, "open"));
    assert_eq!(lab.leaks(), []);
    assert_eq!(
        lab.say("unsuppress probe"),
        "kmemleak: \"probe\" hides nothing any more\n"
    );
    assert_eq!(lab.leaks(), [one]);
    assert_eq!(
        lab.say("unsuppress probe"),
        "kmemleak: no suppression \"probe\"\n"
    );
    // As it is listed, ceiling and all.
    assert_eq!(
        lab.say("unsuppress open:max=4"),
        "kmemleak: \"open:max=4\" hides nothing any more\n"
    );
    assert_eq!(lab.leaks(), [one, other]);
    lab.detector.suppress("*").expect("room");
    assert_eq!(lab.leaks(), []);
    lab.detector.unsuppress_all().expect("asked from outside");
    assert_eq!(lab.leaks(), [one, other]);
    assert_eq!(figures(&lab), []);
}

#[test]
fn by_boot_parameter() {
    let lab = Lab::new();
    let boot = |word: &str| lab.detector.boot_parameter(word);
    assert_eq!(boot("kmemleak.suppress=probe,open:max=2"), Ok(()));
    assert_eq!(boot("kmemleak.suppress=a=b"), Ok(()));
    let names: Vec<String> = figures(&lab).into_iter().map(|one| one.0).collect();
    assert_eq!(names, ["probe", "open", "a=b"]);
    let error = |error| Err(ParameterError::Suppress(error));
    assert_eq!(boot("kmemleak.suppress="), error(SuppressError::Empty));
    // Not "on".
    assert_eq!(boot("kmemleak.suppress"), Err(ParameterError::Value));
    // One that is none takes none of the others with it.
    assert_eq!(
        boot("kmemleak.suppress=x:max=y,good,,better"),
        error(SuppressError::Ceiling)
    );
    let names: Vec<String> = figures(&lab).into_iter().map(|one| one.0).collect();
    assert_eq!(names, ["probe", "open", "a=b", "good", "better"]);
}

#[test]
fn from_the_kernels_source() {
    let lab = Lab::new();
    let machine = Machine::new();
    let detector: Detector<_> = Detector::new(Emulated::of(&machine))
        .with_pool(pool::<16>())
        .with_suppressions(&["probe", "", "open:max=1", "probe:max=9"]);
    let mut status = String::new();
    detector.command("status", &mut status).expect("text");
    assert!(
        status.contains("\nsuppressions 2, hiding 0 objects (0 bytes)\n"),
        "{status}"
    );
    machine.call_from(&["probe"]);
    for _ in 0..9 {
        detector.alloc(machine.slab(8), 8, kmemleak::AllocOptions::new());
    }
    machine.advance_us(1);
    assert_eq!(detector.check().expect("on").objects, 0);
    detector.alloc(machine.slab(8), 8, kmemleak::AllocOptions::new());
    assert_eq!(detector.check().expect("on").objects, 10);
    // Once taken back, it stays so.
    assert_eq!(detector.unsuppress("probe"), Ok(true));
    assert_eq!(detector.check().expect("on").suppressed_objects, 0);
    drop(lab);
}

#[test]
fn in_the_scan_and_in_the_background() {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    lab.say("scan=1");
    lab.detector.suppress("probe:max=1").expect("room");
    let hidden = lost(&lab, "probe");
    let step = || {
        let mut log = String::new();
        lab.machine.advance_us(1_000_000);
        lab.detector.background_step(&mut log);
        log
    };
    for _ in 0..3 {
        assert_eq!(step(), "");
    }
    assert_eq!(lab.listed(), []);
    assert_eq!(suppressed(&lab), [hidden]);
    for _ in 0..2 {
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        assert_eq!((lab.listed(), suppressed(&lab)), (vec![], vec![hidden]));
    }
    let second = lost(&lab, "probe");
    step();
    assert_eq!(
        step(),
        "kmemleak: 2 new unreferenced objects (128 bytes), see \"kmemleak report\"\n"
    );
    assert_eq!(step(), "");
    // Back under the ceiling: hidden, and what is hidden is not said to be referenced again.
    lab.free(second);
    assert_eq!(step(), "");
    assert_eq!(suppressed(&lab), [hidden]);
    // It was reported, and is the same leak still.
    assert_eq!(lab.detector.unsuppress("probe"), Ok(true));
    assert_eq!(step(), "");
    assert_eq!(lab.listed(), [hidden]);
}

#[test]
fn one_that_was_told_of_and_was_referenced_while_it_was_hidden_is_new_again() {
    let lab = Lab::new();
    let block = lost(&lab, "probe");
    lab.say("scan");
    lab.detector.suppress("probe").expect("room");
    assert_eq!(lab.leaks(), []);
    lab.hold(0, block);
    assert_eq!(lab.leaks(), []);
    lab.hold(0, 0);
    assert_eq!(lab.detector.unsuppress("probe"), Ok(true));
    assert_eq!(lab.detector.check().expect("on").unreported_objects, 1);
    lab.say("scan");
    // Hidden and lost all the time: not new.
    lab.detector.suppress("probe").expect("room");
    assert_eq!(lab.leaks(), []);
    assert_eq!(lab.detector.unsuppress("probe"), Ok(true));
    assert_eq!(lab.detector.check().expect("on").unreported_objects, 0);
}

#[test]
fn clear_leaves_what_is_hidden_as_it_is() {
    let lab = Lab::new();
    lab.detector.suppress("probe").expect("room");
    let (hidden, told) = (lost(&lab, "probe"), lost(&lab, "open"));
    assert_eq!(lab.leaks(), [told]);
    lab.say("clear");
    // There is no verdict that anything could be hidden from.
    assert_eq!(suppressed(&lab), []);
    assert_eq!(lab.status("suppressions"), "1, hiding 0 objects (0 bytes)");
    assert_eq!(figures(&lab), [("probe".into(), 0, 0, 0)]);
    assert_eq!(lab.leaks(), []);
    assert_eq!(suppressed(&lab), [hidden]);
    assert_eq!(lab.detector.unsuppress("probe"), Ok(true));
    assert_eq!(lab.leaks(), [hidden]);
}

#[test]
fn without_memory() {
    let lab = Lab::new();
    let block = lost(&lab, "probe");
    lab.detector.exhaust_metadata(true);
    assert_eq!(lab.detector.suppress("probe"), Err(SuppressError::NoMemory));
    assert_eq!(
        lab.say("suppress probe"),
        "kmemleak: no memory for one more suppression\n"
    );
    lab.detector.exhaust_metadata(false);
    assert_eq!(lab.detector.suppress("probe"), Ok(()));
    // The call stack can't be judged: the leak is reported.
    lab.detector.exhaust_metadata(true);
    assert_eq!(lab.leaks(), [block]);
    lab.detector.exhaust_metadata(false);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn what_is_judged_stays_so_without_memory_for_the_list() {
    let lab = Lab::new();
    lab.detector.suppress("probe").expect("room");
    let hidden = lost(&lab, "probe");
    let first = lost(&lab, "open");
    assert_eq!(lab.leaks(), [first]);
    let more: Vec<usize> = (0..2000)
        .map(|number| lost(&lab, if number % 2 == 0 { "probe" } else { "open" }))
        .collect();
    // Owned by a hidden one.
    lab.machine.write(hidden, first);
    lab.detector.exhaust_metadata(true);
    let summary = lab.detector.check().expect("on");
    assert_eq!(summary.leaders, None);
    assert_eq!((summary.objects, summary.suppressed_objects), (1000, 1002));
    assert_eq!(summary.suppressed_bytes, 64 * 1002);
    assert_eq!(figures(&lab)[0], ("probe".into(), 1001, 1002, 64 * 1002));
    let mut listed = lab.listed();
    listed.sort_unstable();
    let mut wanted: Vec<usize> = more.iter().copied().skip(1).step_by(2).collect();
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
}

#[test]
fn a_changed_call_stack_is_judged_anew() {
    let lab = Lab::new();
    lab.detector.suppress("probe").expect("room");
    let block = lost(&lab, "probe");
    assert_eq!(lab.leaks(), []);
    lab.machine.call_from(&["open"]);
    lab.detector.update_trace(block);
    assert_eq!(lab.leaks(), [block]);
    lab.machine.call_from(&["probe"]);
    lab.detector.update_trace(block);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_pattern_is_shown_and_compared_as_its_text() {
    let (lab, other) = (Lab::new(), Lab::new());
    lab.detector.suppress("net::*").expect("room");
    for pattern in ["net::*", "net::*:max=3", "net::"] {
        other.detector.suppress(pattern).expect("room");
    }
    let mut seen = Vec::new();
    let mut look = |one: kmemleak::Suppression<'_>| {
        assert_eq!(format!("{:?}", one.pattern), "\"net::*\"");
        assert!(one.pattern == "net::*" && one.pattern == *"net::*");
        assert!(one.pattern != "net::" && one.pattern != *"net::**");
        other
            .detector
            .for_each_suppression(&mut |another| seen.push(another.pattern == one.pattern))
            .expect("asked from outside");
    };
    lab.detector
        .for_each_suppression(&mut look)
        .expect("asked from outside");
    // The ceiling is no part of it: the second one changed the first.
    assert_eq!(seen, [true, false]);
}
