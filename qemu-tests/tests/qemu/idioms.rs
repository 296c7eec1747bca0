//! The guide's table of ways to lose memory: it is what the test kernel prints.

use boot::outcome::Outcome;
use qemu_tests::machines::{self, Failure};

use crate::tests;

tests!(the_guide_has_the_table_as_run);

const GUIDE: &str = include_str!("../../../kmemleak/src/guide/idioms.md");

/// The rows of the table in a text.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| line.starts_with("| "))
}

fn the_guide_has_the_table_as_run() -> Result<(), Failure> {
    let ended = machines::run(&machines::guest("test=guest::idioms::no_wait_hides_a_loss"))?;
    machines::expect(&ended, Outcome::Passed, "")?;
    if !rows(&ended.serial).eq(rows(GUIDE)) {
        let table: Vec<_> = rows(&ended.serial).collect();
        return Err(format!("the guide's table is to be\n{}", table.join("\n")).into());
    }
    Ok(())
}
