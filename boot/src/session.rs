//! Talking to a guest over its serial line, as somebody at the terminal would.
//!
//! A session owns its QEMU: when the session ends, in whatever way, so does QEMU. Everything waits until
//! its limit at most, in a time that goes slower on a busy host ([`Patience`]), and what fails carries the whole report.
//!
//! Input waits until the guest has said something: a UART's driver discards what it finds when it brings
//! the device up, and would discard what was sent before.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wait_timeout::ChildExt;

use crate::machine::{self, Console, Machine, ResetLog};
use crate::outcome::{self, Ended, Outcome};
use crate::patience::Patience;

/// What the shell prints, at the start of a line, when it waits for a command.
const PROMPT: &str = "> ";

thread_local! {
    /// The machine that this thread has started last.
    static LAST: RefCell<Option<Started>> = const { RefCell::new(None) };
}

/// A machine that was started, and may have ended since: what it was, and has said so far. Displays as a report.
#[derive(Clone, Debug)]
pub struct Started {
    command: String,
    serial: Arc<Output>,
    messages: Arc<Output>,
}

impl Started {
    /// The machine that this thread has started last, for the report of a test that fails without having a report itself. It is
    /// forgotten.
    pub fn take_last() -> Option<Self> {
        LAST.take()
    }
}

impl Display for Started {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (serial, messages) = (self.serial.lock(), self.messages.lock());
        outcome::write_report(&self.command, &messages.text, &serial.text, f)
    }
}

/// A running machine.
#[derive(Debug)]
pub struct Session {
    qemu: Child,
    input: Option<ChildStdin>,
    serial: Arc<Output>,
    messages: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    command: String,
    log: ResetLog,
    /// Serial output up to here has been waited for.
    seen: usize,
}

/// What was waited for did not come: what it was, and the machine's report.
#[derive(Clone, Debug)]
pub struct Unexpected {
    /// What was waited for.
    pub awaited: String,
    /// How the machine ended instead.
    pub ended: Ended,
}

impl Display for Unexpected {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}: {}", self.awaited, self.ended)
    }
}

impl Error for Unexpected {}

impl Session {
    /// Starts the machine.
    pub fn start(machine: &Machine) -> io::Result<Self> {
        Self::start_on(Console::Streams, machine)
    }

    /// Starts the machine as on a terminal, where this was typed before the machine began.
    pub fn start_typed(machine: &Machine, typed: &str) -> io::Result<Self> {
        let mut session = Self::start_on(Console::Terminal, machine)?;
        if let Some(input) = &mut session.input {
            input.write_all(typed.as_bytes())?;
        }
        Ok(session)
    }

    fn start_on(console: Console, machine: &Machine) -> io::Result<Self> {
        let log = ResetLog::new();
        let mut command = machine.command(console, &log)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut qemu = command.spawn()?;
        let (serial, messages) = (Arc::<Output>::default(), Arc::<Output>::default());
        let mut readers = Vec::new();
        if let Some(source) = qemu.stdout.take() {
            readers.push(Output::fill(&serial, source));
        }
        if let Some(source) = qemu.stderr.take() {
            readers.push(Output::fill(&messages, source));
        }
        let input = qemu.stdin.take();
        let command = machine::typed(&command);
        LAST.set(Some(Started {
            command: command.clone(),
            serial: Arc::clone(&serial),
            messages: Arc::clone(&messages),
        }));
        Ok(Self {
            qemu,
            input,
            serial,
            messages,
            readers,
            command,
            log,
            seen: 0,
        })
    }

    /// Waits until the text appears in the output after what was waited for last. Returns the output up
    /// to its end.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String, Box<Unexpected>> {
        self.wait(format!("{text:?}"), limit, |output| {
            output.find(text).map(|start| start + text.len())
        })
    }

    /// Waits until the shell waits for a command. Returns the output up to there.
    pub fn wait_for_prompt(&mut self, limit: Duration) -> Result<String, Box<Unexpected>> {
        self.wait("the prompt".into(), limit, |output| {
            let before = output.strip_suffix(PROMPT)?;
            (before.is_empty() || before.ends_with('\n')).then_some(output.len())
        })
    }

    /// Types a line, once the guest has said something.
    pub fn send_line(&mut self, line: &str, limit: Duration) -> Result<(), Box<Unexpected>> {
        self.send(format!("{line}\n").as_bytes(), limit)
    }

    /// Types these bytes, once the guest has said something.
    pub fn send(&mut self, keys: &[u8], limit: Duration) -> Result<(), Box<Unexpected>> {
        let mut patience = Patience::new(limit);
        self.serial
            .wait(&mut patience, |text| (!text.is_empty()).then_some(()));
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe);
        let sent = match input {
            Ok(input) => input.write_all(keys),
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) => {
                let keys = String::from_utf8_lossy(keys);
                Err(self.fail(format!("the guest to take {keys:?} ({error})"), patience))
            }
        }
    }

    /// Types a command and waits for the next prompt. Returns what was printed between the two.
    pub fn command(&mut self, line: &str, limit: Duration) -> Result<String, Box<Unexpected>> {
        self.send_line(line, limit)?;
        let awaited = format!("the end of {line:?}");
        let output = self.wait(awaited, limit, |output| {
            // The first line is the echo.
            let start = output.find('\n')? + 1;
            let before = output[start..].strip_suffix(PROMPT)?;
            (before.is_empty() || before.ends_with('\n')).then_some(output.len())
        })?;
        let printed = output.split_once('\n').map_or("", |(_, printed)| printed);
        Ok(printed.strip_suffix(PROMPT).unwrap_or(printed).into())
    }

    /// All bytes that the guest has sent so far.
    pub fn output(&self) -> Vec<u8> {
        self.serial.lock().bytes.clone()
    }

    /// Waits for the machine's end, and ends it when the time is over.
    pub fn finish(mut self, limit: Duration) -> Ended {
        self.end(Patience::new(limit))
    }

    fn wait(
        &mut self,
        awaited: String,
        limit: Duration,
        find: impl Fn(&str) -> Option<usize>,
    ) -> Result<String, Box<Unexpected>> {
        let mut patience = Patience::new(limit);
        let seen = self.seen;
        let found = self.serial.wait(&mut patience, |text| {
            let rest = text.get(seen..)?;
            find(rest).map(|end| (seen + end, rest[..end].to_owned()))
        });
        match found {
            Some((end, output)) => {
                self.seen = end;
                Ok(output)
            }
            None => Err(self.fail(awaited, patience)),
        }
    }

    fn fail(&mut self, awaited: String, mut patience: Patience) -> Box<Unexpected> {
        // The output may have ended a moment before QEMU does.
        let grace = Duration::from_millis(500);
        let ended = self.end(Patience::new(patience.left().max(grace)));
        Box::new(Unexpected { awaited, ended })
    }

    fn end(&mut self, mut patience: Patience) -> Ended {
        let mut status = self.qemu.try_wait().unwrap_or_default();
        while status.is_none()
            && let Some(wait) = patience.next_wait()
        {
            status = self.qemu.wait_timeout(wait).unwrap_or_default();
        }
        let outcome = match status {
            Some(status) => self.outcome(status),
            None => Outcome::TimedOut,
        };
        self.stop();
        Ended {
            outcome,
            command: self.command.clone(),
            serial: self.serial.lock().text.clone(),
            qemu: self.messages.lock().text.clone(),
        }
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        Outcome::of(status, &self.log)
    }

    fn stop(&mut self) {
        // It may have ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the machine to its end, with nothing typed.
pub fn run(machine: &Machine, limit: Duration) -> io::Result<Ended> {
    Ok(Session::start(machine)?.finish(limit))
}

/// Text that a thread collects as it comes.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    /// As they came.
    bytes: Vec<u8>,
    /// Without carriage returns.
    text: String,
    /// The start of a character whose rest has not come yet.
    partial: Vec<u8>,
    ended: bool,
}

impl Output {
    fn fill(output: &Arc<Self>, mut source: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = Arc::clone(output);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match source.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => output.lock().append(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
                output.changed.notify_all();
            }
            output.lock().ended = true;
            output.changed.notify_all();
        })
    }

    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is found in the text; not once the output has ended or the time is over.
    fn wait<T>(&self, patience: &mut Patience, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            let found = find(&state.text);
            let wait = patience.next_wait().unwrap_or_default();
            if found.is_some() || state.ended || wait.is_zero() {
                return found;
            }
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl OutputState {
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.partial
            .extend(bytes.iter().filter(|byte| **byte != b'\r'));
        let whole = match std::str::from_utf8(&self.partial) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.partial.len(),
        };
        let rest = self.partial.split_off(whole);
        self.text.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial = rest;
    }
}
