//! What is typed at the guest: the standard input as it comes, or a script.
//!
//! A script's empty lines and those that begin with `#` are for people, and so are blanks around a command. The lines of `-c` may be separated by semicolons. All
//! that can go wrong with a script does so before anything is built.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::Path;

/// What is typed.
pub enum Typed {
    /// The standard input, byte by byte.
    Input,
    /// The lines of a script.
    Script(Box<dyn BufRead + Send>),
}

/// Where the command `exit` is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// In the guest: nothing is asked after it.
    InGuest,
    /// Here: it ends what is typed, and the guest is asked some more before it ends.
    Here,
}

impl Typed {
    /// The script in a file; `-` is the standard input.
    pub fn file(path: &Path) -> Result<Self, String> {
        if path == Path::new("-") {
            return Ok(Self::Script(Box::new(BufReader::new(io::stdin()))));
        }
        let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        match opened {
            Ok(file) => Ok(Self::Script(Box::new(BufReader::new(file)))),
            Err(error) => Err(format!(
                "cannot read the script {}: {error}",
                path.display()
            )),
        }
    }

    /// Commands between which there are semicolons or newlines.
    pub fn commands(text: &str) -> Self {
        Self::Script(Box::new(Cursor::new(text.replace(';', "\n"))))
    }

    /// Types it all. An unfinished last line is ended. Returns how many blanks stand together in it at most, if `exit` is
    /// obeyed here.
    pub fn pass(self, exit: Exit, target: &mut impl Write) -> io::Result<usize> {
        match (self, exit) {
            (Self::Input, Exit::InGuest) => pass_bytes(io::stdin().lock(), target).map(|()| 0),
            (Self::Input, Exit::Here) => pass_lines(io::stdin().lock(), exit, |_| true, target),
            (Self::Script(lines), _) => pass_lines(lines, exit, is_command, target),
        }
    }
}

/// Whether a line of a script is more than a comment.
fn is_command(line: &[u8]) -> bool {
    !line.is_empty() && !line.starts_with(b"#")
}

fn pass_bytes(mut source: impl Read, target: &mut impl Write) -> io::Result<()> {
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
    match last {
        b'\n' | b'\r' => Ok(()),
        _ => target.write_all(b"\n"),
    }
}

fn pass_lines(
    mut source: impl BufRead,
    exit: Exit,
    is_typed: impl Fn(&[u8]) -> bool,
    target: &mut impl Write,
) -> io::Result<usize> {
    let (mut line, mut blanks) = (Vec::new(), 0);
    // After an error nothing more will come.
    while source
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let command = line.trim_ascii();
        if exit == Exit::Here && command == b"exit" {
            break;
        }
        if is_typed(command) {
            let runs = command.split(|byte| *byte != b' ').map(<[u8]>::len);
            blanks = runs.max().unwrap_or(0).max(blanks);
            target.write_all(command)?;
            target.write_all(b"\n")?;
        }
        line.clear();
    }
    Ok(blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(typed: &str) -> String {
        let mut target = Vec::new();
        pass_bytes(typed.as_bytes(), &mut target).expect("a vector takes it");
        String::from_utf8(target).expect("text")
    }

    fn script(script: Typed, exit: Exit) -> (String, usize) {
        let mut target = Vec::new();
        let blanks = script.pass(exit, &mut target).expect("a vector takes it");
        (String::from_utf8(target).expect("text"), blanks)
    }

    #[test]
    fn the_last_line_is_ended() {
        assert_eq!(bytes(""), "");
        assert_eq!(bytes("exit\n"), "exit\n");
        assert_eq!(bytes("exit\r"), "exit\r");
        assert_eq!(bytes("ps\nexit"), "ps\nexit\n");
        let long = "x".repeat(10_000);
        assert_eq!(bytes(&long), format!("{long}\n"));
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
        assert!(pass_bytes(&b"exit\n"[..], &mut Deaf).is_err());
        assert!(Typed::commands("ps").pass(Exit::Here, &mut Deaf).is_err());
    }

    #[test]
    fn commands_stand_between_semicolons_or_newlines() {
        let (typed, _) = script(
            Typed::commands("ps; mem;;\n# no\r\ncpus\r\n"),
            Exit::InGuest,
        );
        assert_eq!(typed, "ps\nmem\ncpus\n");
    }

    #[test]
    fn exit_is_obeyed_where_it_is_to_be() {
        let commands = "ps; exit ;mem";
        assert_eq!(
            script(Typed::commands(commands), Exit::Here),
            ("ps\n".into(), 0)
        );
        let (typed, _) = script(Typed::commands(commands), Exit::InGuest);
        assert_eq!(typed, "ps\nexit\nmem\n");
        let (typed, _) = script(Typed::commands("exit now"), Exit::Here);
        assert_eq!(typed, "exit now\n");
    }

    #[test]
    fn blanks_are_counted_that_stand_together() {
        let (_, blanks) = script(Typed::commands("  a  b;\n      \nc    d\ne f"), Exit::Here);
        assert_eq!(blanks, 4);
    }

    #[test]
    fn a_script_that_cannot_be_read_is_told() {
        for path in ["/nonexistent/script", "/"] {
            let Err(error) = Typed::file(Path::new(path)) else {
                panic!("{path} can be read");
            };
            assert!(error.starts_with(&format!("cannot read the script {path}: ")));
        }
    }
}
