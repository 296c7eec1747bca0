//! The serial line on this program's standard input and output.
//!
//! On a terminal QEMU has it to itself: it switches the terminal to raw mode, so that every key reaches
//! the guest. Else this program passes the bytes on, both ways:
//!
//! - Input waits until the guest has said something: a UART's driver discards what it finds when it
//!   brings the device up. From then on QEMU takes what the guest takes, and the rest waits in the pipe.
//! - The end of the input is no end for the guest: it handles what was typed, and ends when it likes.

use std::io::{self, IsTerminal, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use boot::leaks::LeakWatch;
use boot::machine::Console;

/// What the serial line will be connected to.
pub fn kind(headless: bool) -> Console {
    if !headless && io::stdin().is_terminal() {
        Console::Terminal
    } else {
        Console::Streams
    }
}

/// What to tell somebody who wants to leave.
pub fn how_to_leave(kind: Console) -> &'static str {
    match kind {
        Console::Terminal => "the serial line is yours; Ctrl-A X leaves, so does the command exit",
        Console::Streams => {
            "the serial line is on standard input and output; the command exit leaves"
        }
    }
}

/// Runs QEMU to its end with the serial line attached.
pub fn attach(
    qemu: &mut Command,
    kind: Console,
    leaks: Option<&mut LeakWatch>,
) -> io::Result<ExitStatus> {
    let _terminal = SavedTerminal::save();
    if kind == Console::Streams {
        qemu.stdin(Stdio::piped());
    }
    if kind == Console::Streams || leaks.is_some() {
        qemu.stdout(Stdio::piped());
    }
    let mut qemu = qemu.spawn()?;
    let (spoken, has_spoken) = mpsc::channel();
    if let Some(input) = qemu.stdin.take() {
        // Not joined: it may wait for input that never comes.
        thread::spawn(move || pass_input(input, &has_spoken));
    }
    if let Some(output) = qemu.stdout.take()
        && let Err(error) = pass_output(output, leaks, &spoken)
    {
        // Nobody reads any more. QEMU may have ended by itself at this moment.
        let _ = qemu.kill();
        qemu.wait()?;
        return Err(error);
    }
    qemu.wait()
}

fn pass_input(mut input: ChildStdin, has_spoken: &Receiver<()>) {
    // The sender is gone when QEMU has ended; then there is nobody to type to.
    if has_spoken.recv().is_ok() {
        // Fails when QEMU has ended: what was typed after that is for nobody.
        let _ = io::copy(&mut io::stdin().lock(), &mut input);
    }
}

fn pass_output(
    mut output: ChildStdout,
    mut leaks: Option<&mut LeakWatch>,
    spoken: &Sender<()>,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut stdout = io::stdout().lock();
    loop {
        let count = match output.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // Where the input is not passed on by us, nobody listens.
        let _ = spoken.send(());
        if let Some(leaks) = &mut leaks {
            leaks.feed(&buffer[..count]);
        }
        stdout.write_all(&buffer[..count])?;
        stdout.flush()?;
    }
}

/// The terminal's modes as they were; restored when dropped, for QEMU does so only if it ends in peace.
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
