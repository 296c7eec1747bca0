//! How the kernel ends when something has gone wrong, seen from outside.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use boot::machine::Machine;
use boot::outcome::{Ended, Outcome};
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![
    the_button_gives_a_report,
    the_button_gives_a_report_of_a_kernel_that_hangs,
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

    /// Presses the button for non-maskable interrupts, which every CPU gets. The connection is to be kept until the end: QEMU
    /// forgets what it has not read of one that is closed.
    fn press(&self) -> Result<UnixStream, Failure> {
        let mut connection = UnixStream::connect(&self.0)?;
        connection.write_all(b"nmi\n")?;
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
    let ended = session.finish(LIMIT);
    has_all(&ended, &REPORT)?;
    machines::expect(
        &ended,
        Outcome::Failed,
        "kernel::arch::interrupts::halt_forever",
    )
}
