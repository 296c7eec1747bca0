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
//! KMEMLEAK_WRITE=folder cargo test -p leak-script --test graphs     # writes each script there as well, for the kernel
//! ```

mod by_hand;
mod expect;
mod generate;
mod random;
mod stacks;
mod tasks;
mod types;
mod verdict;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use leak_script::Checks;
use leak_script::Script;
use leak_script::host::{self, Outcome};

use crate::world::{Told, World};

/// Scripts, unless the environment says how many.
const GRAPHS: u64 = 1_500;

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

/// Runs the script of a seed; if that fails, shows why, and the shortest one that was found to fail. That one may fail for
/// another reason; or not any more, where the first failure depends on where the host's memory lies, or on its threads.
fn examine(seed: u64) {
    let statements = generate::script(seed);
    if let Ok(folder) = env::var("KMEMLEAK_WRITE") {
        let file = PathBuf::from(folder).join(format!("graph_{seed}.leak"));
        let text = with_expectations(&statements).expect("a script");
        std::fs::write(file, text).expect("the folder can be written to");
    }
    let Some(first) = failure(&statements) else {
        return;
    };
    let shortest = shorten(statements);
    let why = failure(&shortest).unwrap_or_else(|| "it does not fail again".into());
    panic!("KMEMLEAK_SEED={seed}: {first}\n\nshorter:\n{why}");
}

/// Why a script fails, with its text, if it does, by either kind of check. What the oracle doesn't take for a script fails not.
fn failure(statements: &[String]) -> Option<String> {
    let text = with_expectations(statements).ok()?;
    let run = |checks| {
        let run = AssertUnwindSafe(|| host::run_with(&text, 2, checks));
        let why = match panic::catch_unwind(run) {
            Ok(Outcome::Failed(failure)) => failure.to_string(),
            Ok(Outcome::Passed) => return None,
            Ok(Outcome::Skipped) => "skipped".into(),
            Err(panic) => match panic.downcast_ref::<String>() {
                Some(text) => format!("panic: {text}"),
                None => "panic".into(),
            },
        };
        Some(format!("{checks:?}: {why}\n{text}"))
    };
    run(Checks::Stopped).or_else(|| run(Checks::Frozen))
}

/// The text of a script: these statements, after each verdict what is to be said of it, and last what of tasks.
fn with_expectations(statements: &[String]) -> Told<String> {
    let mut world = World::default();
    let mut lines = Vec::new();
    for statement in statements {
        world.line(statement)?;
        lines.push(statement.clone());
        if matches!(statement.as_str(), "check" | "scan") {
            lines.extend(world.expectations());
        }
    }
    // They need no verdict.
    lines.extend(world.expectations_of_tasks());
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

/// A change to an expectation that makes it wrong, if it says something.
fn falsified(line: &str) -> Option<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let last = words.pop()?;
    let other;
    match words[..] {
        ["expect", "warning" | "quiet" | "tracked" | "state", ..] => return None,
        [
            "expect",
            "record" | "total" | "groups" | "growth" | "retains",
            ..,
        ] => {
            other = match last.parse::<i64>() {
                Ok(number) => (number + 1).to_string(),
                Err(_) => return None,
            };
            words.push(&other);
        }
        ["expect", "type", _] => words.push(if last == "none" { "u8" } else { "none" }),
        // A cycle that is none, and one that begins elsewhere.
        ["expect", "cycle", name] if last == "none" => words.push(name),
        ["expect", "cycle", _, ..] => words.insert(3, last),
        ["expect", "lost"] if last == "none" => words.push("parked"),
        // One object, one holder less. What is left of a slot is no slot.
        ["expect", what, ..] => {
            if last == "none" || matches!(what, "holders" | "path") {
                return None;
            }
            if words.len() == 2 {
                words.push("none");
            }
        }
        _ => return None,
    }
    Some(words.join(" "))
}

#[test]
fn the_oracle_disagrees_with_what_is_wrong() {
    let mut falsified_ones = BTreeMap::new();
    for seed in 0..300 {
        let text = with_expectations(&generate::script(seed)).expect("a script");
        assert_eq!(opinion(&text), Ok(()), "{seed}");
        assert!(Script::parse(&text).is_ok(), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(wrong) = falsified(line) else {
                continue;
            };
            let text = [&lines[..index], &[wrong.as_str()]].concat().join("\n");
            assert!(opinion(&text).is_err(), "{seed}: {wrong}\n{text}");
            let what = wrong.split(' ').nth(1).expect("what is expected");
            *falsified_ones.entry(what.to_owned()).or_insert(0) += 1;
        }
    }
    assert!(
        falsified_ones.values().sum::<i32>() > 1000,
        "{falsified_ones:?}"
    );
    for (what, least) in [
        ("type", 100),
        ("cycle", 100),
        ("lost", 100),
        ("retains", 100),
        ("stacks", 50),
    ] {
        let times = falsified_ones.get(what);
        assert!(
            times.is_some_and(|&times| times > least),
            "{what}: {times:?}"
        );
    }
}

/// Random scripts have something of everything, and much of what is intricate.
#[test]
fn graphs_are_of_all_kinds() {
    let mut texts = Vec::new();
    for seed in 0..1000 {
        let text = with_expectations(&generate::script(seed)).expect("a script");
        texts.push(text);
    }
    let among = |scripts: usize, what: &str, has: &dyn Fn(&str) -> bool| {
        let found = texts.iter().filter(|text| text.lines().any(has)).count();
        assert!(found >= scripts, "{found} of 1000 scripts: {what}");
    };
    let says = |what: &'static str| move |line: &str| line.starts_with(what);
    for (scripts, what) in [
        (200, "free "),
        (30, "free_part "),
        (50, "realloc "),
        (50, "not_leak "),
        (50, "ignore "),
        (100, "no_scan "),
        (50, "scan_area "),
        (50, "update_trace "),
        (30, "transient_leak "),
        (30, "erase "),
        (50, "region add "),
        (50, "disabled begin"),
        (100, "suppress "),
        (20, "stack off"),
        (50, "clear"),
        (300, "mark"),
        (150, "blocked on "),
        (80, "blocked A on "),
        (50, "woken"),
        (50, "task_list "),
        (200, "scan"),
        (500, "check"),
    ] {
        among(scripts, what, &says(what));
    }
    for (scripts, what) in [
        (700, "leaks"),
        (600, "direct"),
        (400, "indirect"),
        (200, "interior"),
        (100, "suppressed"),
        (150, "new"),
        (400, "holders"),
        (300, "path"),
        (400, "type"),
        (50, "cycle"),
        (200, "lost"),
        (200, "retains"),
    ] {
        let start = format!("expect {what} ");
        among(scripts, what, &|line| {
            line.starts_with(&start) && !line.ends_with(" none")
        });
    }
    let words = |line: &str| line.split_whitespace().count();
    among(100, "no task is lost", &says("expect lost none"));
    among(100, "several lost tasks", &|line| {
        line.starts_with("expect lost ") && words(line) > 3
    });
    among(100, "a lost parked task", &|line| {
        line.starts_with("expect lost ") && line.ends_with(" parked")
    });
    among(100, "more than a task's own object", &|line| {
        line.starts_with("expect retains ") && !line.contains(" parked ") && !line.ends_with(" 1")
    });
    among(50, "what a parked task retains", &|line| {
        line.starts_with("expect retains parked ") && !line.ends_with(" 0")
    });
    among(100, "a task that waits for the end of one", &|line| {
        line.starts_with("blocked ") && line.contains(" on end ")
    });
    among(10, "a cycle of more than two", &|line| {
        line.starts_with("expect cycle ") && words(line) > 5
    });
    among(100, "the type of an Arc", &|line| {
        line.starts_with("expect type ") && line.contains(" Arc<")
    });
    among(300, "a path through a block", &|line| {
        line.starts_with("expect path") && line.contains('+')
    });
    among(5, "a long path", &|line| {
        line.starts_with("expect path") && words(line) > 20
    });
    among(300, "several leaders", &|line| {
        line.starts_with("expect direct") && words(line) > 3
    });
    among(10, "many owned blocks", &|line| {
        line.starts_with("expect indirect") && words(line) > 22
    });
    among(100, "growth at a site", &|line| {
        line.starts_with("expect growth") && !line.ends_with(" 0 0") && !line.contains('-')
    });
    among(40, "shrinking of a site", &|line| {
        line.starts_with("expect growth") && line.contains('-')
    });
}

/// What is intricate about groups occurs often: rings, their leaders, children that leaders share.
#[test]
fn groups_are_of_all_kinds() {
    let (mut led_rings, mut owned_rings, mut of_two, mut of_three) = (0, 0, 0, 0);
    for seed in 0..1000 {
        let mut world = World::default();
        for statement in generate::script(seed) {
            world.line(&statement).expect("a statement");
        }
        let verdict = world.verdict.expect("a verdict");
        let reach = verdict.reach();
        let in_ring = |id: &usize| reach[id].contains(id);
        let owned = || verdict.leaders.values().flatten();
        led_rings += usize::from(verdict.leaders.keys().any(in_ring));
        owned_rings +=
            usize::from(owned().any(|id| {
                in_ring(id) && !reach[id].iter().any(|id| verdict.leaders.contains_key(id))
            }));
        let leaders_of = |id: &usize| {
            let leaders = verdict.leaders.keys();
            leaders.filter(|leader| reach[leader].contains(id)).count()
        };
        of_two += usize::from(owned().any(|id| leaders_of(id) > 1));
        of_three += usize::from(owned().any(|id| leaders_of(id) > 2));
    }
    for (count, least, what) in [
        (led_rings, 80, "rings that lead"),
        (owned_rings, 80, "rings that are owned"),
        (of_two, 100, "children of two leaders"),
        (of_three, 30, "children of three leaders"),
    ] {
        assert!(count >= least, "{count} of 1000 scripts have {what}");
    }
}
