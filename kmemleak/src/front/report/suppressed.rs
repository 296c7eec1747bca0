//! The answer to a new suppression: what of the last report it would have hidden.

use core::fmt::{self, Display, Formatter, Write};

use super::Format;
use super::json::{OrNull, begin, string};
use super::words::{Count, Size};
use crate::verdict::foreseen::Foreseen;

/// A suppression that was added.
pub(in crate::front) struct Suppressed<'a, N> {
    /// As it was typed, with its ceiling.
    pub(in crate::front) text: &'a str,
    /// What it means for the last verdict; `None` if there is none.
    pub(in crate::front) foreseen: Option<Foreseen>,
    /// Whether the verdict lists suspects.
    pub(in crate::front) suspects: bool,
    /// If the pattern matches nothing, the function there with the most similar name.
    pub(in crate::front) nearest: Option<N>,
}

impl<N: Display> Suppressed<'_, N> {
    /// Writes what it means.
    pub(in crate::front) fn write(&self, format: Format, out: &mut dyn Write) -> fmt::Result {
        match format {
            Format::Text => {
                write!(out, "kmemleak: ")?;
                write!(super::Plain(out), "{self}")?;
                writeln!(out)
            }
            Format::Json => self.json(out),
        }
    }

    fn json(&self, out: &mut dyn Write) -> fmt::Result {
        let foreseen = self.foreseen;
        begin("suppressed", out)?;
        write!(out, ",\"pattern\":")?;
        string(&self.text, out)?;
        write!(
            out,
            ",\"listed\":{},\"matched\":{},\"objects\":{},\"bytes\":{},\"nearest\":",
            OrNull(foreseen.map(|seen| seen.listed)),
            OrNull(foreseen.map(|seen| seen.matched)),
            OrNull(foreseen.map(|seen| if seen.is_over() { 0 } else { seen.objects })),
            OrNull(foreseen.map(|seen| if seen.is_over() { 0 } else { seen.bytes }))
        )?;
        match &self.nearest {
            Some(nearest) => string(nearest, out)?,
            None => write!(out, "null")?,
        }
        write!(out, ",\"text\":")?;
        string(self, out)?;
        writeln!(out, "}}")
    }
}

impl<N: Display> Display for Suppressed<'_, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.text;
        let seen = match self.foreseen {
            Some(seen) if seen.listed > 0 || seen.matched > 0 => seen,
            _ => return write!(f, "from the next check on, \"{text}\" hides what matches"),
        };
        let thing = if self.suspects { "suspect" } else { "leak" };
        let of = Count(seen.listed, thing);
        if seen.matched == 0 {
            write!(
                f,
                "warning: \"{text}\" matches none of the {of} last reported"
            )?;
            return match &self.nearest {
                Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                None => Ok(()),
            };
        }
        match seen.max.filter(|_| seen.is_over()) {
            Some(max) => write!(
                f,
                "warning: \"{text}\" matches {}, which are more than {max}: so it hides none",
                Count(seen.matched, "unreferenced object")
            ),
            None if seen.objects == 0 => write!(
                f,
                "\"{text}\" matches {} of those that are hidden already",
                seen.matched
            ),
            None => write!(
                f,
                "\"{text}\" hides {} of the {of} last reported ({}) from the next check on",
                seen.objects,
                Size(seen.bytes)
            ),
        }
    }
}
