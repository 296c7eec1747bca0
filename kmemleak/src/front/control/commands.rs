//! The commands: their names, their arguments, and what they do.
//!
//! A new command is a line in the table and a function, whose arguments say what the command takes.

use core::fmt::Display;

use super::Commands;
use super::help::write_help;
use super::listed::{
    dump, filter_of, holders, path, show, site, suppress, suppressions, unsuppress, why,
};
use super::options::CommandOption::{All, By, Full, Json, Older, Site, Task, Top};
use super::options::{CommandOption, Options};
use super::syntax::Action::{
    Address, Alone, CallSite, Listed, Milliseconds, Number, Pattern, Seconds, Stacks, Suppression,
    Switch, Word,
};
use super::syntax::{Call, Command};
use super::undone::Done;
use crate::checker::Retained;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::front::background;
use crate::front::outcome::{Answered, CommandError};
use crate::front::report::{self, Because, Count, Detail, Format, Sum};
use crate::front::selftest::write_selftest;
use crate::platform::Platform;
use crate::tracker::sampling;
use crate::verdict::order::Which;

/// How many call sites are shown by default.
const TOP_SITES: usize = 10;

/// What a report may be, instead of a table of the first lines.
const FORMS: [CommandOption; 3] = [Full, Top, Json];

/// Options of commands that report.
const REPORTS: [CommandOption; 4] = [All, Full, Top, Json];

impl<P: Platform> Commands<P> {
    pub(super) const TABLE: [Command<P>; 31] = [
        Command::new("scan", Alone(scan), "check for leaks now, and report")
            .takes(&REPORTS)
            .one_of(&FORMS),
        Command::new(
            "report",
            Alone(report),
            "the last check's report again; --all: all leaks, not only leaders",
        )
        .takes(&REPORTS)
        .one_of(&FORMS)
        .after_off(),
        Command::new(
            "show",
            Listed(show),
            "a group that was listed, with its objects (20), or an object",
        )
        .takes(&[Top])
        .after_off(),
        Command::new("status", Alone(status), "what the detector knows and does")
            .takes(&[Json])
            .after_off(),
        Command::new(
            "clear",
            Alone(clear),
            "never report again what is reported now; after off: free the metadata",
        )
        .takes(&[Json])
        .after_off(),
        Command::new(
            "mark",
            Alone(mark),
            "check now, and remember what is lost and what is alive",
        )
        .takes(&[Json]),
        Command::new(
            "new",
            Alone(new),
            "check now, and report what was lost since the mark",
        )
        .takes(&FORMS)
        .one_of(&FORMS),
        Command::new(
            "sites",
            Number(sites),
            "call sites (10) by growth since the mark; without a mark by live bytes",
        )
        .takes(&[By, Full, Json])
        .one_of(&[Full, Json]),
        Command::new(
            "types",
            Number(types),
            "types of live blocks (10) by growth since the mark; without a mark by live bytes",
        )
        .takes(&[By, Json]),
        Command::new(
            "counts",
            Number(counts),
            "reference counts that are wrong (10): more references than there are, or less than none",
        )
        .takes(&[All, Json]),
        Command::new(
            "site",
            CallSite(site),
            "a call site, its bytes at the last marks, and its oldest objects (20)",
        )
        .takes(&[Task, Older, Top, Json]),
        Command::new(
            "objects",
            Alone(objects),
            "the oldest live objects (20), with their addresses",
        )
        .takes(&[Site, Task, Older, Full, Top, Json])
        .one_of(&[Full, Json]),
        Command::new(
            "interior",
            Alone(interior),
            "the objects that only pointers into their middle keep alive",
        )
        .takes(&FORMS)
        .one_of(&FORMS),
        Command::new(
            "stack-only",
            Alone(stack_only),
            "the objects that only words of stacks keep alive, and in which frames these lie",
        )
        .takes(&FORMS)
        .one_of(&FORMS),
        Command::new(
            "dump",
            Address(dump),
            "what is known of the object at an address",
        )
        .takes(&[Json]),
        Command::new(
            "holders",
            Address(holders),
            "the words that point into an object; more than 10: a table of where they lie",
        )
        .takes(&[Full, Json])
        .one_of(&[Full, Json]),
        Command::new(
            "path",
            Address(path),
            "the shortest way to an object from a root",
        )
        .takes(&[Json]),
        Command::new(
            "why",
            Address(why),
            "why an address is, or is not, reported, and what to do",
        )
        .takes(&[Json]),
        Command::new(
            "tasks",
            Alone(tasks),
            "the tasks that can never run again, and what only they retain",
        )
        .takes(&[Json]),
        Command::new(
            "snapshot",
            Alone(snapshot),
            "the whole heap, always as JSON: objects, pointers between them, roots",
        )
        .takes(&[Json])
        .after_off(),
        Command::new(
            "suppress",
            Alone(suppressions),
            "the suppressions, and what they hide",
        )
        .takes(&[Json]),
        Command::new(
            "suppress",
            Suppression(suppress),
            "hide leaks with a function in their call stack whose path ends with PATTERN; * is any text",
        )
        .takes(&[Json]),
        Command::new("unsuppress", Pattern(unsuppress), "remove a suppression").takes(&[Json]),
        Command::new("stack", Switch(stack), "whether task stacks are roots").takes(&[Json]),
        Command::new(
            "stacks",
            Stacks(stacks),
            "of which allocations the call stack is taken: of all, none, or a sample by bytes",
        )
        .takes(&[Json]),
        Command::new(
            "scan",
            Switch(background_switch),
            "whether to scan in the background",
        )
        .takes(&[Json]),
        Command::new(
            "scan",
            Seconds(background_seconds),
            "scan in the background every so many seconds",
        )
        .takes(&[Json]),
        Command::new(
            "stop_max_ms",
            Milliseconds(stop_max),
            "how long a background scan may stop the world at most; 0: never",
        )
        .takes(&[Json]),
        Command::new(
            "selftest",
            Alone(selftest),
            "plant a leak, find it, remove it; makes a new verdict",
        )
        .takes(&[Json]),
        Command::new("help", Word(help), "this list, or what a command takes").after_off(),
        Command::new(
            "off",
            Alone(off),
            "record nothing any more; it can't be switched on again",
        )
        .takes(&[Json]),
    ];
}

fn help<P: Platform>(call: Call<'_, P>, name: Option<&str>) -> Done {
    Ok(write_help(&Commands::<P>::TABLE, name, call.out)?)
}

fn status<P: Platform>(call: Call<'_, P>) -> Done {
    Ok(report::write_status(
        call.handle,
        call.options.format,
        call.out,
    )?)
}

fn scan<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim_on()?;
    claim.check_frozen()?;
    write_report(&claim, call.options.which, call)?;
    claim.note_reported();
    Ok(())
}

fn new<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim_on()?;
    claim.check()?;
    Ok(write_report(&claim, Which::New, call)?)
}

fn report<P: Platform>(call: Call<'_, P>) -> Done {
    let claim = call.claim()?;
    Ok(write_report(&claim, call.options.which, call)?)
}

fn write_report<P: Platform>(claim: &Claim<'_, P>, which: Which, call: Call<'_, P>) -> Answered {
    let Options {
        format, full, top, ..
    } = call.options;
    let detail = match (full, top) {
        (true, _) => Detail::Full,
        (false, Some(top)) => Detail::Table { top },
        (false, None) => Detail::TABLE,
    };
    report::write_report(claim, format, which, detail, call.out)
}

fn clear<P: Platform>(call: Call<'_, P>) -> Done {
    let (mut claim, format, out) = (call.claim()?, call.options.format, call.out);
    if call.handle.tracker.is_on() {
        let objects = claim.acknowledge();
        let _outside = claim.outside();
        let are = match objects {
            1 => "is no leak",
            _ => "are no leaks",
        };
        let reported = Count(objects, "reported object");
        let told = format_args!("{reported} {are} from now on");
        return Ok(report::write_done(format, "clear", &told, out)?);
    }
    let freed = claim.free_metadata();
    let _outside = claim.outside();
    let kept = match freed {
        Ok(()) => return Ok(report::write_done(format, "clear", &"metadata freed", out)?),
        Err(Retained::Borrowed) => "a scope or its report is in use",
        Err(Retained::InUse) => "the world can't be stopped to see that nobody uses it",
    };
    let told = format_args!("metadata kept: {kept}");
    Ok(report::refuse(
        format,
        &Because("metadata_in_use", told),
        out,
    )?)
}

fn mark<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim_on()?;
    let (format, out) = (call.options.format, call.out);
    let summary = claim.check()?;
    let marked = claim.mark();
    let (_outside, sum) = (claim.outside(), Sum(&summary));
    if marked.is_err() {
        // The check was made nevertheless.
        let told = "no memory for a new mark: the mark before it stays";
        report::complain(format, &Because("no_memory", told), out)?;
        report::write_sum(format, &summary, out)?;
        return Err(CommandError::NotDone.into());
    }
    let told = format_args!("remembered {sum}, and what is alive at each call site");
    if format == Format::Json {
        report::write_sum(format, &summary, out)?;
    }
    Ok(report::write_done(format, "mark", &told, out)?)
}

fn sites<P: Platform>(call: Call<'_, P>, top: Option<usize>) -> Done {
    let (mut claim, top) = (call.claim()?, top.unwrap_or(TOP_SITES));
    let order = claim.site_order(call.options.by)?;
    Ok(report::write_sites(
        &mut claim,
        call.options.form(),
        order,
        top,
        call.out,
    )?)
}

fn types<P: Platform>(call: Call<'_, P>, top: Option<usize>) -> Done {
    let (mut claim, top) = (call.claim()?, top.unwrap_or(TOP_SITES));
    let order = claim.site_order(call.options.by)?;
    Ok(report::write_types(
        &mut claim,
        call.options.format,
        order,
        top,
        call.out,
    )?)
}

fn counts<P: Platform>(call: Call<'_, P>, top: Option<usize>) -> Done {
    let (mut claim, top) = (call.claim_on()?, top.unwrap_or(TOP_SITES));
    let shown = match call.options.which {
        Which::All => report::Shown::All,
        _ => report::Shown::Certain,
    };
    let (format, out) = (call.options.format, call.out);
    Ok(report::write_counts(&mut claim, format, shown, top, out)?)
}

fn objects<P: Platform>(call: Call<'_, P>) -> Done {
    let (mut claim, filter) = (call.claim()?, filter_of(&call.options));
    let form = call.options.form();
    Ok(report::write_objects(&mut claim, form, &filter, call.out)?)
}

fn interior<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim()?;
    let (form, top) = (call.options.form(), call.options.top);
    Ok(report::write_interior(&mut claim, form, top, call.out)?)
}

fn stack_only<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim_on()?;
    let (form, top) = (call.options.form(), call.options.top);
    Ok(report::write_stack_only(&mut claim, form, top, call.out)?)
}

fn tasks<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim_on()?;
    Ok(report::write_tasks(
        &mut claim,
        call.options.format,
        call.out,
    )?)
}

/// Its answers are JSON in any case, so that it says itself if the detector is off.
fn snapshot<P: Platform>(call: Call<'_, P>) -> Done {
    match call.handle.claim() {
        Ok(mut claim) => Ok(report::write_snapshot(&mut claim, call.out)?),
        Err(Nested) => Ok(report::refuse(Format::Json, &NotDone::Nested, call.out)?),
    }
}

fn stack<P: Platform>(call: Call<'_, P>, on: bool) -> Done {
    call.handle.tracker.settings().skip_stacks.set(!on);
    let no = if on { "" } else { "no " };
    let told = format_args!("task stacks are {no}roots");
    Ok(report::write_done(
        call.options.format,
        "stack",
        &told,
        call.out,
    )?)
}

fn stacks<P: Platform>(call: Call<'_, P>, stacks: sampling::StacksTaken) -> Done {
    call.handle.tracker.take_stacks(stacks);
    let (format, out) = (call.options.format, call.out);
    let which = report::OfWhich(stacks);
    Ok(report::write_done(
        format,
        "stacks",
        &format_args!("call stacks are taken of {which} from now on"),
        out,
    )?)
}

fn background_switch<P: Platform>(call: Call<'_, P>, on: bool) -> Done {
    let every_us = call.handle.tracker.settings().scan_every.get();
    let seconds = if on { every_us / 1_000_000 } else { 0 };
    background_seconds(call, seconds)
}

fn background_seconds<P: Platform>(call: Call<'_, P>, seconds: u64) -> Done {
    let tracker = call.handle.tracker;
    background::set_seconds(tracker, seconds);
    let every_s = tracker.settings().scan_every.get() / 1_000_000;
    let told: &dyn Display = match seconds {
        0 => &"no background scan",
        _ => &format_args!("background scan every {every_s} s"),
    };
    Ok(report::write_done(
        call.options.format,
        "scan",
        told,
        call.out,
    )?)
}

fn stop_max<P: Platform>(call: Call<'_, P>, ms: u64) -> Done {
    let settings = call.handle.tracker.settings();
    settings.stop_max.set(ms.saturating_mul(1000));
    let told: &dyn Display = match ms {
        0 => &"a background scan never stops the world",
        _ => &format_args!("a background scan stops the world for {ms} ms at most"),
    };
    Ok(report::write_done(
        call.options.format,
        "stop_max_ms",
        told,
        call.out,
    )?)
}

fn selftest<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim_on()?;
    Ok(write_selftest(&mut claim, call.options.format, call.out)?)
}

fn off<P: Platform>(call: Call<'_, P>) -> Done {
    call.handle.turn_off()?;
    let told = "off; \"clear\" frees the metadata";
    Ok(report::write_done(
        call.options.format,
        "off",
        &told,
        call.out,
    )?)
}
