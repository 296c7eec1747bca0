//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boot::machine::Accel;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};

use crate::files::OutputFiles;
use crate::typed::Typed;

/// The CPUs that the kernel has room for; it reads the same file.
const MOST_CPUS: u32 = include!("../../kernel/src/arch/max_cpus.in");

const EXIT_CODES: &str = "\
Exit codes:
  0  the guest ended with success; on a terminal also: it was reset, or left by Ctrl-A X
  1  the guest ended with failure, or could not be built or started
  2  wrong usage; a script that can't be read, or a file that can't be written
  3  QEMU itself failed
  4  triple fault
  5  no terminal: the machine was reset, or QEMU told to quit, before the guest's verdict
  6  --fail-on-leak: the last check found leaks, or there was no check
  7  no terminal: a command was not understood, or failed. Without --keep-going, the commands
     behind it were not carried out
  8  --fail-on-leak: the last check found no leaks, but there are suspects, or not everything was
     recorded
  9  --timeout: the machine had not ended by then
If several apply, the first in the order 1, 3, 4, 5, 9, 7, 2, 6, 8 is returned.";

/// Builds the kernel and runs it under QEMU with the serial line on the terminal.
///
/// Commands come from the terminal, or from `--script FILE`, `-c COMMANDS` or the standard input; the end of these ends the
/// machine.
#[derive(Debug, Parser)]
#[command(name = "boot", after_help = EXIT_CODES)]
pub struct Options {
    /// Number of CPUs; the kernel has room for 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub smp: u32,

    /// Size of the memory: a number, then K, M, G or T; M if there is no letter
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = memory_size)]
    pub memory: String,

    /// The kernel's command line: boot parameters with blanks between them
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub append: String,

    /// Build the kernel with all assertions; it is slower
    #[arg(long)]
    pub debug_build: bool,

    /// Wait for a debugger, and print the command that attaches gdb, with pretty-printers for the leak detector. The kernel is built with all debug information
    #[arg(long)]
    pub gdb: bool,

    /// No terminal: only the serial line is on standard input and output; the end of the input ends the guest
    #[arg(long)]
    pub headless: bool,

    /// Type the commands of this file, one per line, instead of the standard input; `-` is the standard input. Empty lines and lines that begin with `#` are ignored
    #[arg(long, value_name = "FILE", conflicts_with = "commands")]
    script: Option<PathBuf>,

    /// Type these commands, with `;` or newlines between them
    #[arg(short = 'c', value_name = "COMMANDS", allow_hyphen_values = true)]
    commands: Option<String>,

    /// Go on after a command that was not understood, or failed. Otherwise, without a terminal, such a command ends the machine
    #[arg(long)]
    pub keep_going: bool,

    /// End the machine after this time, in seconds, with exit code 9. Building the kernel does not count
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,

    #[command(flatten)]
    pub files: OutputFiles,

    /// End with exit code 6 or 8 unless the last check for leaks is certain that there are none
    #[arg(long)]
    pub fail_on_leak: bool,

    /// Whether reports have colours; auto: on a terminal, unless NO_COLOR is set. Only for the kernel of this repository
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorOption,

    /// Print QEMU's command before it is run
    #[arg(short, long)]
    pub verbose: bool,

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
    /// Parses the command line; ends the program if it is wrong.
    pub fn of_command_line() -> Self {
        let options = Self::parse();
        match options.checked() {
            Ok(()) => options,
            Err(error) => error.exit(),
        }
    }

    /// What clap does not check.
    fn checked(&self) -> Result<(), clap::Error> {
        let wrong = |what: String| Err(Self::command().error(ErrorKind::ValueValidation, what));
        // Another kernel has limits of its own.
        if self.kernel().is_none() && self.smp > MOST_CPUS {
            let smp = self.smp;
            return wrong(format!(
                "invalid value '{smp}' for '--smp <N>': the kernel has room for {MOST_CPUS} CPUs"
            ));
        }
        Ok(())
    }

    /// What is typed, if it is not the terminal.
    pub fn typed(&self) -> Result<Typed, String> {
        match (&self.script, &self.commands) {
            (Some(script), _) => Typed::file(script),
            (None, Some(commands)) => Ok(Typed::commands(commands)),
            (None, None) => Ok(Typed::Input),
        }
    }

    /// Whether the terminal, if there is one, is not the guest's.
    pub fn is_headless(&self) -> bool {
        self.headless || self.script.is_some() || self.commands.is_some()
    }

    /// How long the machine may run.
    pub fn limit(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    /// The kernel to run, if it is not ours.
    pub fn kernel(&self) -> Option<&Path> {
        self.kernel.as_deref().or(self.file.as_deref())
    }
}

/// A size as QEMU takes it.
fn memory_size(text: &str) -> Result<String, String> {
    let number = text
        .strip_suffix(|c: char| "KMGTkmgt".contains(c))
        .unwrap_or(text);
    match number.parse::<u32>() {
        Ok(1..) => Ok(text.into()),
        _ => Err("expected a number that is not 0, and K, M, G or T, as in 256M".into()),
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

/// The values of `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorOption {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always, also in files and pipes
    Always,
    /// Never
    Never,
}

#[cfg(test)]
mod tests {
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
    fn there_are_as_many_cpus_as_the_kernel_has_room_for() {
        assert!(Options::try_parse_from(["boot", "--smp", "0"]).is_err());
        let checked = |arguments: &[&str]| {
            let options = Options::try_parse_from(arguments).expect("it is an option");
            options.checked().map_err(|error| error.to_string())
        };
        assert_eq!(checked(&["boot", "--smp", "64"]), Ok(()));
        let error = checked(&["boot", "--smp", "65"]).expect_err("too many");
        assert!(error.contains("the kernel has room for 64 CPUs"), "{error}");
        assert_eq!(checked(&["boot", "--smp", "65", "another"]), Ok(()));
        let help = Options::command().render_help().to_string();
        assert!(help.contains(&format!("room for {MOST_CPUS}")), "{help}");
    }

    #[test]
    fn a_size_is_a_number_with_a_suffix() {
        for size in ["64", "256M", "1G", "2g", "65536K"] {
            assert_eq!(memory_size(size), Ok(size.into()));
        }
        for size in [
            "",
            "M",
            "0",
            "0M",
            "-1",
            "many",
            "1MM",
            "1X",
            "1.5G",
            "1 G",
            "99999999999",
        ] {
            assert!(memory_size(size).is_err(), "{size}");
        }
    }

    #[test]
    fn there_is_one_script_and_some_time() {
        for wrong in [
            &["boot", "--script", "a", "-c", "b"][..],
            &["boot", "--timeout", "0"],
            &["boot", "--timeout", "soon"],
        ] {
            assert!(Options::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
        let options = Options::parse_from(["boot", "--timeout", "2", "-c", "ps"]);
        assert_eq!(options.limit(), Some(Duration::from_secs(2)));
        assert!(options.is_headless());
    }
}
