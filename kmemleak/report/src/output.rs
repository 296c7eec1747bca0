//! Writing a file in one step: a reader finds the old file or the new one, never a part.
//!
//! The text goes into a new file in the same folder, which then replaces the old one. A pipe or a device is written to directly.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file that can't be written.
#[derive(Debug)]
pub struct Unwritable {
    path: PathBuf,
    error: io::Error,
}

impl Display for Unwritable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write {}: {}", self.path.display(), self.error)
    }
}

impl Error for Unwritable {}

/// Looks whether the file can be written; changes nothing.
pub fn check(path: &Path) -> Result<(), Unwritable> {
    let writable = Target::of(path).and_then(|target| match target {
        Target::Replaced(path) => beside(&path).map(drop),
        Target::Stream => Ok(()),
    });
    writable.map_err(|error| unwritable(path, error))
}

/// Writes the file, in the place of what is there.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), Unwritable> {
    write(path, contents.as_ref()).map_err(|error| unwritable(path, error))
}

fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    match Target::of(path)? {
        Target::Stream => File::options().write(true).open(path)?.write_all(contents),
        Target::Replaced(path) => {
            let mut file = beside(&path)?;
            file.write_all(contents)?;
            file.persist(path)?;
            Ok(())
        }
    }
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
    Stream,
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            // What a link leads to is replaced, not the link.
            Ok(found) if found.is_file() => fs::canonicalize(path).map(Self::Replaced),
            Ok(_) => Ok(Self::Stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::Replaced(path.into()))
            }
            Err(error) => Err(error),
        }
    }
}

/// A new file in the folder of that one; it is removed unless it replaces that one.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut builder = Builder::new();
    // As any new file: less what the user's mask takes away.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder.unwrap_or(Path::new(".")))
}
