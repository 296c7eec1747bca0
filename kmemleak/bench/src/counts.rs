//! `count` and `compare`: instruction counts, which do not depend on the machine, and how they have changed.
//!
//! Valgrind runs this program again for each figure, and counts what is executed inside one function. `count` prints the figures as JSON.
//! `compare` counts, and holds the figures against a file that `count` wrote: it fails if one has grown by more than 3 %.
//! Compilers differ, so the file is that of the pinned toolchain.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::Wrong;

/// By how many percent a figure may grow.
const ALLOWED_PERCENT: f64 = 3.0;

/// What is counted: the figure's name, the function, and how this program is called.
const FIGURES: [(&str, &str, &str); 10] = [
    (
        "check, 10 000 objects, random",
        "check_once",
        "check --objects 10000 --repeat 1",
    ),
    (
        "check, 100 000 objects, random",
        "check_once",
        "check --objects 100000 --repeat 1",
    ),
    (
        "check, 10 000 objects, dense",
        "check_once",
        "check --objects 10000 --fill dense --repeat 1",
    ),
    (
        "200 000 pairs, hot",
        "hot_tracked",
        "pairs --live 10000 --repeat 1",
    ),
    (
        "200 000 pairs, batch",
        "batch_tracked",
        "pairs --live 10000 --repeat 1",
    ),
    (
        "200 000 pairs, hot, untracked",
        "hot_untracked",
        "pairs --live 10000 --repeat 1",
    ),
    (
        "200 000 pairs, one of 1000 call stacks",
        "depot_tracked",
        "depot --stacks 1000 --repeat 1",
    ),
    (
        "200 000 pairs, one of 100 000 call stacks",
        "depot_tracked",
        "depot --stacks 100000 --repeat 1",
    ),
    (
        "200 000 pairs of tasks that take turns",
        "names_tracked",
        "names --tasks 1000 --repeat 1",
    ),
    (
        "200 000 pairs of tasks that take turns, no names left",
        "names_tracked",
        "names --tasks 3000 --repeat 1",
    ),
];

type Counts = BTreeMap<String, u64>;

/// Prints the figures.
pub fn count() -> Result<(), Wrong> {
    let counts = measure()?.ok_or("valgrind is not installed")?;
    println!("{}", serde_json::to_string_pretty(&counts)?);
    Ok(())
}

/// Counts, and compares with a file.
pub fn compare(file: &Path) -> Result<(), Wrong> {
    let before = read(file)?;
    let Some(now) = measure()? else {
        println!("skipped: valgrind is not installed");
        return Ok(());
    };
    let mut grown = 0;
    for (name, &now) in &now {
        let Some(&before) = before.get(name) else {
            println!("{name}: {now}, not in {}", file.display());
            grown += 1;
            continue;
        };
        let percent = (now as f64 / before as f64 - 1.0) * 100.0;
        let verdict = if percent > ALLOWED_PERCENT {
            grown += 1;
            ": more than is allowed"
        } else {
            ""
        };
        println!("{name}: {before} -> {now} ({percent:+.2} %){verdict}");
    }
    match grown {
        0 => Ok(()),
        _ => Err(format!(
            "figures that are new or have grown by more than {ALLOWED_PERCENT} %: {grown}; if that is wanted, write the file again by `count`"
        )
        .into()),
    }
}

fn read(file: &Path) -> Result<Counts, Wrong> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let fields = value
        .as_object()
        .ok_or_else(|| wrong(&"expected an object of names and numbers"))?;
    let count = |(name, value): (&String, &Value)| {
        let count = value.as_u64().filter(|&count| count > 0);
        let count = count.ok_or_else(|| wrong(&format_args!("{name}: expected a count")))?;
        Ok((name.clone(), count))
    };
    fields.iter().map(count).collect()
}

/// All figures; `None` without valgrind.
fn measure() -> Result<Option<Counts>, Wrong> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(None);
    }
    let figures = FIGURES.iter();
    let counts = figures.map(|(name, function, arguments)| {
        Ok(((*name).to_owned(), instructions(function, arguments)?))
    });
    counts.collect::<Result<_, Wrong>>().map(Some)
}

/// Instructions that are executed inside a function.
fn instructions(function: &str, arguments: &str) -> Result<u64, Wrong> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{function}*"))
        .arg(env::current_exe()?)
        .args(arguments.split_whitespace())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    match count.filter(|&count| count > 0 && output.status.success()) {
        Some(count) => Ok(count),
        None => Err(format!("{arguments}: valgrind counted nothing in {function}: {said}").into()),
    }
}
