//! The museum: leaks of real kernels as scripts, and a table of what finds each of them, made by running them.
//!
//! An exhibit is a leak script that leaves a kernel's memory as the leak did. The comments at its head say what happened, and
//! have four lines that are read here:
//!
//! ```text
//! # From: REPOSITORY COMMIT "title"
//! # Lost: A B | none                    what is lost at the end: names of objects, or `parked`
//! # Found by: check, scan | nothing     the commands that find it
//! # Counting: what a counter of outstanding blocks says, in a sentence
//! ```
//!
//! The script's own expectations tell how the detector sees the leak on its way. For the table they and all checks are left out, and
//! each command is asked at the end, on a machine that has run nothing but the kernel's part: so "second scan" is the second one
//! after the loss. `Found by` must be what is found.
//!
//! A line `# the fix: STATEMENT` is what was missing, and a statement with `# the fix` behind it is what has to stay. [`turned`]
//! puts in the one and takes out the other: an exhibit whose expectations hold in both cases shows nothing.

mod books;
mod finders;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use books::Books;
use finders::{Finder, Story};

/// What the table begins with.
pub const HEAD: &str = "\
| exhibit | from | lost | found by | what outstanding blocks say |
| --- | --- | --- | --- | --- |";

/// The exhibit with the fix that ended the leak; where the exhibit shows a block that must not be reported, without what keeps it
/// from that. Nothing if there is no line of that kind.
pub fn turned(text: &str) -> Option<String> {
    let mut lines: Vec<&str> = Vec::new();
    let mut is_other = false;
    for line in text.lines() {
        let line = match line.strip_prefix("# the fix: ") {
            Some(statement) => statement,
            None if line.ends_with("# the fix") => "",
            None => {
                lines.push(line);
                continue;
            }
        };
        is_other = true;
        lines.push(line);
    }
    is_other.then(|| lines.join("\n"))
}

/// An exhibit's line of the table, or why there is none.
pub fn row(name: &str, text: &str) -> Result<String, String> {
    let lost = head(text, "Lost")?;
    let lost: Vec<&str> = lost
        .split_whitespace()
        .filter(|name| *name != "none")
        .collect();
    head(text, "Counting")?;
    let story = story(text);
    let books = Books::keep(&story)?;
    let story = Story {
        text: &story,
        lost: &lost,
        books: &books,
    };
    let finders = story.finders()?;
    agree(head(text, "Found by")?, &finders)?;
    Ok(format!(
        "| [{name}]({name}.leak) | {} | {} | {} | {} |",
        head(text, "From")?,
        books.sum(&lost),
        told(&finders, &lost),
        books.outstanding(&lost)
    ))
}

/// Whether what is claimed to find it does, and nothing else.
fn agree(claimed: &str, finders: &[Finder]) -> Result<(), String> {
    let commands: Vec<&str> = finders.iter().map(|finder| finder.command).collect();
    let found = match commands[..] {
        [] => "nothing".into(),
        _ => commands.join(", "),
    };
    if found == claimed {
        return Ok(());
    }
    Err(format!("expected found by {claimed}, got {found}"))
}

/// What finds it, and after how long.
fn told(finders: &[Finder], lost: &[&str]) -> String {
    match finders {
        [] if lost.is_empty() => "nothing, rightly".into(),
        [] => "nothing".into(),
        _ => {
            let told: Vec<String> = finders.iter().map(Finder::told).collect();
            told.join("; ")
        }
    }
}

/// What the head says under a key.
fn head<'t>(text: &'t str, key: &str) -> Result<&'t str, String> {
    let mut comments = text.lines().map_while(|line| line.strip_prefix('#'));
    let said = comments.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    said.ok_or_else(|| format!("the head has no line \"{key}: \""))
}

/// The kernel's part: without checks and expectations.
fn story(text: &str) -> String {
    let is_asked = |line: &str| {
        let first = line.split_whitespace().next();
        matches!(first, Some("expect" | "check" | "scan"))
    };
    let lines = text.lines().map(|line| match is_asked(line) {
        true => "",
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
