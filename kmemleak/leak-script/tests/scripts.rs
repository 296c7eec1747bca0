//! The project's own scripts, and the museum's, on the host.

mod folder;

use leak_script::Checks;
use leak_script::host::{self, Outcome};

use folder::scripts;

#[test]
fn all_pass() {
    pass_with(Checks::Stopped);
}

#[test]
fn all_pass_in_frozen_memory() {
    pass_with(Checks::Frozen);
}

fn pass_with(checks: Checks) {
    let (own, museum) = (scripts("scripts"), scripts("museum"));
    assert!(!own.is_empty() && !museum.is_empty());
    let failures: Vec<String> = own
        .into_iter()
        .chain(museum)
        .filter_map(|(name, text)| match host::run_with(&text, 2, checks) {
            Outcome::Failed(failure) => Some(format!("{name}: {failure}")),
            Outcome::Passed | Outcome::Skipped => None,
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What the grammar has, each as it begins, or as it is found in a line.
const GRAMMAR: &[&str] = &[
    "alloc ",
    " align=",
    " min_count=2",
    " min_count=0",
    " min_count=-1",
    " from=slab",
    " from=pages",
    " from=vmalloc",
    " from=percpu",
    " site=",
    " type=",
    " counted",
    "free ",
    "realloc ",
    "free_part ",
    "not_leak ",
    "ignore ",
    "no_scan ",
    "scan_area ",
    "transient_leak ",
    "update_trace ",
    "strong ",
    "weak ",
    "erase ",
    "region add ",
    "region remove ",
    "disabled begin",
    "disabled end",
    "suppress ",
    "stack on",
    "stack off",
    "min_age ",
    "advance ",
    "scan",
    "check",
    "clear",
    "mark",
    "off",
    "metadata off",
    "metadata on",
    "blocked on ",
    " on end parked",
    " on end T1",
    "blocked T1 on ",
    "woken",
    "woken T1",
    "task_list ",
    "data 1 = ",
    "bss 0 = ",
    "percpu 0 ",
    "percpu 1 ",
    "page 0 = ",
    "stack 0 = ",
    "dead 0 = ",
    "reg 1 = ",
    "region 0 ",
    "[0]+8 = ",
    "[1]+8 = ",
    "+8 = ",
    " = A",
    " = A+1",
    " = A-1",
    " = end ",
    " = hidden ",
    " = 0",
    " = 0x",
    "expect leaks none",
    "expect leaks A",
    "expect direct ",
    "expect indirect ",
    "expect record ",
    "expect total ",
    "expect groups ",
    "expect interior none",
    "expect interior A",
    "expect stacks none",
    "expect stacks A",
    "expect suppressed none",
    "expect suppressed A",
    "expect new none",
    "expect new A",
    "expect growth ",
    "expect holders ",
    "expect path ",
    "expect type ",
    "expect cycle ",
    "expect counts none",
    "expect counts A",
    "expect warning unknown object",
    "expect warning scan area larger than object",
    "expect warning region",
    "expect warning disabled",
    "expect quiet",
    "expect tracked ",
    "expect state enabled",
    "expect state disabled",
    "expect state incomplete",
    "expect lost none",
    "expect lost parked",
    "expect lost T",
    "expect retains parked ",
    "expect retains T1 ",
];

#[test]
fn the_whole_grammar_is_used() {
    let scripts = scripts("scripts");
    let lines = || scripts.iter().flat_map(|(_, text)| text.lines());
    for part in GRAMMAR {
        let begins = part.starts_with(|first: char| first.is_ascii_lowercase());
        let used = lines().any(|line| match begins {
            true => line.starts_with(part),
            false => line.contains(part) && !line.starts_with('#'),
        });
        assert!(used, "no script has \"{part}\"");
    }
    for (name, text) in &scripts {
        assert!(text.starts_with("# "), "{name} doesn't say what it holds");
    }
}

/// The document of the language.
const FORMAT: &str = include_str!("../FORMAT.md");

#[test]
fn the_document_has_the_whole_grammar() {
    for part in GRAMMAR {
        let part = part.trim_start_matches("expect ").trim();
        let name = part.split([' ', '=']).next().unwrap_or(part);
        // All but bits of a line.
        if name.len() > 2 && name.starts_with(|first: char| first.is_ascii_lowercase()) {
            assert!(FORMAT.contains(&format!("`{name}")), "{part}");
        }
    }
}

#[test]
fn the_examples_of_the_document_pass() {
    let examples = FORMAT.split("```leak\n").skip(1);
    let examples: Vec<&str> = examples
        .filter_map(|text| text.split("```").next())
        .collect();
    assert!(examples.len() >= 5);
    for text in examples {
        assert!(text.contains("expect "), "{text}");
        assert_eq!(host::run(text, 2), Outcome::Passed, "{text}");
    }
}

#[test]
fn those_for_two_cpus_are_skipped_on_one() {
    let skipped = |text: &str| host::run(text, 1) == Outcome::Skipped;
    assert!(skipped("percpu 1 0 = 0"));
    assert!(skipped("# only: qemu\ncheck"));
    assert!(!skipped("percpu 0 0 = 0"));
}

/// The failure of a script that fails.
fn failure(text: &str) -> String {
    match host::run(text, 2) {
        Outcome::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_says_what_was_expected_and_what_there_was() {
    let head = "alloc B 64\nalloc A 64\ncheck\n";
    let told = failure(&format!("{head}expect leaks A"));
    assert_eq!(told, "line 4: expected leaks A, got A B");
    let told = failure(&format!("{head}expect leaks none"));
    assert_eq!(told, "line 4: expected leaks none, got A B");
    let told = failure(&format!("{head}expect total 64 1"));
    assert_eq!(told, "line 4: expected total 64 1, got 128 2");
    let told = failure(&format!("{head}expect warning region"));
    assert_eq!(told, "line 4: expected warning region, got no warning");
    let told = failure(&format!("{head}expect tracked 3"));
    assert_eq!(told, "line 4: expected tracked 3, got 2");
    let told = failure(&format!("{head}expect state disabled"));
    assert_eq!(told, "line 4: expected state disabled, got enabled");
}

#[test]
fn a_script_can_be_wrong_in_itself() {
    assert_eq!(failure("bss 0 = A"), "line 1: nothing was ever named A");
    assert_eq!(
        failure("expect leaks none"),
        "line 1: there was no check so far"
    );
    assert_eq!(failure("alloc A 8\nalloc A 8"), "line 2: A is live");
    let told = failure("alloc A 12\nA+8 = 0");
    assert_eq!(told, "line 2: A+8 is past its 12 bytes");
    let told = failure("alloc A 12 from=percpu\nA+0 = 0");
    assert_eq!(told, "line 2: A has a copy a cpu");
    for line in [
        "blocked A on bss 0",
        "blocked on end A",
        "woken A",
        "task_list A",
    ] {
        let told = failure(&format!("alloc A 16 from=percpu\n{line}"));
        assert_eq!(told, "line 2: A has a copy a cpu, as no task has");
    }
}

/// Whatever is asked for, it is this script alone that may fail, and with its line.
#[test]
fn numbers_of_any_size_bring_nothing_down() {
    let numbers = [
        "32769",
        "8388609",
        "268435457",
        "0x40000000000",
        "200000000000016",
        "0x7ffffffffffff000",
        "0x7fffffffffffffff",
        "0x8000000000000000",
        "0xfffffffffffff000",
        "0xfffffffffffffff8",
        "0xffffffffffffffff",
    ];
    let lines = [
        "alloc B N",
        "alloc B N from=pages",
        "alloc B N from=vmalloc",
        "alloc B N from=percpu",
        "alloc B 4096 align=N",
        "alloc B 4096 align=N from=pages",
        "alloc B 4096 align=N from=vmalloc",
        "alloc B 4096 align=N from=percpu",
        "realloc A N",
        "realloc P N",
        "realloc C N",
        "free_part P N 4096",
        "free_part P 4096 N",
        "A+N = A",
        "C[1]+N = A",
        "A = A+N",
        "A = A-N",
        "A = N",
        "scan_area A N 8",
        "scan_area A 8 N",
        "scan_area A N N",
        "erase A+N",
        "min_age N",
        "advance N",
        "region add N",
        "check\nexpect record A N N",
        "check\nexpect total N N",
        "check\nexpect growth A N -N",
        "expect tracked N",
    ];
    let head = "alloc A 64\nalloc P 16384 from=pages\nalloc C 64 from=percpu\n";
    for (line, number) in lines
        .iter()
        .flat_map(|line| numbers.map(|number| (line, number)))
    {
        let line = line.replace('N', number);
        let text = format!("{head}{line}\nadvance 1\nscan\ncheck\nexpect interior none\n");
        match host::run(&text, 2) {
            Outcome::Passed => {}
            Outcome::Failed(failure) => assert!(failure.line >= 4, "{line}: {failure}"),
            Outcome::Skipped => panic!("{line}"),
        }
    }
}

#[test]
fn a_block_that_is_too_large_is_told_with_its_line() {
    for (size, from) in [
        (200_000_000_000_016_usize, "percpu"),
        (1 << 40, "vmalloc"),
        (1 << 30, "vmalloc"),
        (1 << 24, "pages"),
        (1 << 16, "percpu"),
    ] {
        let told = failure(&format!("check\nalloc A {size} from={from}"));
        assert_eq!(told, format!("line 2: no block of {size} bytes to be had"));
    }
    // All that is live together has to fit; what was freed doesn't count.
    let mut text = String::new();
    (0..40).for_each(|_| text += "alloc A 8388608 from=pages\nfree A\n");
    (0..40).for_each(|number| text += &format!("alloc A{number} 8388608 from=pages\n"));
    let told = failure(&text);
    assert_eq!(told, "line 113: no block of 8388608 bytes to be had");
}

#[test]
fn an_area_that_begins_past_the_end_goes_past_the_end() {
    for area in ["64 8", "56 16", "0 65", "4096 8", "0xffffffffffffffff 1"] {
        let text = format!("alloc A 64\nalloc B 64\nscan_area A {area}\n");
        let told = host::run(
            &format!("{text}expect warning scan area larger than object"),
            2,
        );
        assert_eq!(told, Outcome::Passed, "{area}");
    }
}

#[test]
fn blocks_are_aligned_as_their_sizes_are() {
    use leak_script::{Allocator, alignment};
    let slab = |size, align| alignment(Allocator::Slab, size, align);
    assert_eq!(slab(8, 8), Some(16));
    assert_eq!(slab(33, 8), Some(16));
    assert_eq!(slab(65, 8), Some(16));
    assert_eq!(slab(65, 64), Some(64));
    assert_eq!(slab(16, 8192), Some(8192));
    assert_eq!(slab(16, 16384), Some(16384));
    assert_eq!(slab(16, 1 << 24), None);
    assert_eq!(alignment(Allocator::Pages, 16384, 8), Some(16384));
    assert_eq!(alignment(Allocator::Pages, 4096, 8192), Some(8192));
    assert_eq!(alignment(Allocator::Pages, 1 << 24, 8), None);
    assert_eq!(alignment(Allocator::Vmalloc, 4096, 8), Some(4096));
    assert_eq!(alignment(Allocator::Percpu, 8, 8), Some(16));
    assert_eq!(alignment(Allocator::Percpu, 8, 8192), None);
    assert_eq!(alignment(Allocator::Percpu, 32769, 8), None);
    let text = "alloc A 16 align=16384\nalloc B 4096 align=8192 from=pages\n\
                alloc C 4096 align=65536 from=vmalloc\nbss 0 = A\ncheck\nexpect leaks B C\n";
    assert_eq!(host::run(text, 2), Outcome::Passed);
}

#[test]
fn suppressions_are_many_and_long() {
    let mut text = String::from("metadata off\nmetadata on\n");
    let long = "x".repeat(3000);
    (0..200).for_each(|number| text += &format!("suppress {number}x*::y\n"));
    text += &format!("suppress {long}\nalloc A 8 site=a::{long}\nalloc B 8 site=199x::y\n");
    text += &format!("alloc C 8 site={long}x\ncheck\nexpect leaks C\nexpect suppressed A B\n");
    assert_eq!(host::run(&text, 2), Outcome::Passed);
    let told = failure("check\nmetadata off\nsuppress one");
    assert_eq!(told, "line 3: no memory for one more suppression");
}

#[test]
fn what_the_detector_has_no_way_to_do_is_named() {
    let told = failure("check\nalloc A 8 from=percpu min_count=2");
    assert_eq!(
        told,
        "line 2: not supported: alloc A 8 from=percpu min_count=2"
    );
}
