//! Building the loader and the kernels, by a cargo of our own.
//!
//! It runs in the workspace, in the target directory that this program came from, and without the
//! variables that would replace the flags in the workspace's configuration. Cargo knows when there is
//! nothing to do.

use std::env;
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// The target that kernel and loader are built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// Variables that change flags or targets of a build, and would change those of the bare target's.
const FOREIGN_VARIABLES: [&str; 4] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
];

/// A package whose binary runs on the bare machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// The stage that QEMU starts.
    Loader,
    /// The kernel.
    Kernel,
    /// The kernel of the tests.
    Guest,
}

impl Package {
    fn name(self) -> &'static str {
        match self {
            Self::Loader => "loader",
            Self::Kernel => "kernel",
            Self::Guest => "guest",
        }
    }

    /// The binary, where [`build`] puts it.
    pub fn binary(self, profile: Profile) -> PathBuf {
        target_directory()
            .join(TARGET)
            .join(profile.directory())
            .join(self.name())
    }
}

/// How a package is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Optimised, as the kernel usually runs.
    Release,
    /// With all assertions, and slow.
    Debug,
    /// Optimised likewise, with the types and variables that a debugger asks for.
    Gdb,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
            Self::Gdb => "gdb",
        }
    }
}

/// Why there is no binary.
#[derive(Debug)]
pub enum BuildError {
    /// Cargo can't be started.
    Cargo(io::Error),
    /// The build failed; cargo has told why.
    Failed(ExitStatus),
}

impl Display for BuildError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cargo(error) => write!(f, "cannot run cargo: {error}"),
            Self::Failed(status) => write!(f, "the build failed (cargo: {status})"),
        }
    }
}

impl Error for BuildError {}

/// Builds the packages' binaries. What cargo has to say goes to the standard error output.
pub fn build(packages: &[Package], profile: Profile) -> Result<(), BuildError> {
    let packages = packages
        .iter()
        .flat_map(|package| ["--package", package.name()]);
    run_cargo(workspace(), &target_directory(), profile, packages)
}

/// Builds the kernel of this name, which is a workspace of its own in `folder`, and returns its binary.
pub fn build_apart(folder: &Path, name: &str, profile: Profile) -> Result<PathBuf, BuildError> {
    let target = target_directory().join(name);
    run_cargo(folder, &target, profile, [])?;
    Ok(target.join(TARGET).join(profile.directory()).join(name))
}

fn run_cargo<'a>(
    folder: &Path,
    target_directory: &Path,
    profile: Profile,
    packages: impl IntoIterator<Item = &'a str>,
) -> Result<(), BuildError> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").args(["--target", TARGET, "--bins"]);
    cargo.arg("--target-dir").arg(target_directory);
    match profile {
        Profile::Release => cargo.arg("--release"),
        Profile::Gdb => cargo.args(["--profile", "gdb"]),
        Profile::Debug => &mut cargo,
    };
    // Progress is shown on a terminal only.
    if !io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo.args(packages);
    for variable in FOREIGN_VARIABLES {
        cargo.env_remove(variable);
    }
    cargo
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = cargo.status().map_err(BuildError::Cargo)?;
    if status.success() {
        Ok(())
    } else {
        Err(BuildError::Failed(status))
    }
}

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The target directory that this program came from (cargo marks it by a tag), so that builds share it
/// however it was chosen; else the workspace's.
fn target_directory() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let tagged = program
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file());
    tagged.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}
