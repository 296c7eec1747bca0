//! Listening to the guest: what it prints is shown, searched for the detector's verdicts and records, and, once all has been
//! typed, kept as answers.
//!
//! After what the user has typed this program may ask the guest something itself. It begins by an empty line of more blanks
//! than the user has ever typed together: the shell does nothing for it, and its echo says that all commands before it have
//! been done. From there on nothing is shown; an answer ends where the prompt comes again.

use std::mem;

use boot::leaks::{self, LeakWatch};

use crate::files::SoFar;

/// What the shell prints, at the start of a line, when it waits for a command.
const PROMPT: &[u8] = b"> ";

/// How the detector's records begin.
const RECORD: &str = r#"{"schema":"#;

/// Shows and keeps what the guest prints.
#[derive(Debug, Default)]
pub struct Listener {
    /// What is known of the detector's verdicts.
    pub leaks: LeakWatch,
    /// Records that were printed, each with its newline.
    pub records: String,
    /// Whether the last verdict was printed as a record.
    is_printed: bool,
    /// The line that has begun.
    line: Vec<u8>,
    /// As much of the line as was shown.
    shown: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// All is shown.
    #[default]
    Open,
    /// Until this line comes.
    Until(Vec<u8>),
    /// Nothing is shown: this is a part of an answer.
    Answer(Vec<u8>),
}

impl Listener {
    /// Hides all that comes after the prompt, with this line typed there.
    pub fn hide_from(&mut self, typed: &str) {
        self.state = State::Until([PROMPT, typed.as_bytes()].concat());
    }

    /// Shows what comes from here on.
    pub fn reveal(&mut self) {
        self.state = State::Open;
        self.line.clear();
        self.shown = 0;
    }

    /// Takes the next bytes, and adds what is to be seen of them to `shown`. Returns an answer if this was its end.
    pub fn feed(&mut self, bytes: &[u8], shown: &mut Vec<u8>) -> Option<String> {
        self.leaks.feed(bytes);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.piece(piece, shown);
        }
        let State::Answer(answer) = &mut self.state else {
            return None;
        };
        (self.line == PROMPT).then(|| String::from_utf8_lossy(&mem::take(answer)).into_owned())
    }

    /// What is known of the run.
    pub fn so_far(&self) -> SoFar {
        SoFar {
            checked: self.leaks.last().is_some(),
            check_printed: self.is_printed,
        }
    }

    /// A part of a line, or its end.
    fn piece(&mut self, piece: &[u8], shown: &mut Vec<u8>) {
        self.line.extend_from_slice(piece);
        let is_whole = piece.ends_with(b"\n");
        match &mut self.state {
            State::Answer(answer) if is_whole => answer.extend_from_slice(&self.line),
            State::Answer(_) => {}
            State::Until(awaited) => {
                let line = without_end(&self.line);
                let is_awaited = line == awaited.as_slice() && is_whole;
                // The prompt is seen, whatever comes after it.
                let end = match is_awaited || !is_whole && awaited.starts_with(line) {
                    true => PROMPT.len(),
                    false => usize::MAX,
                };
                if is_awaited {
                    self.state = State::Answer(Vec::new());
                }
                self.show(end, shown);
            }
            State::Open => self.show(usize::MAX, shown),
        }
        if is_whole {
            let line = mem::take(&mut self.line);
            self.shown = 0;
            self.note(&String::from_utf8_lossy(&line));
        }
    }

    /// Shows the line up to here.
    fn show(&mut self, end: usize, shown: &mut Vec<u8>) {
        let end = end.min(self.line.len());
        if end > self.shown {
            shown.extend_from_slice(&self.line[self.shown..end]);
            self.shown = end;
        }
    }

    /// Keeps a line that is a record, if it was the user who has asked for it.
    fn note(&mut self, line: &str) {
        if matches!(self.state, State::Answer(_)) {
            return;
        }
        let line = leaks::written(line);
        let is_record = line.starts_with(RECORD);
        if leaks::verdict(line).is_some() {
            self.is_printed = is_record;
        }
        if is_record {
            self.records.push_str(line);
            self.records.push('\n');
        }
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown, and what was answered, when the output comes in pieces of that length.
    fn hear(listener: &mut Listener, output: &str, len: usize) -> (String, Vec<String>) {
        let (mut shown, mut answers) = (Vec::new(), Vec::new());
        for piece in output.as_bytes().chunks(len) {
            answers.extend(listener.feed(piece, &mut shown));
        }
        (String::from_utf8(shown).expect("text"), answers)
    }

    #[test]
    fn questions_and_answers_are_not_shown() {
        for len in [1, 3, 4, 1000] {
            let mut listener = Listener::default();
            let (shown, _) = hear(&mut listener, "> a  b\r\nc\r\n> ", len);
            assert_eq!(shown, "> a  b\r\nc\r\n> ");
            listener.hide_from("   ");
            let (shown, answers) = hear(&mut listener, "  x\r\ny\r\n> ", len);
            assert_eq!((shown.as_str(), answers.len()), ("  x\r\ny\r\n> ", 0));
            let (shown, answers) = hear(&mut listener, "   \r\n> ", len);
            assert_eq!(
                (shown.as_str(), answers),
                ("", vec![String::new()]),
                "{len}"
            );
            let (shown, answers) = hear(&mut listener, "why\r\nso\r\n> ", len);
            assert_eq!(
                (shown.as_str(), answers),
                ("", vec!["> why\r\nso\r\n".to_owned()])
            );
            listener.reveal();
            assert_eq!(hear(&mut listener, "\r\n", len).0, "\r\n");
            // The prompt that comes with what is typed there is seen as well.
            listener.hide_from("  ");
            let (shown, answers) = hear(&mut listener, "y\r\n>   \r\n> ", len);
            assert_eq!((shown.as_str(), answers.len()), ("y\r\n> ", 1));
        }
    }

    #[test]
    fn records_of_the_user_are_kept() {
        let mut listener = Listener::default();
        let echo = "> kmemleak \u{1b}{\"schema\":2}\r\n";
        let record = "{\"schema\":2,\"kind\":\"site\"}";
        let output = format!("{echo}{record}\r\n> kme\r\x1b[K{record}\r\n> ");
        hear(&mut listener, &output, 5);
        assert_eq!(listener.records, format!("{record}\n{record}\n"));
        listener.hide_from(" ");
        hear(&mut listener, &format!(" \r\n> q\r\n{record}\r\n> "), 5);
        assert_eq!(listener.records, format!("{record}\n{record}\n"));
    }

    #[test]
    fn it_is_known_whether_the_last_check_was_printed_as_records() {
        let text = "kmemleak: 0 unreferenced objects (0 bytes)\r\n";
        let json = "{\"schema\":2,\"kind\":\"summary\",\"how\":\"stopped\",\"objects\":0}\r\n";
        for (output, checked, check_printed) in [
            (String::new(), false, false),
            (text.to_owned(), true, false),
            (json.to_owned(), true, true),
            (format!("{text}{json}"), true, true),
            (format!("{json}{text}"), true, false),
        ] {
            let mut listener = Listener::default();
            hear(&mut listener, &output, 100);
            let so_far = SoFar {
                checked,
                check_printed,
            };
            assert_eq!(listener.so_far(), so_far, "{output}");
        }
    }
}
