//! The project's own scripts, on the host.

use std::path::PathBuf;

use leak_script::host::{self, Outcome};

/// All scripts, by name.
fn scripts() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut scripts: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "leak"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("a script");
            (name.into_owned(), text)
        })
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn all_pass() {
    let scripts = scripts();
    assert!(!scripts.is_empty());
    let failures: Vec<String> = scripts
        .into_iter()
        .filter_map(|(name, text)| match host::run(&text, 2) {
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
    "free ",
    "realloc ",
    "free_part ",
    "not_leak ",
    "ignore ",
    "no_scan ",
    "scan_area ",
    "transient_leak ",
    "update_trace ",
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
    "expect suppressed none",
    "expect suppressed A",
    "expect new none",
    "expect new A",
    "expect growth ",
    "expect holders ",
    "expect path ",
    "expect warning unknown object",
    "expect warning scan area larger than object",
    "expect warning region",
    "expect warning disabled",
    "expect quiet",
    "expect tracked ",
    "expect state enabled",
    "expect state disabled",
    "expect state incomplete",
];

#[test]
fn the_whole_grammar_is_used() {
    let scripts = scripts();
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
}

#[test]
fn a_suppression_that_is_refused_says_why() {
    let long = "x".repeat(kmemleak::MAX_PATTERN + 1);
    let told = failure(&format!("check\nsuppress {long}"));
    assert_eq!(told, "line 2: a pattern has 1 to 255 bytes");
    let many: String = (0..=kmemleak::MAX_SUPPRESSIONS)
        .map(|number| format!("suppress x{number}\n"))
        .collect();
    let told = failure(&many);
    assert_eq!(told, "line 65: there are 64 suppressions already");
}

#[test]
fn what_the_detector_has_no_way_to_do_is_named() {
    let told = failure("check\nalloc A 8 from=percpu min_count=2");
    assert_eq!(
        told,
        "line 2: not supported: alloc A 8 from=percpu min_count=2"
    );
}
