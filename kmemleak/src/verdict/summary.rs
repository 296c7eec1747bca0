//! A verdict in figures.

use core::fmt;

use crate::platform::StopError;

/// How a verdict was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In one pass, with the world stopped: exact.
    Stopped,
    /// In one pass over what memory held when the world was stopped for a moment: exact.
    Frozen,
    /// By a pass of the background scan, which leaves out what is young or has changed lately, and a stop of the world, in which
    /// nothing was found to point to what is listed: exact.
    Confirmed,
    /// By passes of the background scan, unconfirmed, which leave out what is young or has changed lately. If the world was stopped to
    /// confirm the suspects ([`Summary::stopped_us`] is not zero), that took too long and was abandoned.
    Scanned {
        /// How many passes it took.
        passes: u32,
    },
    /// In repeated passes, since the world could not be stopped.
    Repeated {
        /// Why the world could not be stopped.
        reason: StopError,
        /// How many passes it took.
        passes: u32,
    },
}

/// Why what a verdict lists are suspects, and no leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// This number of blocks, or of statements about blocks, could not be recorded since there was no memory. What these keep
    /// alive is among the suspects.
    Unrecorded(u64),
    /// They were found while other code ran, and no stop of the world has confirmed them: objects in use may be among them.
    Unconfirmed,
    /// Nothing vouches that blocks can be read, and this number was not: the platform's [`readable`](crate::Platform::readable)
    /// is false for all of them. Objects that only they point to are among the suspects.
    Unread(u64),
    /// Allocators were moving this number of blocks to another place or size, however often the check waited for that. Objects that
    /// only these point to are among the suspects.
    InFlight(u64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecorded(1) => f.write_str("1 record is missing for lack of memory"),
            Self::Unrecorded(missing) => {
                write!(f, "{missing} records are missing for lack of memory")
            }
            Self::Unconfirmed => f.write_str("the world was not stopped to make sure"),
            Self::InFlight(1) => {
                f.write_str("1 block was being reallocated all the time, and was not read")
            }
            Self::InFlight(blocks) => {
                write!(
                    f,
                    "{blocks} blocks were being reallocated all the time, and were not read"
                )
            }
            Self::Unread(blocks) => write!(
                f,
                "the platform vouches for no block to be readable, and {blocks} were passed over (Platform::readable)"
            ),
        }
    }
}

/// A verdict in figures.
///
/// It lists objects that nothing was found to point to. These are *leaks* if that is certain: the world was stopped, and all was
/// recorded. Otherwise all of them are *suspects*. What is said of listed objects holds for leaks and suspects alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Leaks: objects that nothing points to.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Suspects: objects that nothing was found to point to, of which it is not certain. None where there are leaks.
    pub suspects: usize,
    /// Their bytes.
    pub suspect_bytes: usize,
    /// The listed objects that have not been reported.
    pub unreported_objects: usize,
    /// Bytes of these.
    pub unreported_bytes: usize,
    /// The leaders among the listed objects: the rest was lost with these. `None` where there was no memory to find out.
    pub leaders: Option<usize>,
    /// Bytes of the leaders; bytes of all listed objects where there are no leaders.
    pub leader_bytes: usize,
    /// Call stacks that allocated the listed objects. `None` where there was no memory to count.
    pub groups: Option<usize>,
    /// Objects that suppressions hide.
    pub suppressed_objects: usize,
    /// Bytes of these.
    pub suppressed_bytes: usize,
    /// How it was made.
    pub how: How,
    /// Whether the suspects stood still at last. If not, the last pass that was allowed still took some away, and another one
    /// might take more.
    pub settled: bool,
    /// What could not be recorded since there was no memory, since the last `clear`: blocks, and what was said of them.
    pub unrecorded: u64,
    /// About how many bytes of metadata more would have been enough for that, in whole pages: an estimate by what the objects that are
    /// known take. For [`metadata_alloc`](crate::Platform::metadata_alloc) or [`add_metadata`](crate::Detector::add_metadata).
    pub missing_bytes: usize,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// For how long the world was stopped, in microseconds; zero if it was not. Of a stop that was abandoned, see [`How::Scanned`], with
    /// the time in which the CPUs stopped.
    pub stopped_us: u64,
    /// Objects that were tracked.
    pub tracked: u64,
    /// Words that were read.
    pub words: u64,
    /// Blocks that were not read, if nothing vouches that any block can be read; see [`Doubt::Unread`].
    pub unread: u64,
    /// Blocks that were not read, since an allocator was moving them; see [`Doubt::InFlight`].
    pub in_flight: u64,
    /// Objects that could be leaks if they did not lie in a root that is a section. More than a few mean that the arena of a heap
    /// is a variable, and is to be [excluded](crate::Detector::exclude): nothing in it can be lost.
    pub in_sections: u64,
    /// Whether stacks were read: the platform has named one ([`stack_bounds`](crate::Platform::stack_bounds) or
    /// [`RootKind::Stack`](crate::RootKind::Stack)), or a caller a region; or whether they were left out as asked (`stack=off`). If
    /// it is false, what only a stack holds is listed.
    pub stacks: bool,
    /// Words among those read that might be addresses in objects.
    pub candidates: u64,
    /// Candidates that are addresses in objects. The others are misses.
    pub hits: u64,
    /// CPUs that marked together.
    pub cpus: u32,
}

/// The summary of the last verdict, if there is one. Unlike in an `Option`, it is laid down that none is zero bits.
#[derive(Clone, Copy)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(crate) enum LastSummary {
    None = 0,
    Some(Summary),
}

impl LastSummary {
    pub(crate) fn get(self) -> Option<Summary> {
        match self {
            Self::None => None,
            Self::Some(summary) => Some(summary),
        }
    }
}

impl Summary {
    /// Objects that the verdict lists: leaks, or suspects.
    pub fn listed(&self) -> usize {
        self.objects + self.suspects
    }

    /// Their bytes.
    pub fn listed_bytes(&self) -> usize {
        self.bytes + self.suspect_bytes
    }

    /// Why the listed objects are suspects; `None` if they are leaks.
    pub fn doubt(&self) -> Option<Doubt> {
        match self.how {
            _ if self.unrecorded > 0 => Some(Doubt::Unrecorded(self.unrecorded)),
            _ if self.unread > 0 => Some(Doubt::Unread(self.unread)),
            _ if self.in_flight > 0 => Some(Doubt::InFlight(self.in_flight)),
            How::Stopped | How::Frozen | How::Confirmed => None,
            How::Scanned { .. } | How::Repeated { .. } => Some(Doubt::Unconfirmed),
        }
    }
}
