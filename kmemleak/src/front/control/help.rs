//! What a command does, what it takes, and a line that uses it.

use core::fmt::Write;

use super::options::CommandOption;
use super::syntax::{Command, parse, write_list};
use crate::front::outcome::Answered;
use crate::platform::Platform;

/// Writes what there is to know of the command of that name; without a name, all commands.
pub(super) fn write_help<P: Platform>(
    commands: &[Command<P>],
    name: Option<&str>,
    out: &mut dyn Write,
) -> Answered {
    let Some(name) = name else {
        return Ok(write_list(commands, out)?);
    };
    // A switch may come with its value.
    let name = name.split('=').next().unwrap_or(name);
    let forms = || commands.iter().filter(|command| command.name == name);
    if forms().next().is_none() {
        // As if it had been typed as a command.
        return parse(commands, name).map_or_else(|wrong| wrong.write(commands, out), |_| Ok(()));
    }
    forms().try_for_each(|command| write!(out, "{command}"))?;
    let taken = |option: &CommandOption| forms().any(|command| command.takes.contains(option));
    for option in CommandOption::EACH.into_iter().filter(taken) {
        let (name, form, what) = (option.name(), option.form(), option.what());
        writeln!(out, "    {name}{form}: {what}")?;
    }
    for example in examples(name) {
        writeln!(out, "  for example: kmemleak {example}")?;
    }
    Ok(())
}

/// Lines with that command.
fn examples(name: &str) -> &'static [&'static str] {
    match name {
        "clear" => &["clear"],
        "counts" => &["counts", "counts 20 --all"],
        "dump" => &["dump ffff88800f705240", "dump #1"],
        "help" => &["help scan"],
        "holders" => &["holders #1"],
        "interior" => &["interior"],
        "mark" => &["mark"],
        "new" => &["new"],
        "objects" => &["objects --task 3 --older 60"],
        "off" => &["off"],
        "path" => &["path #1"],
        "report" => &["report --all"],
        "scan" => &["scan --all", "scan=600"],
        "selftest" => &["selftest"],
        "show" => &["show #1"],
        "site" => &["site d38810b1 --top 5", "site #1"],
        "sites" => &["sites 20 --by growth"],
        "snapshot" => &["snapshot"],
        "stack" => &["stack=off"],
        "stack-only" => &["stack-only"],
        "stacks" => &["stacks=sample:524288"],
        "status" => &["status"],
        "types" => &["types 20 --by growth"],
        "stop_max_ms" => &["stop_max_ms=20"],
        "suppress" => &["suppress arc_cycle", "suppress #1", "suppress net::*:max=8"],
        "tasks" => &["tasks"],
        "unsuppress" => &["unsuppress arc_cycle"],
        "why" => &["why ffff88800f705240", "why #1"],
        _ => &[],
    }
}
