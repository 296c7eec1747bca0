//! The serial line on this program's standard input and output.
//!
//! On a terminal QEMU has it to itself: it switches the terminal to raw mode, so that every key reaches
//! the guest. Else this program passes the bytes on, both ways:
//!
//! - Input waits until the guest has said something: a UART's driver discards what it finds when it
//!   brings the device up. From then on QEMU takes what the guest takes, and the rest waits in the pipe.
//! - The end of the input is told the guest as a terminal would tell it, by the character for the end of a transmission at the
//!   beginning of a line: the kernel does all that was typed before, and ends. An unfinished last line is ended first.

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

/// How to leave, as the user is told.
pub fn how_to_leave(kind: Console) -> &'static str {
    match kind {
        Console::Terminal => "the serial line is yours; Ctrl-A X leaves, so does the command exit",
        Console::Streams => {
            "the serial line is on standard input and output; the command exit leaves, so does the end of the input"
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

/// The character for the end of a transmission: Ctrl-D.
const END: u8 = 0x04;

fn pass_input(mut input: ChildStdin, has_spoken: &Receiver<()>) {
    // The sender is gone when QEMU has ended; then no input is wanted.
    if has_spoken.recv().is_ok() {
        // Fails when QEMU has ended: what is typed after that is dropped.
        let _ = pass_all(io::stdin().lock(), &mut input);
    }
}

/// Passes all bytes on, and then tells that there are no more.
fn pass_all(mut source: impl Read, target: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut last = b'\n';
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                target.write_all(&buffer[..count])?;
                last = buffer[count - 1];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nothing more will come.
            Err(_) => break,
        }
    }
    if !matches!(last, b'\n' | b'\r') {
        target.write_all(b"\n")?;
    }
    target.write_all(&[END])
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
        // On a terminal, QEMU reads the input itself, and this has no receiver.
        let _ = spoken.send(());
        if let Some(leaks) = &mut leaks {
            leaks.feed(&buffer[..count]);
        }
        stdout.write_all(&buffer[..count])?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_at_the_beginning_of_a_line() {
        let passed = |typed: &str| {
            let mut target = Vec::new();
            pass_all(typed.as_bytes(), &mut target).expect("a vector takes it");
            String::from_utf8(target).expect("text")
        };
        assert_eq!(passed(""), "\x04");
        assert_eq!(passed("exit\n"), "exit\n\x04");
        assert_eq!(passed("exit\r"), "exit\r\x04");
        assert_eq!(passed("ps\nexit"), "ps\nexit\n\x04");
        let long = "x".repeat(10_000);
        assert_eq!(passed(&long), format!("{long}\n\x04"));
    }

    #[test]
    fn who_does_not_listen_any_more_is_told_nothing() {
        struct Deaf;
        impl Write for Deaf {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(pass_all(&b"exit\n"[..], &mut Deaf).is_err());
    }
}
