//! Files that a run leaves behind: which are wanted, what the guest must be asked for them, and writing them.
//!
//! The guest is asked once all that the user has typed has been done ([`OutputFiles::ask`]). The files are written when the
//! machine has ended, in whatever way, with what came until then ([`OutputFiles::write`]): first beside their place, so that
//! a reader never finds half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::{Builder, NamedTempFile};

/// Said where files are wanted, but QEMU has the terminal to itself.
pub const NO_TERMINAL: &str = "files are written for commands that come to an end: by --script, -c, or a pipe on the standard input";

/// The files that are wanted.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files")]
pub struct OutputFiles {
    /// The detector's records, one JSON object a line: those that the commands print; if no check is among them, the last check's as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the guest has printed and answered.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Records that the user's commands have printed, one a line.
    pub records: String,
    /// What it answered.
    pub answers: Answers,
}

/// What the guest has answered, each as it was printed.
#[derive(Debug, Default)]
pub struct Answers {
    /// The records of the last check.
    pub last_check: Option<String>,
}

/// What is known of the run when the guest is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoFar {
    /// Whether there was a check for leaks.
    pub checked: bool,
    /// Whether the records of one have been printed.
    pub check_printed: bool,
}

/// A file that can't be written.
#[derive(Debug)]
pub struct Unwritable {
    path: PathBuf,
    error: io::Error,
}

impl std::fmt::Display for Unwritable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write {}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for Unwritable {}

impl OutputFiles {
    /// All that are wanted.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.json].into_iter().filter_map(|path| path.as_deref())
    }

    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.paths().next().is_some()
    }

    /// Looks whether each of them can be written.
    pub fn check(&self) -> Result<(), Unwritable> {
        self.paths().try_for_each(|path| {
            let writable = Target::of(path).and_then(|target| match target {
                Target::Replaced(path) => beside(&path).map(drop),
                Target::Stream(file) => {
                    drop(file);
                    Ok(())
                }
            });
            writable.map_err(|error| unwritable(path, error))
        })
    }

    /// Asks the guest what the files need. The question is a command, the answer what it prints, or nothing if the machine has ended.
    pub fn ask(&self, so_far: SoFar, ask: &mut dyn FnMut(&str) -> Option<String>) -> Answers {
        let mut answers = Answers::default();
        if self.json.is_some() && !so_far.check_printed {
            // A report without a check would be a failed command, which may end the machine.
            answers.last_check = ask(match so_far.checked {
                true => "kmemleak report --all --json",
                false => "kmemleak scan --all --json",
            });
        }
        answers
    }

    /// Writes them all, and returns the first error.
    pub fn write(&self, gathered: &Gathered) -> Result<(), Unwritable> {
        let json = self.json.as_deref().map(|path| (path, json(gathered)));
        let files = [json].into_iter().flatten();
        let results: Vec<_> = files
            .map(|(path, text)| replace(path, &text).map_err(|error| unwritable(path, error)))
            .collect();
        results.into_iter().collect()
    }
}

/// All records.
fn json(gathered: &Gathered) -> String {
    let answer = gathered.answers.last_check.as_deref().unwrap_or_default();
    let records = answer.lines().filter(|line| line.starts_with('{'));
    let records: String = records.flat_map(|line| [line, "\n"]).collect();
    format!("{}{records}", gathered.records)
}

fn unwritable(path: &Path, error: io::Error) -> Unwritable {
    let path = path.into();
    Unwritable { path, error }
}

/// Where a file goes.
enum Target {
    /// In the place of what is there, a file or nothing.
    Replaced(PathBuf),
    /// Into what is there: a pipe, or a device.
    Stream(File),
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            // What a link leads to is replaced, not the link.
            Ok(found) if found.is_file() => fs::canonicalize(path).map(Self::Replaced),
            Ok(_) => File::options().write(true).open(path).map(Self::Stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::Replaced(path.into()))
            }
            Err(error) => Err(error),
        }
    }
}

/// A new file in the folder of that one, which is removed unless it takes that one's place.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder.unwrap_or(Path::new(".")))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    match Target::of(path)? {
        Target::Stream(mut file) => file.write_all(text.as_bytes()),
        Target::Replaced(path) => {
            let mut file = beside(&path)?;
            file.write_all(text.as_bytes())?;
            file.persist(path)?;
            Ok(())
        }
    }
}
