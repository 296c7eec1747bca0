//! The models, by what they are of.

use crate::atomic;
use crate::metadata::page::{NewPage, NoMemory, PageSource};
use crate::search::Model;

pub mod depot;
pub mod marker;
pub mod names;

/// Where a model's pages come from.
struct Pages;

impl PageSource for Pages {
    fn page(&self) -> Result<NewPage, NoMemory> {
        // SAFETY: what has no memory behind it is used as words by the models' atomics only.
        Ok(unsafe { NewPage::new(atomic::new_page()) })
    }
}

/// Sources and their models.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// The text of the sources.
    pub sources: &'static [&'static str],
    /// The quick ones first: what is weakened is looked for in one after the other.
    pub models: &'static [Model],
}

impl Protocol {
    /// How many orderings other than `Relaxed` the sources name.
    pub fn orderings_in_sources(&self) -> usize {
        let code = |line: &'static str| line.split("//").next().unwrap_or_default();
        self.sources
            .iter()
            .flat_map(|source| source.lines())
            .map(code)
            .filter(|line| !line.starts_with("use "))
            .flat_map(|line| line.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| matches!(*word, "Acquire" | "Release" | "AcqRel" | "SeqCst"))
            .count()
    }
}
