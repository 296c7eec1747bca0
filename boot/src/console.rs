//! The serial line on this program's standard input and output.
//!
//! On a terminal QEMU has it to itself: it switches the terminal to raw mode, so that every key reaches
//! the guest. Else this program passes the bytes on, both ways:
//!
//! - Input waits until the guest has said something: a UART's driver discards what it finds when it
//!   brings the device up. From then on QEMU takes what the guest takes, and the rest waits in the pipe.
//! - When all has been typed, the guest is asked what the files need that are wanted ([`OutputFiles::ask`]).
//! - The end is told the guest as a terminal would tell it, by the character for the end of a transmission at the
//!   beginning of a line: the kernel does all that was typed before, and ends.

use std::io::{self, IsTerminal, Read, Write};
use std::mem;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use boot::leaks::Verdict;
use boot::machine::Console;
use wait_timeout::ChildExt;

use crate::files::{Answers, Gathered, OutputFiles, SoFar};
use crate::listener::Listener;
use crate::typed::{Exit, Typed};

/// What the serial line will be connected to.
pub fn kind(headless: bool) -> Console {
    if !headless && io::stdin().is_terminal() {
        Console::Terminal
    } else {
        Console::Streams
    }
}

/// How to leave, as the user is told.
pub fn how_to_leave(kind: Console) -> &'static str {
    match kind {
        Console::Terminal => "the serial line is yours; Ctrl-A X leaves, so does the command exit",
        Console::Streams => {
            "the serial line is on standard input and output; the command exit leaves, so does the end of the input"
        }
    }
}

/// What is done with a machine.
pub struct Plan {
    /// What the serial line is connected to.
    pub kind: Console,
    /// What is typed, unless it is a terminal.
    pub typed: Typed,
    /// How long it may take.
    pub limit: Option<Duration>,
    /// Whether the verdicts are wanted, also from a terminal.
    pub watch: bool,
    /// The files that the guest is asked for, if it can be asked.
    pub files: OutputFiles,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Run {
    /// How QEMU ended; nothing if its time was over.
    pub status: Option<ExitStatus>,
    /// The last verdict.
    pub verdict: Option<Verdict>,
    /// What was printed and answered.
    pub gathered: Gathered,
}

/// What the thread that types and the one that listens share.
#[derive(Debug, Default)]
struct Shared {
    listener: Mutex<Listener>,
    answers: Mutex<(SoFar, Answers)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs QEMU to its end with the serial line attached.
pub fn attach(qemu: &mut Command, plan: Plan) -> io::Result<Run> {
    let _terminal = SavedTerminal::save();
    let deadline = plan.limit.map(|limit| Instant::now() + limit);
    if plan.kind == Console::Streams {
        qemu.stdin(Stdio::piped());
    }
    if plan.kind == Console::Streams || plan.watch {
        qemu.stdout(Stdio::piped());
    }
    let mut qemu = qemu.spawn()?;
    let shared = Arc::<Shared>::default();
    let (tell, heard) = mpsc::channel();
    if let Some(input) = qemu.stdin.take() {
        let shared = Arc::clone(&shared);
        // Not joined: it may wait for input that never comes.
        thread::spawn(move || {
            // Fails when QEMU has ended: what is typed after that is dropped.
            let _ = pass_input(plan.typed, plan.files, input, &heard, &shared);
        });
    }
    let (finished, has_finished) = mpsc::channel();
    if let Some(output) = qemu.stdout.take() {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let passed = pass_output(output, &shared, &tell);
            // The receiver is gone when the time was over.
            let _ = finished.send(passed);
        });
    } else {
        drop(finished);
    }
    let status = wait(&mut qemu, deadline, &has_finished)?;
    let verdict = lock(&shared.listener).leaks.last();
    let (so_far, answers) = mem::take(&mut *lock(&shared.answers));
    let gathered = Gathered {
        records: mem::take(&mut lock(&shared.listener).records),
        so_far,
        answers,
        ended_early: None,
    };
    Ok(Run {
        status,
        verdict,
        gathered,
    })
}

/// Waits until all output has been passed on and QEMU has ended; ends it if the time is over, or if nobody takes its output.
fn wait(
    qemu: &mut Child,
    deadline: Option<Instant>,
    has_finished: &Receiver<io::Result<()>>,
) -> io::Result<Option<ExitStatus>> {
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let finished = match left() {
        Some(left) => has_finished.recv_timeout(left),
        None => has_finished
            .recv()
            .map_err(|_| RecvTimeoutError::Disconnected),
    };
    let status = match (finished, left()) {
        (Ok(Err(error)), _) => {
            end(qemu)?;
            return Err(error);
        }
        (Err(RecvTimeoutError::Timeout), _) => None,
        (_, Some(left)) => qemu.wait_timeout(left)?,
        (_, None) => Some(qemu.wait()?),
    };
    if status.is_none() {
        end(qemu)?;
        // What it had said until then is passed on, if anybody takes it.
        let _ = has_finished.recv_timeout(LAST_WORDS);
    }
    Ok(status)
}

fn end(qemu: &mut Child) -> io::Result<()> {
    // It may have ended by itself at this moment.
    let _ = qemu.kill();
    qemu.wait().map(drop)
}

/// How long output may take that is still under way when the time is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The character for the end of a transmission: Ctrl-D.
const END: u8 = 0x04;

/// What the thread that listens tells the one that types.
enum Heard {
    /// The guest has said something.
    Something,
    /// An answer.
    Answer(String),
}

fn pass_input(
    typed: Typed,
    files: OutputFiles,
    mut input: ChildStdin,
    heard: &Receiver<Heard>,
    shared: &Shared,
) -> io::Result<()> {
    // The sender is gone when QEMU has ended; then no input is wanted.
    if heard.recv().is_err() {
        return Ok(());
    }
    match files.any() {
        false => {
            typed.pass(Exit::InGuest, &mut input)?;
        }
        true => {
            let blanks = typed.pass(Exit::Here, &mut input)?;
            ask(&files, blanks, &mut input, heard, shared)?;
        }
    }
    input.write_all(&[END])
}

/// Asks the guest what the files need; what it says meanwhile is not shown.
fn ask(
    files: &OutputFiles,
    blanks: usize,
    input: &mut ChildStdin,
    heard: &Receiver<Heard>,
    shared: &Shared,
) -> io::Result<()> {
    let nothing = " ".repeat(blanks + 1);
    lock(&shared.listener).hide_from(&nothing);
    writeln!(input, "{nothing}")?;
    if answer(heard, "").is_some() {
        let so_far = lock(&shared.listener).so_far();
        let mut ask = |question: &str| {
            writeln!(input, "{question}").ok()?;
            answer(heard, question)
        };
        *lock(&shared.answers) = (so_far, files.ask(so_far, &mut ask));
        lock(&shared.listener).reveal();
    }
    Ok(())
}

/// Waits for the answer to that question: it begins with its echo.
fn answer(heard: &Receiver<Heard>, question: &str) -> Option<String> {
    heard.iter().find_map(|heard| match heard {
        Heard::Answer(answer) if answer.contains(question) => Some(answer),
        _ => None,
    })
}

fn pass_output(mut output: ChildStdout, shared: &Shared, tell: &Sender<Heard>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut stdout = io::stdout().lock();
    let mut has_spoken = false;
    loop {
        let count = match output.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut shown = Vec::new();
        let answer = lock(&shared.listener).feed(&buffer[..count], &mut shown);
        let first = (!mem::replace(&mut has_spoken, true)).then_some(Heard::Something);
        for heard in first.into_iter().chain(answer.map(Heard::Answer)) {
            // On a terminal, QEMU reads the input itself, and this has no receiver.
            let _ = tell.send(heard);
        }
        stdout.write_all(&shown)?;
        stdout.flush()?;
    }
}

/// The terminal's modes as they were; restored when dropped, for QEMU does so only if it is not killed.
struct SavedTerminal {
    modes: Option<String>,
}

impl SavedTerminal {
    fn save() -> Self {
        if !io::stdin().is_terminal() {
            return Self { modes: None };
        }
        let output = Command::new("stty")
            .arg("-g")
            .stdin(Stdio::inherit())
            .output();
        let modes = output.ok().filter(|output| output.status.success());
        let modes = modes.and_then(|output| String::from_utf8(output.stdout).ok());
        Self {
            modes: modes.map(|modes| modes.trim().to_owned()),
        }
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        if let Some(modes) = &self.modes {
            // Without stty there is nothing to be done, and nothing was saved.
            let _ = Command::new("stty").arg(modes).status();
        }
    }
}
