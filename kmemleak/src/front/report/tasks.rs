//! Tasks that can never run again, one after another, then how many there are.

use core::fmt::{self, Display, Formatter, Write};

use super::backtrace::{Backtrace, Machinery};
use super::frames::write_waiting;
use super::json::{OrNull, Quoted, backtrace_json, begin, string};
use super::style::{Ink, Style};
use super::words::{Age, ByteSum, Count};
use super::{Format, refuse};
use crate::checker::claim::Claim;
use crate::checker::tasks::{LostTask, TaskSummary};
use crate::front::outcome::Answered;
use crate::platform::{Platform, WaitsOn};
use crate::tracker::Tracker;

/// Writes the tasks that can never run again.
pub(in crate::front) fn write_tasks<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    out: &mut dyn Write,
) -> Answered {
    let found = claim.find_lost_tasks();
    let (tracker, mut written) = (claim.tracker(), Ok(()));
    let summary = match found {
        Ok(summary) => summary,
        Err(why) => {
            let _outside = claim.outside();
            return refuse(format, &why, out);
        }
    };
    claim.each_lost_task(&mut |task| {
        if written.is_ok() {
            written = match format {
                Format::Text => task_text(tracker, &task, out),
                Format::Json => task_json(tracker, &task, out),
            };
        }
    });
    written?;
    let _outside = claim.outside();
    match format {
        Format::Text => sum_text(tracker, &summary, out)?,
        Format::Json => sum_json(&summary, out)?,
    }
    Ok(())
}

/// What a task waits for.
struct Awaits<'t, 'a>(&'t LostTask<'a>);

impl Display for Awaits<'_, '_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let task = self.0;
        match task.on {
            WaitsOn::Task(other) => return write!(f, "the end of task {other}"),
            WaitsOn::Address(address) => write!(f, "{} at {address:#018x}", task.what)?,
        }
        match task.object {
            Some((start, size)) => write!(f, ", in object {start:#018x} (size {size})"),
            None => Ok(()),
        }
    }
}

fn task_text<P: Platform>(
    tracker: &Tracker<P>,
    task: &LostTask<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(tracker);
    let title = format_args!(
        "task {}, comm {:?}, can never run again:",
        task.task, task.comm
    );
    writeln!(out, "{}", style.paint(Ink::Heading, title))?;
    writeln!(
        out,
        "  waits for {Awaits}, for {}",
        Age(task.waited_us),
        Awaits = Awaits(task)
    )?;
    let objects = Count(task.objects, "object");
    let bytes = style.paint(Ink::Size, ByteSum(task.bytes));
    writeln!(out, "  only it retains {objects} ({bytes})")?;
    write_waiting(tracker, "waits in", task.call_stack, out)
}

fn sum_text<P: Platform>(
    tracker: &Tracker<P>,
    summary: &TaskSummary,
    out: &mut dyn Write,
) -> fmt::Result {
    if let Some(doubt) = &summary.doubt {
        let doubt = format_args!("kmemleak: {doubt}: tasks that can be woken may be among these");
        let style = Style::of(tracker);
        writeln!(out, "{}", style.paint(Ink::Warning, doubt))?;
    }
    if !summary.complete {
        let left_out = "no memory for all tasks, or for all that they retain: some are missing";
        writeln!(out, "kmemleak: {left_out}")?;
    }
    write!(
        out,
        "kmemleak: {} of {} can never run again",
        summary.lost,
        Count(summary.waiting, "waiting task")
    )?;
    match (summary.lost, summary.objects) {
        (0, _) => writeln!(out),
        (_, objects) => writeln!(
            out,
            "; only these retain {} ({})",
            Count(objects, "object"),
            ByteSum(summary.bytes)
        ),
    }
}

fn task_json<P: Platform>(
    tracker: &Tracker<P>,
    task: &LostTask<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("lost_task", out)?;
    write!(out, ",\"task\":{},\"comm\":", task.task)?;
    string(&task.comm.as_str(), out)?;
    write!(out, ",\"what\":")?;
    string(&task.what, out)?;
    let (address, other) = match task.on {
        WaitsOn::Address(address) => (Some(Quoted(address)), None),
        WaitsOn::Task(other) => (None, Some(other)),
    };
    write!(
        out,
        ",\"address\":{},\"object\":{},\"object_size\":{},\"end_of\":{},\"since_us\":{},\"waited_us\":{},\"block\":{},\"objects\":{},\"bytes\":{}",
        OrNull(address),
        OrNull(task.object.map(|(start, _)| Quoted(start))),
        OrNull(task.object.map(|(_, size)| size)),
        OrNull(other),
        task.since_us,
        task.waited_us,
        OrNull(task.block.map(Quoted)),
        task.objects,
        task.bytes
    )?;
    let backtrace = Backtrace::without(tracker, Machinery::Waiting, task.call_stack);
    backtrace_json(tracker, &backtrace, out)?;
    writeln!(out, "}}")
}

fn sum_json(summary: &TaskSummary, out: &mut dyn Write) -> fmt::Result {
    begin("tasks", out)?;
    write!(
        out,
        ",\"named\":{},\"waiting\":{},\"lost\":{},\"objects\":{},\"bytes\":{},\"complete\":{},\"stopped_us\":{},\"doubt\":",
        summary.named,
        summary.waiting,
        summary.lost,
        summary.objects,
        summary.bytes,
        summary.complete,
        summary.stopped_us
    )?;
    match &summary.doubt {
        Some(doubt) => string(doubt, out)?,
        None => out.write_str("null")?,
    }
    writeln!(out, "}}")
}
