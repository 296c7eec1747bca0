//! Random graphs, held against an oracle that knows nothing of the detector.
//!
//! A number stands for a script: objects of all kinds, pointers of all kinds, verdicts. The oracle reads it, and says
//! by the definitions of the format alone what has to be answered; that is written down as expectations, and the
//! script is run. The oracle in turn has to agree with scripts that were written by hand.
//!
//! Each script comes from a number. One that fails is shortened as long as it still fails, then shown:
//!
//! ```text
//! KMEMLEAK_SEED=1234 cargo test -p leak-script --test graphs        # that one again
//! KMEMLEAK_GRAPHS=1000000 cargo test -p leak-script --test graphs   # more of them
//! KMEMLEAK_FIRST=100000 cargo test -p leak-script --test graphs     # others
//! KMEMLEAK_SCRIPTS=folder cargo test -p leak-script --test graphs   # what the oracle thinks of these scripts
//! ```

mod expect;
mod generate;
mod random;
mod verdict;
mod world;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use leak_script::host::{self, Outcome};

use crate::world::{Told, World};

/// What the detector can't answer or do yet. Empty, this asks for all there is.
const NOT_YET: &[&str] = &[
    "direct",
    "indirect",
    "record",
    "groups",
    "interior",
    "suppressed",
    "suppress",
    "new",
    "growth",
    "mark",
    "holders",
    "path",
];

/// Scripts, unless the environment says how many.
const GRAPHS: u64 = 10_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[test]
fn detector_and_oracle_agree() {
    if let Some(seed) = from_environment("KMEMLEAK_SEED") {
        return examine(seed);
    }
    let graphs = from_environment("KMEMLEAK_GRAPHS").unwrap_or(GRAPHS);
    let first = from_environment("KMEMLEAK_FIRST").unwrap_or(0);
    (first..first + graphs).for_each(examine);
}

/// Runs the script of a seed; if that fails, shows the shortest one that was found to fail.
fn examine(seed: u64) {
    let statements = generate::script(seed, NOT_YET);
    if failure(&statements).is_none() {
        return;
    }
    let shortest = shorten(statements);
    let why = failure(&shortest).expect("it fails still");
    panic!("KMEMLEAK_SEED={seed}: {why}");
}

/// Why a script fails, with its text, if it does. What the oracle doesn't take for a script fails not.
fn failure(statements: &[String]) -> Option<String> {
    let text = with_expectations(statements, NOT_YET).ok()?;
    let why = match panic::catch_unwind(AssertUnwindSafe(|| host::run(&text, 2))) {
        Ok(Outcome::Failed(failure)) => failure.to_string(),
        Ok(Outcome::Passed) => return None,
        Ok(Outcome::Skipped) => "skipped".into(),
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => format!("panic: {text}"),
            None => "panic".into(),
        },
    };
    Some(format!("{why}\n{text}"))
}

/// The text of a script: these statements, and after each verdict what is to be said of it.
fn with_expectations(statements: &[String], not_yet: &[&str]) -> Told<String> {
    let mut world = World::default();
    let mut lines = Vec::new();
    for statement in statements {
        world.line(statement)?;
        lines.push(statement.clone());
        if matches!(statement.as_str(), "check" | "scan") {
            let expectations = world.expectations().into_iter();
            lines.extend(expectations.filter(|line| {
                let about = line.split_whitespace().nth(1);
                about.is_none_or(|about| !not_yet.contains(&about))
            }));
        }
    }
    Ok(lines.join("\n"))
}

/// Leaves out what is not needed for the failure: half of the statements at a time, then a quarter, …
fn shorten(mut statements: Vec<String>) -> Vec<String> {
    let mut len = statements.len().div_ceil(2);
    loop {
        let mut at = 0;
        while at < statements.len() {
            let end = (at + len).min(statements.len());
            let rest = [&statements[..at], &statements[end..]].concat();
            if failure(&rest).is_some() {
                statements = rest;
            } else {
                at = end;
            }
        }
        if len == 1 {
            return statements;
        }
        len = len.div_ceil(2);
    }
}

/// Scripts that the oracle disagrees with, and why.
fn disagreements(folder: PathBuf) -> Vec<String> {
    let mut told = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry of it").path();
        if path.extension().is_none_or(|ending| ending != "leak") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a script");
        if let Err(why) = opinion(&text) {
            told.push(format!("{}: {why}", path.display()));
        }
    }
    told.sort();
    told
}

/// What the oracle has against a script.
fn opinion(text: &str) -> Told<()> {
    let mut world = World::default();
    for (index, line) in text.lines().enumerate() {
        let told = world.line(line);
        told.map_err(|why| format!("line {}: {why}", index + 1))?;
        if world.off {
            break;
        }
    }
    Ok(())
}

#[test]
fn the_oracle_agrees_with_scripts_by_hand() {
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut told = disagreements(ours);
    if let Ok(others) = env::var("KMEMLEAK_SCRIPTS") {
        told.extend(disagreements(others.into()));
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}
