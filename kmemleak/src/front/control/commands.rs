//! The commands: what each is called, what it takes, what it does.
//!
//! One more is a line in the table and a function.

use core::fmt::{self, Write};

use super::Commands;
use super::status::status;
use super::syntax::Argument::{Nothing, Optional, Required, Rest, Set};
use super::syntax::{Command, Given, Value, list, parse_hidden, switch};
use crate::checker::Retained;
use crate::checker::claim::NotDone;
use crate::front::background;
use crate::front::detector::Detector;
use crate::front::report::{self, Count, Question, Sum, Typed, complain};
use crate::front::selftest::write_selftest;
use crate::platform::Platform;
use crate::verdict::order::Which;

/// Call sites that are shown unless it is said how many.
const TOP_SITES: usize = 10;

type Done = Result<fmt::Result, NotDone>;
type Out<'o> = &'o mut dyn Write;

impl<P: Platform> Commands<P> {
    pub(super) const TABLE: [Command<P>; 20] = [
        Command::new("scan", Nothing, "check for leaks now, and report", scan)
            .all()
            .json(),
        Command::new(
            "report",
            Nothing,
            "the last check's report again; --all: also what leaders own",
            report,
        )
        .all()
        .json()
        .after_off(),
        Command::new(
            "status",
            Nothing,
            "what the detector knows and does",
            status,
        )
        .after_off(),
        Command::new(
            "clear",
            Nothing,
            "take what is reported now for granted; after off: free the metadata",
            clear,
        )
        .after_off(),
        Command::new(
            "mark",
            Nothing,
            "check now, and remember what is lost and what is alive",
            mark,
        ),
        Command::new(
            "new",
            Nothing,
            "check now, and report what was lost since the mark",
            new,
        )
        .json(),
        Command::new(
            "sites",
            Optional(Value::Number),
            "call sites with the most live bytes (10), and their growth since the mark",
            sites,
        )
        .json(),
        Command::new(
            "interior",
            Nothing,
            "what only pointers into its middle keep alive",
            interior,
        )
        .json(),
        Command::new(
            "dump",
            Required(Value::Address),
            "what is known of the object at an address",
            dump,
        ),
        Command::new(
            "holders",
            Required(Value::Address),
            "the words that point into an object",
            holders,
        )
        .json(),
        Command::new(
            "path",
            Required(Value::Address),
            "the shortest way to an object from a root",
            path,
        )
        .json(),
        Command::new(
            "suppress",
            Nothing,
            "the suppressions, and what they hide",
            suppressions,
        )
        .json(),
        Command::new(
            "suppress",
            Rest(Value::Suppression),
            "hide leaks with a function in their call stack whose path ends so; * is any text",
            suppress,
        ),
        Command::new(
            "unsuppress",
            Rest(Value::Pattern),
            "hide them no longer",
            unsuppress,
        ),
        Command::new(
            "stack",
            Set(Value::Switch),
            "whether task stacks are roots",
            stack,
        ),
        Command::new(
            "scan",
            Set(Value::Switch),
            "whether to scan in the background",
            background,
        ),
        Command::new(
            "scan",
            Set(Value::Seconds),
            "scan in the background every so many seconds",
            background,
        ),
        Command::new(
            "selftest",
            Nothing,
            "plant a leak, find it, remove it; makes a new verdict",
            selftest,
        ),
        Command::new("help", Nothing, "this list", help).after_off(),
        Command::new(
            "off",
            Nothing,
            "record nothing any more; it can't be switched on again",
            off,
        ),
    ];
}

fn help<P: Platform>(_: &Detector<P>, _: &Given<'_>, out: Out<'_>) -> Done {
    Ok(list(&Commands::<P>::TABLE, out))
}

fn scan<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let mut claim = detector.claim_on()?;
    claim.check()?;
    let written = report::write_report(&claim, given.format, given.which, out);
    if written.is_ok() {
        claim.note_reported();
    }
    Ok(written)
}

fn new<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let mut claim = detector.claim_on()?;
    claim.check()?;
    Ok(report::write_report(&claim, given.format, Which::New, out))
}

fn report<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let claim = detector.claim()?;
    Ok(report::write_report(&claim, given.format, given.which, out))
}

fn clear<P: Platform>(detector: &Detector<P>, _: &Given<'_>, out: Out<'_>) -> Done {
    let mut claim = detector.claim()?;
    if !detector.is_on() {
        let freed = claim.free_metadata();
        let _outside = claim.outside();
        return Ok(match freed {
            Ok(()) => writeln!(out, "kmemleak: metadata freed"),
            Err(Retained::Borrowed) => writeln!(
                out,
                "kmemleak: metadata kept: a scope or its report is in use"
            ),
            Err(Retained::InUse) => writeln!(
                out,
                "kmemleak: metadata kept: the world can't be stopped to see that nobody uses it"
            ),
        });
    }
    let objects = claim.acknowledge();
    let _outside = claim.outside();
    let are = match objects {
        1 => "is no leak",
        _ => "are no leaks",
    };
    let reported = Count(objects, "reported object");
    Ok(writeln!(out, "kmemleak: {reported} {are} from now on"))
}

fn mark<P: Platform>(detector: &Detector<P>, _: &Given<'_>, out: Out<'_>) -> Done {
    let mut claim = detector.claim_on()?;
    let summary = claim.check()?;
    let marked = claim.mark();
    let _outside = claim.outside();
    Ok(match marked {
        Ok(()) => writeln!(
            out,
            "kmemleak: remembered {}, and what is alive at each call site",
            Sum(&summary)
        ),
        // The check was one all the same.
        Err(_) => writeln!(
            out,
            "kmemleak: no memory to remember what there is: what was remembered before stays\nkmemleak: {}",
            Sum(&summary)
        ),
    })
}

fn sites<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let top = given.value.map_or(Ok(TOP_SITES), str::parse);
    Ok(match (top, given.value) {
        (Ok(top), _) => report::write_sites(&mut detector.claim()?, given.format, top, out),
        (Err(_), text) => {
            let text = text.unwrap_or_default();
            complain(given.format, &format_args!("\"{text}\" is no number"), out)
        }
    })
}

fn interior<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    Ok(report::write_interior(
        &detector.claim()?,
        given.format,
        out,
    ))
}

fn no_address(given: &Given<'_>, out: Out<'_>) -> fmt::Result {
    let text = given.value.unwrap_or_default();
    complain(given.format, &format_args!("\"{text}\" is no address"), out)
}

fn dump<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let Some(address) = given.value.and_then(parse_hidden) else {
        return Ok(no_address(given, out));
    };
    let claim = detector.claim()?;
    let _outside = claim.outside();
    Ok(report::dump(claim.tracker(), address.get(), out))
}

fn holders<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    references(Question::Holders, detector, given, out)
}

fn path<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    references(Question::Path, detector, given, out)
}

fn references<P: Platform>(
    question: Question,
    detector: &Detector<P>,
    given: &Given<'_>,
    out: Out<'_>,
) -> Done {
    let Some(address) = given.value.and_then(parse_hidden) else {
        return Ok(no_address(given, out));
    };
    let mut claim = detector.claim()?;
    let format = given.format;
    Ok(report::write_references(
        &mut claim, format, question, address, out,
    ))
}

fn suppressions<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    Ok(report::write_suppressions(
        &mut detector.claim()?,
        given.format,
        out,
    ))
}

fn suppress<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let pattern = given.value.unwrap_or_default();
    Ok(match detector.suppress(pattern) {
        Ok(()) => writeln!(
            out,
            "kmemleak: from the next check on, \"{}\" hides what matches",
            Typed(pattern)
        ),
        Err(error) => writeln!(out, "kmemleak: {error}"),
    })
}

fn unsuppress<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let pattern = given.value.unwrap_or_default();
    Ok(match detector.unsuppress(pattern)? {
        true => writeln!(
            out,
            "kmemleak: \"{}\" hides nothing any more",
            Typed(pattern)
        ),
        false => writeln!(out, "kmemleak: no suppression \"{}\"", Typed(pattern)),
    })
}

fn stack<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let Some(on) = given.value.and_then(switch) else {
        return Ok(super::refuse::<P>("stack", given, out));
    };
    detector.tracker().settings().skip_stacks.set(!on);
    let no = if on { "" } else { "no " };
    Ok(writeln!(out, "kmemleak: task stacks are {no}roots"))
}

fn background<P: Platform>(detector: &Detector<P>, given: &Given<'_>, out: Out<'_>) -> Done {
    let (tracker, value) = (detector.tracker(), given.value.unwrap_or_default());
    let settings = tracker.settings();
    match (switch(value), value.parse::<u64>()) {
        (Some(true), _) => background::set_seconds(tracker, settings.scan_every.get() / 1_000_000),
        (Some(false), _) | (_, Ok(0)) => background::set_seconds(tracker, 0),
        (_, Ok(seconds)) => background::set_seconds(tracker, seconds),
        _ => {
            return Ok(writeln!(
                out,
                "kmemleak: \"{}\" is neither on, off nor a number of seconds",
                Typed(value)
            ));
        }
    }
    Ok(match settings.background_off.is_on() {
        true => writeln!(out, "kmemleak: no background scan"),
        false => writeln!(
            out,
            "kmemleak: background scan every {} s",
            settings.scan_every.get() / 1_000_000
        ),
    })
}

fn selftest<P: Platform>(detector: &Detector<P>, _: &Given<'_>, out: Out<'_>) -> Done {
    Ok(write_selftest(&mut detector.claim_on()?, out))
}

fn off<P: Platform>(detector: &Detector<P>, _: &Given<'_>, out: Out<'_>) -> Done {
    detector.turn_off()?;
    Ok(writeln!(out, "kmemleak: off; \"clear\" frees the metadata"))
}
