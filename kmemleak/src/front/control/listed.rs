//! Commands about one thing: an address, or what was listed before and has a number.

use core::fmt::Write;

use super::options::Options;
use super::syntax::Call;
use super::undone::Done;
use super::values::{SiteName, handle};
use super::wording::distance;
use crate::checker::claim::Claim;
use crate::checker::live::ObjectFilter;
use crate::checker::numbers::Topic;
use crate::front::outcome::Answered;
use crate::front::report::{
    self, Because, Format, Suppressed, SuppressionText, Typed, UserFunction,
};
use crate::metadata::hidden::Hidden;
use crate::platform::Platform;
use crate::platform::arch::on_cleared_stack;
use crate::verdict::handles::ShortHandle;

/// How many objects are shown by default.
const TOP_OBJECTS: usize = 20;

/// The objects that the options of a line select.
pub(super) fn filter_of(options: &Options) -> ObjectFilter {
    ObjectFilter {
        site: options.site,
        task: options.task,
        min_age_us: options.older_s.unwrap_or(0).saturating_mul(1_000_000),
        top: options.top.unwrap_or(TOP_OBJECTS),
    }
}

pub(super) fn show<P: Platform>(call: Call<'_, P>, asked: ShortHandle) -> Done {
    let (claim, top) = (call.claim()?, call.options.top.unwrap_or(TOP_OBJECTS));
    Ok(report::write_shown(&claim, asked, top, call.out)?)
}

pub(super) fn site<P: Platform>(call: Call<'_, P>, name: SiteName) -> Done {
    let mut claim = call.claim()?;
    let crc = match name {
        SiteName::Checksum(crc) => crc,
        SiteName::Handle(asked) => {
            let stack_id = claim.call_stack_of(asked)?;
            claim.tracker().depot().get(stack_id).crc()
        }
    };
    let filter = ObjectFilter {
        site: Some(crc),
        ..filter_of(&call.options)
    };
    let format = call.options.format;
    Ok(report::write_site(
        &mut claim, format, crc, &filter, call.out,
    )?)
}

/// Asks about the address that a line means.
fn ask<P: Platform>(
    call: Call<'_, P>,
    topic: Topic,
    question: impl FnOnce(&mut Claim<'_, P>, Format, Hidden, &mut dyn Write) -> Answered,
) -> Done {
    let mut claim = call.claim()?;
    let address = claim.address_of(topic)?;
    let format = call.options.format;
    // What a handle means was found on this stack, and is not to be found there.
    Ok(on_cleared_stack(|| {
        question(&mut claim, format, address, call.out)
    })?)
}

pub(super) fn dump<P: Platform>(call: Call<'_, P>, topic: Topic) -> Done {
    ask(call, topic, |claim, format, address, out| {
        let _outside = claim.outside();
        report::dump(claim.tracker(), format, address.get(), out)
    })
}

pub(super) fn holders<P: Platform>(call: Call<'_, P>, topic: Topic) -> Done {
    let form = call.options.form();
    ask(call, topic, |claim, _, address, out| {
        report::write_holders(claim, form, address, out)
    })
}

pub(super) fn path<P: Platform>(call: Call<'_, P>, topic: Topic) -> Done {
    ask(call, topic, |claim, format, address, out| {
        report::write_path(claim, format, address, out)
    })
}

pub(super) fn why<P: Platform>(call: Call<'_, P>, topic: Topic) -> Done {
    ask(call, topic, |claim, format, address, out| {
        report::write_why(claim, format, address, out)
    })
}

pub(super) fn suppressions<P: Platform>(call: Call<'_, P>) -> Done {
    let mut claim = call.claim()?;
    Ok(report::write_suppressions(
        &mut claim,
        call.options.format,
        call.out,
    )?)
}

/// `#N`, or `#N:max=M`: the handle, and the ceiling as it was typed.
fn listed_suppression(text: &str) -> Option<(ShortHandle, &str)> {
    let (listed, max) = text.split_at(text.find(":max=").unwrap_or(text.len()));
    Some((handle(listed)?, max))
}

/// Hides what is allocated by the function that allocated the thing with this handle.
fn suppress_listed<P: Platform>(call: Call<'_, P>, asked: ShortHandle, max: &str) -> Done {
    let claim = call.claim()?;
    let stack_id = claim.call_stack_of(asked)?;
    let outside = claim.outside();
    let frames = claim.tracker().depot().get(stack_id);
    let function = UserFunction::of(claim.tracker(), frames.as_slice());
    let text = function.and_then(|function| SuppressionText::of(&function, max));
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            return Ok(report::refuse(
                call.options.format,
                &Because("no_function", format_args!("{asked}: {why}")),
                call.out,
            )?);
        }
    };
    drop(outside);
    drop(claim);
    suppress(call, text.as_str())
}

pub(super) fn suppress<P: Platform>(call: Call<'_, P>, pattern: &str) -> Done {
    if let Some((asked, max)) = listed_suppression(pattern) {
        return suppress_listed(call, asked, max);
    }
    let format = call.options.format;
    if let Err(error) = call.handle.suppress(pattern) {
        return Ok(report::refuse(format, &error, call.out)?);
    }
    let mut claim = call.claim()?;
    let foreseen = claim.foresee(pattern);
    let _outside = claim.outside();
    let matches_none = foreseen.is_some_and(|seen| seen.matched == 0);
    let suppressed = Suppressed {
        text: pattern,
        foreseen,
        suspects: (claim.verdict().summary.get()).is_some_and(|summary| summary.suspects > 0),
        nearest: matches_none
            .then(|| nearest_function(&claim, pattern))
            .flatten(),
    };
    Ok(suppressed.write(format, call.out)?)
}

/// A function that allocated what the last verdict lists, and whose name is nearly what was typed.
fn nearest_function<P: Platform>(claim: &Claim<'_, P>, pattern: &str) -> Option<UserFunction> {
    let (tracker, mut nearest) = (claim.tracker(), None);
    let typed = last_segment(pattern.split(":max=").next().unwrap_or_default());
    // One wrong letter, or more in a longer name.
    let mut least = 1 + typed.len() / 6;
    claim.verdict().groups.each(&mut |_, stack_id| {
        let frames = tracker.depot().get(stack_id);
        if let Ok(function) = UserFunction::of(tracker, frames.as_slice()) {
            let far = distance(typed, last_segment(function.name()));
            if far <= least {
                (least, nearest) = (far, Some(function));
            }
        }
    });
    nearest
}

/// What follows the last `::` of a function's path.
fn last_segment(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

pub(super) fn unsuppress<P: Platform>(call: Call<'_, P>, pattern: &str) -> Done {
    let (there, typed) = (call.claim()?.unsuppress(pattern), Typed(pattern));
    let (format, out) = (call.options.format, call.out);
    if !there {
        let none = format_args!("no suppression \"{typed}\"");
        return Ok(report::refuse(
            format,
            &Because("no_suppression", none),
            out,
        )?);
    }
    let told = format_args!("\"{typed}\" hides nothing any more");
    Ok(report::write_done(format, "unsuppress", &told, out)?)
}
