//! Judged call stacks: which suppressions match them is found out once, and what is kept of that stays small.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::lab::Lab;

/// Lost blocks that these functions allocated.
fn lose(lab: &Lab, functions: &[&str]) -> Vec<usize> {
    let block = |function: &&str| {
        lab.machine.call_from(&[function, "caller"]);
        lab.block(64)
    };
    functions.iter().map(block).collect()
}

/// Counts how often the detector has something named.
fn count_names(lab: &Lab) -> impl FnMut() -> usize + use<> {
    let named = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&named);
    lab.machine
        .at_name(move || _ = count.fetch_add(1, Ordering::Relaxed));
    move || named.swap(0, Ordering::Relaxed)
}

#[test]
fn functions_are_named_once_for_each_call_stack() {
    let lab = Lab::new();
    let mut named = count_names(&lab);
    let told = lose(&lab, &["open", "open", "close"]);
    assert_eq!(lab.leaks(), told);
    assert_eq!(named(), 0, "nothing is suppressed");
    lab.detector.suppress("probe").expect("room");
    assert_eq!(lab.leaks(), told);
    let first = named();
    assert!(first > 0);
    for _ in 0..3 {
        assert_eq!(lab.leaks(), told);
        assert_eq!(named(), 0, "each call stack is known");
    }
    lose(&lab, &["open", "read"]);
    lab.leaks();
    let another = named();
    assert!(another > 0 && another < first, "only the new one");
    // Against another suppression all are held anew.
    lab.detector.suppress("close").expect("room");
    lab.leaks();
    assert_eq!(named(), first + another);
}

#[test]
fn many_checks_take_no_more_memory_than_a_few() {
    let lab = Lab::new();
    for number in 0..20 {
        let pattern = format!("{}probe", "*".repeat(number));
        lab.detector.suppress(&pattern).expect("room");
    }
    lose(&lab, &["probe", "open"]);
    lab.leaks();
    let bytes = lab.detector.metadata().bytes;
    for _ in 0..200 {
        lab.leaks();
    }
    assert_eq!(lab.detector.metadata().bytes, bytes);
}

#[test]
fn suppressions_that_are_taken_back_give_their_memory_back() {
    let lab = Lab::new();
    let pattern = |number: usize| format!("{number}{}", "x".repeat(1000));
    let round = |number: usize| {
        lab.detector.suppress(&pattern(number)).expect("room");
        assert_eq!(lab.detector.unsuppress(&pattern(number)), Ok(true));
    };
    (0..10).for_each(round);
    let bytes = lab.detector.metadata().bytes;
    (10..300).for_each(round);
    assert_eq!(lab.detector.metadata().bytes, bytes);
}

#[test]
fn a_question_names_functions_for_suppressions_once() {
    let lab = Lab::new();
    let mut named = count_names(&lab);
    lab.leaks();
    let block = lose(&lab, &["open"])[0];
    let mut why = || {
        let answer = lab.say(&format!("why {block:#x}"));
        assert!(answer.contains("allocated after that check"), "{answer}");
        named()
    };
    let bare = why();
    assert_eq!(why(), bare);
    lab.detector.suppress("probe").expect("room");
    let judging = why();
    assert!(judging > bare, "{judging} names, and {bare} before");
    assert_eq!(why(), bare);
    assert_eq!(lab.detector.unsuppress("probe"), Ok(true));
    assert_eq!(why(), bare);
}

#[test]
fn nothing_is_suppressed_once_the_metadata_is_given_back() {
    let lab = Lab::new();
    lab.detector.suppress("probe").expect("room");
    let told = lose(&lab, &["probe", "open"]);
    assert_eq!(lab.leaks(), told[1..]);
    lab.say("off");
    lab.say("clear");
    let mut seen = 0;
    let asked = lab.detector.for_each_suppression(&mut |_| seen += 1);
    assert_eq!((asked, seen), (Ok(()), 0));
    let asked = lab.detector.for_each_group(&mut |_, _| seen += 1);
    assert_eq!((asked, seen), (Ok(()), 0));
}
