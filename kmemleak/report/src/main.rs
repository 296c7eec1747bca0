//! `kmemleak-report`: options, exit codes, and what is said besides.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kmemleak_report::findings::Findings;
use kmemleak_report::log::Log;
use kmemleak_report::output;
use kmemleak_report::pictures::Pictures;
use kmemleak_report::{Found, FramesShown, Kernel, LinesShown, Rewriter, junit, sarif};

/// Names the functions in leak reports of a kernel that can't name them itself, and draws pictures of what the reports tell.
///
/// Reads a serial log; with --kernel, writes it again with names: in the reports of kmemleak, text or JSON, each code address
/// becomes the function, file and line, with the functions that were inlined there. All other lines stay as they are. The
/// innermost frames of a call stack, as far as they belong to the allocator or the standard library, are left out and counted.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    /// The kernel that wrote the log, with its symbols and its debug information
    #[arg(long, value_name = "ELF", required_unless_present_any = ["junit", "sarif", "report", "heap_snapshot", "folded", "pprof"])]
    kernel: Option<PathBuf>,
    /// Where the kernel ran, if it was relocated: the run-time address of its lowest segment, in hexadecimal
    #[arg(long, value_name = "ADDR", value_parser = hexadecimal, requires = "kernel")]
    base: Option<u64>,
    /// Write only the lines of JSON, without what stands before them in a line: for programs
    #[arg(long)]
    json: bool,
    /// Write also the frames of the allocator and of the standard library
    #[arg(long)]
    all_frames: bool,
    /// Write the leaks of the log's last JSON report as JUnit XML: a failing test case for each call stack
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the leaks of the log's last JSON report as SARIF 2.1.0: a result for each call stack
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// The log; the standard input if it is missing or `-`
    #[arg(default_value = "-")]
    log: PathBuf,
    #[command(flatten)]
    pictures: Pictures,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all was written
  1  the kernel or the log can't be read, or the output can't be written
  2  wrong usage
  3  no address of the reports is in the kernel's code: it is another kernel, or --base is missing or wrong";

/// No address of the reports is in the kernel's code.
const WRONG_KERNEL: u8 = 3;

fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text).replace('_', "");
    let valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let address = u64::from_str_radix(&digits, 16).ok();
    let expected = || "expected an address, in hexadecimal digits".to_owned();
    address.filter(|_| valid).ok_or_else(expected)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(&arguments).unwrap_or_else(|error| {
        eprintln!("kmemleak-report: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let files = [arguments.junit.as_deref(), arguments.sarif.as_deref()];
    let files = files.into_iter().flatten();
    let mut files = files.chain(arguments.pictures.paths()).peekable();
    let is_read = files.peek().is_some();
    files.try_for_each(output::check)?;
    let log = open(&arguments.log)?;
    let mut read = Log::default();
    let code = match &arguments.kernel {
        Some(kernel) => with_names(arguments, kernel, log, is_read.then_some(&mut read))?,
        None => {
            read = Log::read(log)?;
            ExitCode::SUCCESS
        }
    };
    read.finish();
    if is_read {
        write_files(arguments, &read)?;
    }
    Ok(code)
}

/// Writes the files that are made of the log's records.
fn write_files(arguments: &Arguments, log: &Log) -> Result<(), Box<dyn Error>> {
    let findings = Findings::of(log.report.as_ref(), None);
    let is_of_report = arguments.junit.is_some() || arguments.sarif.is_some();
    if is_of_report || arguments.pictures.need_report() {
        for problem in &findings.problems {
            eprintln!("kmemleak-report: {problem}");
        }
    }
    if let Some(path) = &arguments.junit {
        output::replace(path, junit::document(&findings))?;
    }
    if let Some(path) = &arguments.sarif {
        output::replace(path, sarif::document(&findings))?;
    }
    let name = arguments
        .log
        .file_name()
        .filter(|_| arguments.log != Path::new("-"));
    let title = name.map_or("serial log".into(), |name| name.to_string_lossy());
    Ok(arguments.pictures.write(log, &title)?)
}

/// Writes the log again, with names, to the standard output; and to a reader of records.
fn with_names(
    arguments: &Arguments,
    path: &Path,
    log: Box<dyn Read>,
    read: Option<&mut Log>,
) -> Result<ExitCode, Box<dyn Error>> {
    let folder = std::env::current_dir().unwrap_or_default();
    let kernel = Kernel::open(path, arguments.base, &folder)?;
    let path = path.display();
    if !kernel.has_lines() {
        eprintln!(
            "kmemleak-report: {path}: no debug information, so functions are shown without files and lines"
        );
    }
    let frames = match arguments.all_frames {
        true => FramesShown::All,
        false => FramesShown::FromCaller,
    };
    let lines = match arguments.json {
        true => LinesShown::Json,
        false => LinesShown::All,
    };
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let out = Both { out, read };
    match Rewriter::new(kernel, out, frames, lines).run(log) {
        Ok((found, kernel)) => Ok(tell(&found, &kernel, &path.to_string())),
        // Who reads the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

/// Writes to the output, and to a reader of records.
struct Both<'l, W> {
    out: W,
    read: Option<&'l mut Log>,
}

impl<W: Write> Write for Both<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(read) = &mut self.read {
            read.write_all(bytes)?;
        }
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn open(log: &Path) -> Result<Box<dyn Read>, String> {
    if log != Path::new("-") {
        let file = File::open(log).map_err(|error| format!("{}: {error}", log.display()))?;
        return Ok(Box::new(file));
    }
    let input = io::stdin();
    if input.is_terminal() {
        eprintln!("kmemleak-report: reading the log from the terminal");
    }
    Ok(Box::new(input.lock()))
}

/// Says what was not as it should be.
fn tell(found: &Found, kernel: &Kernel, path: &str) -> ExitCode {
    if found.call_stacks == 0 {
        eprintln!("kmemleak-report: no report with call stacks in the log");
    }
    if found.damaged > 0 {
        eprintln!(
            "kmemleak-report: damaged lines of JSON, cut or mixed with other output: {}",
            found.damaged
        );
    }
    if kernel.is_damaged() {
        eprintln!(
            "kmemleak-report: {path}: the debug information is damaged: some files and lines are missing"
        );
    }
    let Some(first) = found.first_outside else {
        return ExitCode::SUCCESS;
    };
    let extent = kernel.extent();
    eprintln!(
        "kmemleak-report: {} of {} addresses lie outside of the code of {path}, which is at {:#x}..{:#x}; the first is {first:#x}. Give the kernel that wrote the log, and --base if it was relocated",
        found.outside, found.addresses, extent.start, extent.end
    );
    match found.outside == found.addresses {
        true => ExitCode::from(WRONG_KERNEL),
        false => ExitCode::SUCCESS,
    }
}
