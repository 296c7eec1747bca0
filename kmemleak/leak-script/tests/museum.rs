//! The museum's exhibits: each shows its leak, none without it, and the table of them is as its README has it.

use std::path::PathBuf;

use leak_script::host::{self, Outcome};
use leak_script::{Reason, museum};

const README: &str = include_str!("../../museum/README.md");

/// All exhibits, by name.
fn exhibits() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../museum");
    let mut exhibits: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the museum")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "leak"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("a script");
            (name.into_owned(), text)
        })
        .collect();
    exhibits.sort();
    exhibits
}

#[test]
fn the_table_is_as_run() {
    let rows = exhibits().into_iter().map(|(name, text)| {
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
    for (name, text) in exhibits() {
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
