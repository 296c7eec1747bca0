//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use boot::machine::Accel;
use clap::{Parser, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0  the guest ended with success; on a terminal also: it was reset, or left by Ctrl-A X
  1  the guest ended with failure, or could not be built or started
  2  wrong usage
  3  QEMU itself failed
  4  triple fault
  5  no terminal: the machine was reset, or QEMU told to quit, before the guest's verdict
  6  --fail-on-leak: the last check found leaks, or there was none
  7  no terminal: a line is no command, has a wrong argument, is too long, or has bytes that are
     not ASCII; all other lines were obeyed
  8  --fail-on-leak: the last check found no leaks, but there are suspects, or not everything was
     recorded
If several apply, the first in the order 1 to 5, 7, 6, 8 is returned.";

/// Builds the kernel and runs it under QEMU with the serial line on the terminal.
#[derive(Debug, Parser)]
#[command(name = "boot", after_help = EXIT_CODES)]
pub struct Options {
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub smp: u32,

    /// Size of the memory, with QEMU's suffixes
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub memory: String,

    /// The kernel's command line: boot parameters with blanks between them
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub append: String,

    /// Build the kernel with all assertions, and slow
    #[arg(long)]
    pub debug_build: bool,

    /// Wait for a debugger, and print how to attach one
    #[arg(long)]
    pub gdb: bool,

    /// No terminal: the serial line on standard input and output, and nothing else there; the end of the input ends the guest
    #[arg(long)]
    pub headless: bool,

    /// End with code 6 or 8 unless the last check for leaks is certain that there are none
    #[arg(long)]
    pub fail_on_leak: bool,

    /// What executes the guest; auto is KVM where the CPU has it
    #[arg(long, value_enum, default_value_t)]
    pub accel: AccelOption,

    /// Run this kernel's ELF file, and build none
    #[arg(long = "kernel", value_name = "ELF", conflicts_with_all = ["file", "debug_build"])]
    kernel: Option<PathBuf>,

    /// A kernel's ELF file, as for --kernel
    #[arg(value_name = "ELF", conflicts_with = "debug_build")]
    file: Option<PathBuf>,

    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGS")]
    pub qemu_args: Vec<OsString>,
}

impl Options {
    /// The kernel to run, if it is not ours.
    pub fn kernel(&self) -> Option<&Path> {
        self.kernel.as_deref().or(self.file.as_deref())
    }
}

/// The values of `--accel`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum AccelOption {
    /// KVM where the CPU has it and it may be used, else emulation
    #[default]
    Auto,
    /// Emulation
    Tcg,
    /// KVM
    Kvm,
}

impl From<AccelOption> for Accel {
    fn from(option: AccelOption) -> Self {
        match option {
            AccelOption::Auto => Self::Auto,
            AccelOption::Tcg => Self::Tcg,
            AccelOption::Kvm => Self::Kvm,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_is_for_qemu() {
        let options = Options::parse_from(["boot", "--smp", "4", "--", "-cpu", "max"]);
        assert_eq!(options.smp, 4);
        assert_eq!(options.qemu_args, ["-cpu", "max"]);
        assert_eq!(options.kernel(), None);
    }

    #[test]
    fn a_kernel_can_be_named_either_way() {
        for arguments in [&["boot", "--kernel", "k"][..], &["boot", "k"]] {
            assert_eq!(
                Options::parse_from(arguments).kernel(),
                Some(Path::new("k"))
            );
        }
        assert!(Options::try_parse_from(["boot", "--kernel", "a", "b"]).is_err());
    }

    #[test]
    fn there_is_at_least_one_cpu() {
        assert!(Options::try_parse_from(["boot", "--smp", "0"]).is_err());
    }
}
