//! What a check has found, for tools that show results of tests and of analysis: one finding for each call stack, with the
//! function that asked for the memory and its place in the source.
//!
//! The *place* of a finding is the innermost function that is not allocation machinery and whose file has a relative path: a
//! file of the repository, which a forge can show. Without such a function it is the innermost that is not machinery.
//!
//! A call stack of which all objects are owned by others is no finding: it disappears when the leak of its leaders is fixed.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use crate::function::{Function, callers_of};
use crate::log::Report;
use crate::records::{Crc, Group, Object, Rank};

/// What a check has found, and why that may be incomplete.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Leaks, or suspects, what has most bytes first.
    pub list: Vec<Finding>,
    /// Why there may be more, or why nothing is known.
    pub problems: Vec<Problem>,
}

/// The leaks, or suspects, of one call stack.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Whether it is certain.
    pub kind: Kind,
    /// The function that asked for the memory; an address if it has no name.
    pub function: String,
    /// Where that is.
    pub place: Option<Place>,
    /// The functions of the call stack, without allocation machinery, innermost first.
    pub stack: Vec<Caller>,
    /// How many objects this call stack has lost, but for those that others own.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many objects these own.
    pub owned_objects: u64,
    /// The bytes of what they own.
    pub owned_bytes: u64,
}

/// Whether a finding is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A leak.
    Leak,
    /// Something that may be a leak.
    Suspect,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as the compiler was given it.
    pub file: String,
    /// The line, from 1 on.
    pub line: Option<u32>,
}

/// A function of a call stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its path; an address if it has no name.
    pub function: String,
    /// Where it calls the one before, or allocates.
    pub place: Option<Place>,
}

/// Why there may be more leaks than are listed, or why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no report with a verdict.
    NoCheck,
    /// So many blocks could not be recorded.
    Unrecorded(u64),
    /// The run ended early, for this reason.
    Ended(String),
}

impl Findings {
    /// What the report lists, if there is one. `ended` says why the run ended early, if it did.
    pub fn of(report: Option<&Report>, ended: Option<&str>) -> Self {
        let ended = ended.map(|why| Problem::Ended(why.into()));
        let Some(report) = report else {
            let problems = [Problem::NoCheck].into_iter().chain(ended);
            return Self {
                list: Vec::new(),
                problems: problems.collect(),
            };
        };
        let kind = match report.summary.suspects {
            0 => Kind::Leak,
            _ => Kind::Suspect,
        };
        let groups = match report.groups.is_empty() {
            false => report.groups.clone(),
            true => groups_of(&report.objects),
        };
        let with_leaders = groups.iter().filter(|group| group.leaders > 0);
        let mut list: Vec<_> = with_leaders.map(|group| Finding::of(group, kind)).collect();
        list.sort_by_key(|finding| std::cmp::Reverse(finding.bytes + finding.owned_bytes));
        let unrecorded = report.summary.unrecorded;
        let unrecorded = (unrecorded > 0).then_some(Problem::Unrecorded(unrecorded));
        Self {
            list,
            problems: unrecorded.into_iter().chain(ended).collect(),
        }
    }
}

/// Groups of objects that are listed without: where there was no memory for groups, and what is new since a mark.
fn groups_of(objects: &[Object]) -> Vec<Group> {
    let mut groups = BTreeMap::<Option<Crc>, Group>::new();
    for object in objects {
        let group = groups.entry(object.stack.crc).or_default();
        group.stack = object.stack.clone();
        // Where it is not known who owns what, each stands for itself.
        if object.rank != Some(Rank::Owned) {
            group.leaders += 1;
            group.leader_bytes += object.size;
            group.owned_objects += object.owned_objects.unwrap_or(0);
            group.owned_bytes += object.owned_bytes.unwrap_or(0);
        }
    }
    groups.into_values().collect()
}

impl Finding {
    fn of(group: &Group, kind: Kind) -> Self {
        let stack = callers_of(&group.stack);
        let stack: Vec<_> = stack.iter().map(Caller::of).collect();
        let is_ours = |caller: &&Caller| caller.place.as_ref().is_some_and(Place::is_relative);
        let found = stack.iter().find(is_ours).or(stack.first());
        Self {
            kind,
            function: found.map_or_else(|| "?".into(), |caller| caller.function.clone()),
            place: found.and_then(|caller| caller.place.clone()),
            stack,
            objects: group.leaders,
            bytes: group.leader_bytes,
            owned_objects: group.owned_objects,
            owned_bytes: group.owned_bytes,
        }
    }
}

impl Caller {
    fn of(function: &Function<'_>) -> Self {
        let place = |file: &str| Place {
            file: file.into(),
            line: function.line.filter(|line| *line > 0),
        };
        Self {
            function: function.name.into(),
            place: function.file.map(place),
        }
    }
}

impl Place {
    /// Whether it is a file of the repository: of others the compiler is given the whole path.
    pub fn is_relative(&self) -> bool {
        Path::new(&self.file).is_relative()
    }
}

impl Kind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Suspect => "suspect",
        }
    }
}

impl Display for Finding {
    /// In one sentence.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Leak => "unreferenced",
            Kind::Suspect => "suspected",
        };
        let (objects, bytes) = (self.objects, self.bytes);
        write!(
            f,
            "{objects} {what} {} ({})",
            objects_word(objects),
            Bytes(bytes)
        )?;
        if self.owned_objects > 0 {
            let owned = self.owned_objects;
            let verb = if objects == 1 { "owns" } else { "own" };
            write!(
                f,
                " that {verb} {owned} {} ({})",
                objects_word(owned),
                Bytes(self.owned_bytes)
            )?;
        }
        write!(f, ", allocated by {}", self.function)
    }
}

impl Display for Caller {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCheck => f.write_str("the records have no check for leaks"),
            Self::Unrecorded(1) => {
                f.write_str("the check is not certain: 1 record is missing for lack of memory")
            }
            Self::Unrecorded(count) => write!(
                f,
                "the check is not certain: {count} records are missing for lack of memory"
            ),
            Self::Ended(why) => write!(f, "the run ended early: {why}"),
        }
    }
}

fn objects_word(count: u64) -> &'static str {
    if count == 1 { "object" } else { "objects" }
}

/// So many bytes, in words.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}
