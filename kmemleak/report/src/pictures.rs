//! The files that are drawn from a log: the page, and what other tools open.
//!
//! The options are the same for programs that read a log and for those that run the kernel, so they stand here.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::graph::{Graph, GraphError};
use crate::log::Log;
use crate::output::{self, Unwritable};
use crate::usage::by_call_stack;
use crate::{folded, heapsnapshot, page, pprof};

/// What stands above the options in `--help`.
const HEADING: &str = "Pictures";

/// Files that are wanted.
#[derive(Args, Clone, Debug, Default)]
pub struct Pictures {
    /// One page of HTML that needs no network: leaks, what keeps how much memory alive, flame graphs, growth over marks
    #[arg(long, visible_alias = "html", value_name = "FILE", help_heading = HEADING)]
    report: Option<PathBuf>,

    /// The heap as a graph, for the memory panel of Chrome DevTools and for memlab (FILE.heapsnapshot)
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    heap_snapshot: Option<PathBuf>,

    /// Bytes by call stack, lost and in use, as folded stacks: for flame graphs
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    folded: Option<PathBuf>,

    /// Objects and bytes by call stack, lost and in use, for `go tool pprof` and speedscope (FILE.pb.gz)
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pprof: Option<PathBuf>,
}

/// Why a file was not written.
#[derive(Debug)]
pub enum PictureError {
    /// The log has no snapshot of the heap.
    NoSnapshot,
    /// The snapshot can't be drawn.
    Graph(GraphError),
    /// The picture can't be made.
    Draw(io::Error),
    /// The file can't be written.
    Unwritable(Unwritable),
}

impl Display for PictureError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSnapshot => {
                write!(
                    f,
                    "the log has no snapshot of the heap: the command `kmemleak snapshot` prints one"
                )
            }
            Self::Graph(error) => error.fmt(f),
            Self::Draw(error) => error.fmt(f),
            Self::Unwritable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PictureError {}

impl From<GraphError> for PictureError {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}

impl From<io::Error> for PictureError {
    fn from(error: io::Error) -> Self {
        Self::Draw(error)
    }
}

impl From<Unwritable> for PictureError {
    fn from(error: Unwritable) -> Self {
        Self::Unwritable(error)
    }
}

impl Pictures {
    /// All files that are wanted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.report, &self.heap_snapshot, &self.folded, &self.pprof];
        all.into_iter().filter_map(|path| path.as_deref())
    }

    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.paths().next().is_some()
    }

    /// Whether a report and the call sites are needed: the heap's graph needs the snapshot alone.
    pub fn need_report(&self) -> bool {
        self.report.is_some() || self.folded.is_some() || self.pprof.is_some()
    }

    /// Whether a snapshot is needed.
    pub fn need_snapshot(&self) -> bool {
        self.report.is_some() || self.heap_snapshot.is_some()
    }

    /// Writes them all, whatever fails, and returns the first error. `title` is what they are about.
    pub fn write(&self, log: &Log, title: &str) -> Result<(), PictureError> {
        type Maker<'a> = &'a dyn Fn(&mut Vec<u8>) -> Result<(), PictureError>;
        let wanted: [(_, Maker<'_>); 4] = [
            (&self.report, &|out| Ok(page::write(log, title, out)?)),
            (&self.heap_snapshot, &|out| {
                let snapshot = log.snapshot.clone().ok_or(PictureError::NoSnapshot)?;
                Ok(heapsnapshot::write(&Graph::new(snapshot)?, out)?)
            }),
            (&self.folded, &|out| {
                Ok(folded::write(&by_call_stack(log), out)?)
            }),
            (&self.pprof, &|out| {
                Ok(pprof::write(&by_call_stack(log), out)?)
            }),
        ];
        let mut written = Ok(());
        for (path, make) in wanted {
            if let Some(path) = path {
                written = written.and(write_one(path, make));
            }
        }
        written
    }
}

fn write_one(
    path: &Path,
    make: &dyn Fn(&mut Vec<u8>) -> Result<(), PictureError>,
) -> Result<(), PictureError> {
    let mut bytes = Vec::new();
    make(&mut bytes)?;
    Ok(output::replace(path, bytes)?)
}
