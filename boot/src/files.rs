//! Files that a run leaves behind: which are wanted, what the guest must be asked for them, and writing them.
//!
//! The guest is asked when all commands of the user have been done ([`OutputFiles::ask`]). The files are written when the
//! machine has ended, in whatever way, with what came until then ([`OutputFiles::write`]).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use kmemleak_report::findings::Findings;
use kmemleak_report::log::Log;
use kmemleak_report::output::{self, Unwritable};
use kmemleak_report::pictures::{PictureError, Pictures};
use kmemleak_report::{junit, sarif};

/// Said where files are wanted, but QEMU has the terminal to itself.
pub const NO_TERMINAL: &str =
    "output files need commands that end: give --script or -c, or a pipe as the standard input";

/// What pictures are about.
const TITLE: &str = "kernel";

/// What stands above the options in `--help`.
const HEADING: &str = "Files";

/// The files that are wanted.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputFiles {
    /// The detector's records, one JSON object per line: those that the commands print; if no check is among them, also those of the last check
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    json: Option<PathBuf>,

    /// The leaks of the last check as JUnit XML: a failing test case for each call stack
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    junit: Option<PathBuf>,

    /// The leaks of the last check as SARIF 2.1.0: a result for each call stack
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    sarif: Option<PathBuf>,

    #[command(flatten)]
    pictures: Pictures,
}

/// What is known of a run when it has ended.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Records that the user's commands have printed, one a line.
    pub records: String,
    /// What was known when the user's commands had been done.
    pub so_far: SoFar,
    /// What the guest answered then.
    pub answers: Answers,
    /// Why the run ended early, if it did.
    pub ended_early: Option<String>,
}

/// What the guest has answered, each as it was printed.
#[derive(Debug, Default)]
pub struct Answers {
    /// The records of the last check.
    pub last_check: Option<String>,
    /// All call sites.
    pub sites: Option<String>,
    /// A snapshot of the heap.
    pub snapshot: Option<String>,
}

/// What is known of the run when the guest is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Whether there was a check for leaks.
    pub checked: bool,
    /// Whether the records of one have been printed.
    pub check_printed: bool,
}

/// Makes a file's text.
type Maker = fn(&Gathered) -> String;

impl OutputFiles {
    /// All that are wanted.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.json, &self.junit, &self.sarif];
        let all = all.into_iter().filter_map(|path| path.as_deref());
        all.chain(self.pictures.paths())
    }

    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.paths().next().is_some()
    }

    /// Looks whether each of them can be written.
    pub fn check(&self) -> Result<(), Unwritable> {
        self.paths().try_for_each(output::check)
    }

    /// Asks the guest what the files need. The question is a command, the answer what it prints, or nothing if the machine has ended.
    pub fn ask(&self, so_far: SoFar, ask: &mut dyn FnMut(&str) -> Option<String>) -> Answers {
        let mut answers = Answers::default();
        // What was printed may be a part of it: the leaders, or what is new.
        let pictures = &self.pictures;
        let needs_all = self.junit.is_some() || self.sarif.is_some() || pictures.need_report();
        if needs_all || self.json.is_some() && !so_far.check_printed {
            // A report without a check would be a failed command, which may end the machine.
            answers.last_check = ask(match so_far.checked {
                true => "kmemleak report --all --json",
                false => "kmemleak scan --all --json",
            });
        }
        if pictures.need_report() {
            answers.sites = ask("kmemleak sites 100000 --json");
        }
        if pictures.need_snapshot() {
            answers.snapshot = ask("kmemleak snapshot");
        }
        answers
    }

    /// Writes them all, and returns the first error.
    pub fn write(&self, gathered: &Gathered) -> Result<(), PictureError> {
        let wanted: [(&Option<PathBuf>, Maker); 3] = [
            (&self.json, json),
            (&self.junit, |gathered| {
                junit::document(&gathered.findings())
            }),
            (&self.sarif, |gathered| {
                sarif::document(&gathered.findings())
            }),
        ];
        let mut written = Ok(());
        for (path, document) in wanted {
            if let Some(path) = path {
                let one = output::replace(path, document(gathered));
                written = written.and(one.map_err(PictureError::from));
            }
        }
        let drawn = match self.pictures.any() {
            true => self.pictures.write(&gathered.log(), TITLE),
            false => Ok(()),
        };
        written.and(drawn)
    }
}

impl Gathered {
    /// The records of the last check, if they were asked for.
    fn last_check(&self) -> &str {
        self.answers.last_check.as_deref().unwrap_or_default()
    }

    /// What all records tell.
    fn log(&self) -> Log {
        let mut log = Log::default();
        let answers = &self.answers;
        let asked = [&answers.last_check, &answers.sites, &answers.snapshot];
        let asked = asked.into_iter().flatten();
        for text in [&self.records].into_iter().chain(asked) {
            // Memory takes it.
            let _ = log.write_all(text.as_bytes());
        }
        log.finish();
        log
    }

    fn findings(&self) -> Findings {
        Findings::of(self.log().report.as_ref(), self.ended_early.as_deref())
    }
}

/// All records.
fn json(gathered: &Gathered) -> String {
    let asked = match gathered.so_far.check_printed {
        true => "",
        false => gathered.last_check(),
    };
    let records = asked.lines().filter(|line| line.starts_with('{'));
    let records: String = records.flat_map(|line| [line, "\n"]).collect();
    format!("{}{records}", gathered.records)
}
