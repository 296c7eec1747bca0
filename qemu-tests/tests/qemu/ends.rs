//! How the kernel ends when something has gone wrong, seen from outside.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use boot::artifacts::{self, Package, Profile};
use boot::machine::Machine;
use boot::outcome::{Ended, Outcome};
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};
use qemu_tests::report::{self, Object};

crate::tests![
    the_button_gives_a_report,
    the_button_gives_a_report_of_a_kernel_that_hangs,
    a_machine_check_gives_a_report,
    a_small_machine_reports_leaks,
    reports_of_small_machines_are_whole,
    want_of_memory_is_told_on_a_small_machine,
    a_panic_is_told_whatever_lock_is_held,
    damaged_debug_information_costs_lines_only,
    damaged_debug_information_costs_lines_only_in_debug_builds,
];

/// The machine's end was failure, and its output has all of these texts, in this order.
fn has_all(ended: &Ended, texts: &[&str]) -> Result<(), Failure> {
    machines::expect(ended, Outcome::Failed, "")?;
    let mut rest = ended.serial.as_str();
    for text in texts {
        let (_, behind) = rest
            .split_once(text)
            .ok_or_else(|| format!("{text:?} is missing, or comes too early: {ended}"))?;
        rest = behind;
    }
    Ok(())
}

/// QEMU's monitor, on a socket of that name.
struct Monitor(PathBuf);

impl Monitor {
    fn new(name: &str) -> Result<Self, Failure> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        Ok(Self(path))
    }

    /// The machine, with the monitor.
    fn of(&self, machine: Machine) -> Machine {
        let socket = format!("unix:{},server=on,wait=off", self.0.display());
        Machine {
            extra: vec!["-monitor".into(), socket.into()],
            ..machine
        }
    }

    /// Presses the button for non-maskable interrupts, which every CPU gets.
    fn press(&self) -> Result<UnixStream, Failure> {
        self.command("nmi")
    }

    /// Types a command. The connection is to be kept until the end: QEMU forgets what it has not read of one that is closed.
    fn command(&self, command: &str) -> Result<UnixStream, Failure> {
        let mut connection = UnixStream::connect(&self.0)?;
        writeln!(connection, "{command}")?;
        Ok(connection)
    }
}

/// What a report of a machine with two CPUs has, whichever of them tells.
const REPORT: [&str; 6] = [
    "] non-maskable interrupt (vector 2",
    "  rip 0x",
    "backtrace:\n  ",
    "\ncpu ",
    " was at ",
    "call sites with the most live bytes:\n",
];

fn the_button_gives_a_report() -> Result<(), Failure> {
    let monitor = Monitor::new("monitor-idle")?;
    let mut session = Session::start(&monitor.of(machines::kernel()))?;
    session.wait_for_prompt(LIMIT)?;
    let _pressed = monitor.press()?;
    has_all(&session.finish(LIMIT), &REPORT)
}

/// The test kernel halts one CPU, which takes no interrupts any more.
fn the_button_gives_a_report_of_a_kernel_that_hangs() -> Result<(), Failure> {
    let monitor = Monitor::new("monitor-hang")?;
    let machine = monitor.of(machines::guest("fixture=hang"));
    let mut session = Session::start(&machine)?;
    session.wait_for("hangs", LIMIT)?;
    let _pressed = monitor.press()?;
    has_all(&session.finish(LIMIT), &REPORT)
}

/// An error of the machine that CPU 1 is told of, in its second bank: uncorrected, with an address and more.
fn a_machine_check_gives_a_report() -> Result<(), Failure> {
    let monitor = Monitor::new("monitor-machine-check")?;
    let mut session = Session::start(&monitor.of(machines::kernel()))?;
    session.wait_for_prompt(LIMIT)?;
    let _told = monitor.command("mce 1 1 0xbc00000000000134 0x5 0x1234000 0x8c")?;
    has_all(
        &session.finish(LIMIT),
        &[
            "[cpu 1, task ",
            "] machine check (vector 18, error code 0x0), global status 0x5\n",
            "  bank 1: status 0xbc00000000000134  address 0x0000000001234000  misc 0x000000000000008c\n",
            "  rip 0x",
            "backtrace:\n  ",
            "\ncpu 0 was at ",
            "call sites with the most live bytes:\n",
        ],
    )
}

/// A machine with so much memory.
fn with_memory(memory: &str, machine: Machine) -> Machine {
    Machine {
        memory: memory.into(),
        ..machine
    }
}

/// Where there is too little memory for lines, reports have names, say so once, and the machine goes on.
fn a_small_machine_reports_leaks() -> Result<(), Failure> {
    const MISSING: &str = "symbols: no memory for file and line\n";
    for memory in ["17M", "18M"] {
        let mut session = Session::start(&with_memory(memory, machines::kernel()))?;
        session.wait_for_prompt(LIMIT)?;
        session.command("leak arc-cycle", LIMIT)?;
        for (scan, missing) in [(1, 1), (2, 0)] {
            let report = session.command("kmemleak scan --all --full", LIMIT)?;
            let objects = report::parse(&report.replace(MISSING, ""))?;
            let named = |object: &&Object| {
                object
                    .backtrace
                    .iter()
                    .any(|frame| frame.starts_with("kernel::shell::leak::arc_cycle+0x"))
            };
            if objects.len() != 2 || !objects.iter().all(|object| named(&object)) {
                return Err(format!("{memory}, scan {scan}: {report}").into());
            }
            if report.matches(MISSING).count() != missing {
                return Err(format!("{memory}, scan {scan}: not told once: {report}").into());
            }
        }
        session.send_line("exit", LIMIT)?;
        machines::expect(&session.finish(LIMIT), Outcome::Passed, "")?;
    }
    Ok(())
}

/// A panic is told to its end however little memory there is; with lines where there is some.
fn reports_of_small_machines_are_whole() -> Result<(), Failure> {
    const NO_LINES: &str = "  (no memory for file and line)\n";
    const LINES: &str = " (kernel/src/shell/commands.rs:";
    for (memory, lines) in [
        ("16M", NO_LINES),
        ("17M", NO_LINES),
        ("64M", LINES),
        ("128M", LINES),
    ] {
        let mut session = Session::start(&with_memory(memory, machines::kernel()))?;
        session.wait_for_prompt(LIMIT)?;
        session.send_line("panic", LIMIT)?;
        let ended = session.finish(LIMIT);
        let asked = "the shell's command `panic`\nbacktrace:\n";
        let (command, sites) = (
            "  kernel::shell::commands::panic+0x",
            "call sites with the most live bytes:\n",
        );
        has_all(
            &ended,
            &[
                asked,
                command,
                lines,
                "was at ",
                sites,
                " bytes in ",
                "    _start+0x",
            ],
        )?;
    }
    Ok(())
}

fn want_of_memory_is_told_on_a_small_machine() -> Result<(), Failure> {
    for test in ["want_of_memory_is_told", "want_of_small_blocks_is_told"] {
        let machine = machines::guest(&format!("test=guest::ends::{test}"));
        // The test kernel's file takes 17 MB of it, so that with less the other CPU may not come up.
        let ended = machines::run(&with_memory("23M", machine))?;
        let (what, sites) = (
            " failed\nbacktrace:\n",
            "call sites with the most live bytes:\n",
        );
        let (own, missing) = (
            format!("  guest::ends::{test}+0x"),
            "  (no memory for file and line)\n",
        );
        has_all(
            &ended,
            &[
                "memory allocation of ",
                what,
                &own,
                missing,
                sites,
                " bytes in ",
            ],
        )?;
    }
    Ok(())
}

/// A task that panics may hold any lock: the kernel panics with each that is taken by what the fixture does.
fn a_panic_is_told_whatever_lock_is_held() -> Result<(), Failure> {
    let panic_at = |place| {
        machines::run(&machines::guest(&format!(
            "fixture=lock-held place={place}"
        )))
    };
    let all = panic_at(usize::MAX)?;
    let places = all.serial.split_once("a lock is taken at ");
    let places = places.and_then(|(_, text)| text.split(' ').next()?.parse::<usize>().ok());
    let places = places.ok_or_else(|| format!("no places: {all}"))?;
    if places < 25 {
        return Err(format!("{places} places where a lock is taken: there were more").into());
    }
    for place in 0..places {
        let ended = panic_at(place)?;
        let told = has_all(
            &ended,
            &[
                "a lock was taken at ",
                ", and is held\nbacktrace:\n  ",
                "was at ",
                "call sites with the most live bytes:\n",
                " bytes in ",
                "    _start+0x",
            ],
        );
        told.map_err(|error| format!("place {place} of {places}: {error}"))?;
        if ended.serial.contains("a wait at the end of the machine") {
            return Err(format!("place {place} of {places}: it is waited for: {ended}").into());
        }
    }
    Ok(())
}

/// Whatever is wrong with the debug information: reports are told to their end, with the names of the symbol table.
fn damaged_debug_information_costs_lines_only() -> Result<(), Failure> {
    reports_of_damaged_kernels(Profile::Release)
}

/// A build that checks its arithmetic ends in the same way.
fn damaged_debug_information_costs_lines_only_in_debug_builds() -> Result<(), Failure> {
    artifacts::build(&[Package::Kernel], Profile::Debug)?;
    reports_of_damaged_kernels(Profile::Debug)
}

/// What is damaged, each in a kernel of its own; of the last one not even names are left.
const DAMAGED: [&str; 6] = [
    ".debug_line",
    ".debug_ranges",
    ".debug_abbrev",
    ".debug_info",
    ".debug_",
    ".symtab",
];

fn reports_of_damaged_kernels(profile: Profile) -> Result<(), Failure> {
    let file = fs::read(Package::Kernel.binary(profile))?;
    for section in DAMAGED {
        let name = format!("damaged{section}-{profile:?}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, elf::damaged(&file, section)?)?;
        let machine = Machine {
            kernel: Some(path.clone()),
            ..machines::kernel()
        };
        let named = section != ".symtab";
        reports_are_whole(&machine, named).map_err(|error| format!("{section}: {error}"))?;
        fs::remove_file(path)?;
    }
    Ok(())
}

fn reports_are_whole(machine: &Machine, named: bool) -> Result<(), Failure> {
    let name = |name: &'static str| if named { name } else { "" };
    let mut session = Session::start(machine)?;
    session.wait_for_prompt(LIMIT)?;
    session.command("leak forgotten-free", LIMIT)?;
    let report = session.command("kmemleak scan --full", LIMIT)?;
    // What the names lack is told after the report.
    let is_report = |line: &&str| !line.starts_with("symbols: ");
    let sum = report.lines().rev().find(is_report);
    if !report.contains(name("    kernel::shell::leak::forgotten_free+0x"))
        || sum != Some("kmemleak: 1 unreferenced object (64 bytes)")
    {
        return Err(report.into());
    }
    session.send_line("panic", LIMIT)?;
    let asked = "the shell's command `panic`\nbacktrace:\n";
    let (command, entry) = (
        name("  kernel::shell::commands::panic+0x"),
        name("    _start+0x"),
    );
    let sites = "call sites with the most live bytes:\n";
    has_all(&session.finish(LIMIT), &[asked, command, sites, entry])
}

/// As much of an ELF file as it takes to damage one.
mod elf {
    use std::ops::Range;

    use qemu_tests::machines::Failure;

    /// The little-endian number of so many bytes at `at`.
    fn number(file: &[u8], at: usize, len: usize) -> Result<usize, Failure> {
        let bytes = file.get(at..at + len).ok_or("the file is too short")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// Where in the file the sections lie whose names begin like that (ELF-64 object file format 1.5: the file header and the
    /// section headers).
    fn sections(file: &[u8], beginning: &str) -> Result<Vec<Range<usize>>, Failure> {
        let (table, len) = (number(file, 0x28, 8)?, number(file, 0x3a, 2)?);
        let (count, names) = (number(file, 0x3c, 2)?, number(file, 0x3e, 2)?);
        let names = number(file, table + names * len + 0x18, 8)?;
        let mut found = Vec::new();
        for header in (0..count).map(|index| table + index * len) {
            let name = names + number(file, header, 4)?;
            if file
                .get(name..)
                .is_some_and(|name| name.starts_with(beginning.as_bytes()))
            {
                let start = number(file, header + 0x18, 8)?;
                found.push(start..start + number(file, header + 0x20, 8)?);
            }
        }
        if found.is_empty() {
            return Err(format!("no section {beginning}").into());
        }
        Ok(found)
    }

    /// The file, with one byte in some hundreds of these sections changed, and here and there eight made ones: large numbers.
    pub fn damaged(file: &[u8], section: &str) -> Result<Vec<u8>, Failure> {
        let mut damaged = file.to_vec();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for section in sections(file, section)? {
            for chunk in damaged[section].chunks_mut(64) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = (random >> 8) as usize % chunk.len();
                match random % 16 {
                    0..4 => chunk[at] = (random >> 32) as u8,
                    4 => chunk[at / 8 * 8..]
                        .iter_mut()
                        .take(8)
                        .for_each(|byte| *byte = 0xff),
                    _ => {}
                }
            }
        }
        Ok(damaged)
    }
}
