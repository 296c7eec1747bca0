//! What each command says at the end of a story.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::books::{Books, plural};
use crate::failure::Reason;
use crate::host::{self, Outcome};

/// CPUs of the machine that exhibits run on.
const CPUS: u32 = 2;
/// Scans that are made to find something, and what they are called.
const SCANS: [&str; 3] = ["first", "second", "third"];

/// A story that is over.
pub(super) struct Story<'s> {
    pub(super) text: &'s str,
    /// Names of what is lost.
    pub(super) lost: &'s [&'s str],
    pub(super) books: &'s Books,
}

/// A command that finds a loss.
pub(super) struct Finder {
    pub(super) command: &'static str,
    /// After how long, or where.
    when: String,
}

impl Finder {
    pub(super) fn told(&self) -> String {
        format!("`{}`, {}", self.command, self.when)
    }
}

impl Story<'_> {
    /// The commands that find what is lost. One that tells of anything else is an error.
    pub(super) fn finders(&self) -> Result<Vec<Finder>, String> {
        let answers = [
            ("check", self.check()?),
            ("scan", self.scan()?),
            ("sites", self.sites()?),
            ("counts", self.counts()?),
            ("tasks", self.tasks()?),
        ];
        let found = answers.into_iter().filter_map(|(command, when)| {
            let when = when?;
            Some(Finder { command, when })
        });
        Ok(found.collect())
    }

    /// What is told by an expectation that there is nothing.
    fn ask(&self, question: &str) -> Result<Vec<String>, String> {
        let text = format!("{}\n{question}\n", self.text);
        match host::run(&text, CPUS) {
            Outcome::Passed => Ok(Vec::new()),
            Outcome::Failed(failure) => match failure.reason {
                Reason::Mismatch { got, .. } if failure.line == text.lines().count() => {
                    Ok(got.split_whitespace().map(ToString::to_string).collect())
                }
                _ => Err(failure.to_string()),
            },
            Outcome::Skipped => Err("it needs another machine".into()),
        }
    }

    /// The names that a question is answered with; all of them must be lost.
    fn ask_for_lost(&self, command: &str, question: &str) -> Result<Vec<String>, String> {
        let told = self.ask(question)?;
        // A count is told with its difference.
        let mut names = told.iter().map(|one| one.split(['+', '-']).next());
        let is_lost = |name: &str| self.lost.contains(&name);
        match names.find_map(|name| name.filter(|name| !is_lost(name))) {
            Some(other) => Err(format!("{command} reports {other}, which is not lost")),
            None => Ok(told),
        }
    }

    /// How many of the lost ones were found, if not all.
    fn part(&self, found: usize) -> String {
        match found == self.lost.len() {
            true => String::new(),
            false => format!(" ({found} of {})", self.lost.len()),
        }
    }

    fn check(&self) -> Result<Option<String>, String> {
        let told = self.ask_for_lost("check", "check\nexpect leaks none")?;
        Ok((!told.is_empty()).then(|| format!("first check{}", self.part(told.len()))))
    }

    fn scan(&self) -> Result<Option<String>, String> {
        for (index, ordinal) in SCANS.iter().enumerate() {
            let question = format!("{}expect leaks none", "scan\n".repeat(index + 1));
            let told = self.ask_for_lost("scan", &question)?;
            if !told.is_empty() {
                return Ok(Some(format!("{ordinal} scan{}", self.part(told.len()))));
            }
        }
        Ok(None)
    }

    /// Whether what is lost comes from the site that has grown most since the mark. By how much each has grown must be what the books
    /// say.
    fn sites(&self) -> Result<Option<String>, String> {
        if !self.books.has_mark {
            return Ok(None);
        }
        let mut most = (0, "");
        for (site, total) in &self.books.by_site {
            let told = self.ask(&format!("check\nexpect growth {site} 0 0"))?;
            let bytes = told.first().map_or("0", String::as_str);
            if bytes != total.growth().to_string() {
                return Err(format!(
                    "{site} has grown by {bytes} bytes, says the detector"
                ));
            }
            most = most.max((total.growth(), site));
        }
        let lost = self.books.sites(self.lost);
        let is_found = most.0 > 0 && lost.contains(&most.1);
        Ok(is_found.then(|| "the site that has grown most since `mark`".into()))
    }

    fn counts(&self) -> Result<Option<String>, String> {
        let told = self.ask_for_lost("counts", "expect counts none")?;
        Ok((!told.is_empty()).then(|| format!("first question: {}", told.join(" "))))
    }

    fn tasks(&self) -> Result<Option<String>, String> {
        let told = self.ask_for_lost("tasks", "expect lost none")?;
        let mut retained = 0;
        for task in &told {
            let sums = self.ask(&format!("expect retains {task} 0 0"))?;
            let blocks = sums.get(1).and_then(|blocks| blocks.parse().ok());
            retained += blocks.unwrap_or(0);
        }
        let what = || format!("{} retains {}", told.join(" "), plural(retained, "block"));
        Ok((!told.is_empty()).then(|| format!("first question: {}", what())))
    }
}
