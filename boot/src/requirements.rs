//! What must be installed to build and run the kernel, and how to get it.

use std::env;
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::artifacts::{self, TARGET};

/// The QEMU that runs the kernel.
pub const QEMU: &str = "qemu-system-x86_64";

/// How each package manager installs QEMU; the first that is there is named.
const QEMU_PACKAGES: [(&str, &str); 6] = [
    ("apt-get", "apt-get install qemu-system-x86"),
    ("dnf", "dnf install qemu-system-x86-core"),
    ("pacman", "pacman -S qemu-system-x86"),
    ("zypper", "zypper install qemu-x86"),
    ("apk", "apk add qemu-system-x86_64"),
    ("brew", "brew install qemu"),
];

/// Something that is not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// QEMU.
    Qemu,
    /// The bare target of the Rust toolchain.
    Target,
}

impl Display for Missing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu => {
                let package = QEMU_PACKAGES
                    .iter()
                    .find(|(manager, _)| find_program(manager).is_some());
                let command = package.map_or("your package manager", |(_, command)| command);
                write!(
                    f,
                    "{QEMU} is missing: get it by ./setup.sh, or by {command}"
                )
            }
            Self::Target => write!(
                f,
                "the Rust target {TARGET} is missing: get it by ./setup.sh, or by rustup target add {TARGET}"
            ),
        }
    }
}

impl Error for Missing {}

/// Checks that all is there.
pub fn check() -> Result<(), Missing> {
    if find_program(QEMU).is_none() {
        return Err(Missing::Qemu);
    }
    if !has_target() {
        return Err(Missing::Target);
    }
    Ok(())
}

/// The program of that name in the search path.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Whether the compiler has a standard library for the target. Where the compiler can't be asked, the
/// build will tell.
fn has_target() -> bool {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(artifacts::workspace())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else { return true };
    let directory = String::from_utf8_lossy(&output.stdout);
    !output.status.success() || Path::new(directory.trim_end()).is_dir()
}
