//! The museum's exhibits: each shows its leak, none without it, and the table of them is as its README has it.

mod folder;

use leak_script::host::{self, Outcome};
use leak_script::{Reason, museum};

use folder::scripts;

const README: &str = include_str!("../../museum/README.md");

#[test]
fn the_table_is_as_run() {
    let rows = scripts("museum").into_iter().map(|(name, text)| {
        museum::row(&name, &text).unwrap_or_else(|why| panic!("{name}: {why}"))
    });
    let made: Vec<String> = museum::HEAD.lines().map(Into::into).chain(rows).collect();
    let written: Vec<&str> = README
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    assert!(
        written == made,
        "the table of kmemleak/museum/README.md is to be\n{}",
        made.join("\n")
    );
}

#[test]
fn nothing_is_shown_where_the_fix_is_in() {
    for (name, text) in scripts("museum") {
        let turned = museum::turned(&text).unwrap_or_else(|| panic!("{name} has no fix"));
        match host::run(&turned, 2) {
            Outcome::Failed(failure) if matches!(failure.reason, Reason::Mismatch { .. }) => {}
            other => panic!("{name} with its fix: {other:?}"),
        }
    }
}

/// The answers of an exhibit for which something else is claimed.
fn refusal(text: &str) -> String {
    museum::row("probe", text).expect_err("its head is wrong")
}

#[test]
fn a_wrong_claim_is_refused() {
    let text = |lost: &str, found: &str| {
        format!(
            "# From: nowhere\n# Lost: {lost}\n# Found by: {found}\n# Counting: nothing\n\
             alloc A 8\nalloc B 8\nbss 0 = B\ncheck\nexpect leaks A\n"
        )
    };
    let row = museum::row("probe", &text("A", "check, scan")).expect("it is right");
    assert!(
        row.contains("| 1 block, 8 bytes | `check`, first check; `scan`, second scan | 1 block ")
    );
    assert_eq!(
        refusal(&text("A", "check")),
        "expected found by check, got check, scan"
    );
    assert_eq!(
        refusal(&text("B", "check, scan")),
        "check reports A, which is not lost"
    );
    assert_eq!(
        refusal("# Lost: none\ncheck\n"),
        "the head has no line \"Counting: \""
    );
}
