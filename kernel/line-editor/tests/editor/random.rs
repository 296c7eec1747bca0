//! Random keys, and random bytes.

use line_editor::{Editor, Event};

use crate::desk::{Desk, Sent, shown, terminal, visible};
use crate::line::Key;
use crate::session::{Decide, LETTERS, LINE, any_key, session};

/// Numbers that look random (xorshift64).
struct Random(u64);

impl Decide for Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }
}

/// Sessions of each kind.
const SESSIONS: u64 = 25;

fn sessions(columns: u16, rows: u16) {
    for seed in 1..=SESSIONS {
        session(
            &mut Random(seed),
            400,
            (columns, rows),
            &format!("seed {seed}"),
        );
    }
}

#[test]
fn any_keys_on_a_wide_screen() {
    sessions(80, 24);
}

#[test]
fn any_keys_on_a_narrow_screen() {
    sessions(7, 24);
    sessions(10, 24);
    sessions(21, 4);
}

#[test]
fn any_keys_on_a_screen_of_fewer_rows_than_the_line_has() {
    sessions(7, 3);
    sessions(5, 1);
}

/// Where no key edits, what is run is what was typed, all of it.
#[test]
fn of_random_bytes_no_line_is_run_that_was_not_typed() {
    let mut run = 0;
    for seed in 1..=2000 {
        let mut random = Random(seed);
        // All but control characters. Some are valid UTF-8, as a whole.
        let mut typed: Vec<u8> = (0..random.next(LINE + 20))
            .flat_map(|_| match random.next(30) {
                0 => vec![0x80 + random.next(0x80) as u8],
                1 => LETTERS[random.next(LETTERS.len())].to_string().into_bytes(),
                _ => vec![0x20 + random.next(0x5f) as u8],
            })
            .collect();
        let line = String::from_utf8(typed.clone());
        let is_line = line
            .as_ref()
            .is_ok_and(|line| line.len() <= LINE && !line.chars().any(char::is_control));
        typed.push(b'\n');
        let mut desk = Desk::<LINE>::new(80, 24);
        typed.iter().for_each(|byte| desk.byte(*byte));
        let expected: Vec<String> = line.into_iter().filter(|_| is_line).collect();
        assert_eq!(desk.lines, expected, "{typed:?}");
        assert_eq!(desk.ended.len(), 1, "{typed:?}");
        run += desk.lines.len();
    }
    assert!((200..1800).contains(&run), "both happens often: {run}");
}

/// Whatever comes, on either kind of line: nothing panics, and a line is text that fits. A plain line gets no escape sequence.
#[test]
fn random_bytes_do_no_harm() {
    for seed in 1..=100 {
        let mut random = Random(seed);
        let mut desk = Desk::<LINE>::new(1 + random.next(30) as u16, 1 + random.next(6) as u16);
        desk.words = &["abc", "abd", "\u{6f22}\u{5b57}"];
        let (mut plain, mut sent) = (Editor::<LINE, 200>::new("> "), Sent::default());
        plain.begin(&mut sent).expect("room");
        for _ in 0..400 {
            // Bytes of escape sequences among them.
            let byte = match random.next(4) {
                0 => b"\x1b[O;135~ABCDHF"[random.next(14)],
                1 => random.next(0x20) as u8,
                _ => random.next(0x100) as u8,
            };
            desk.byte(byte);
            if random.next(20) == 0 {
                desk.announce("x\n");
            }
            let event = plain.byte(byte, &mut sent).expect("room");
            assert!(!matches!(event, Event::Tab(_)));
            if event != Event::Edited {
                plain.begin(&mut sent).expect("room");
            }
        }
        assert!(!sent.0.contains('\x1b'));
        for line in desk.lines.iter().map(String::as_str).chain(plain.history()) {
            assert!(
                line.len() <= LINE && !line.chars().any(char::is_control),
                "{line:?}"
            );
        }
    }
}

/// A plain line shows the same as a terminal on which nothing wraps.
#[test]
fn any_keys_on_a_plain_line() {
    for seed in 1..=SESSIONS {
        let mut random = Random(seed);
        let mut desk = Desk::<LINE>::new(160, 24);
        let (mut plain, mut sent) = (Editor::<LINE, 200>::new("> "), Sent::default());
        plain.begin(&mut sent).expect("room");
        let mut screen = terminal(160, 24);
        for _ in 0..200 {
            let (key, bytes) = any_key(&mut random);
            // A mark is on the character before it also where a terminal steps back.
            if key == Key::Text('\u{301}') {
                continue;
            }
            for byte in bytes {
                desk.byte(byte);
                if plain.byte(byte, &mut sent).expect("room") != Event::Edited {
                    plain.begin(&mut sent).expect("room");
                }
            }
            assert_eq!(plain.line(), desk.editor.line());
            screen.process(visible(&std::mem::take(&mut sent.0)).as_bytes());
            let ((plain, at), (rows, cursor)) = (shown(screen.screen()), desk.shown());
            assert_eq!((plain.last(), at.1), (rows.last(), cursor.1), "seed {seed}");
        }
    }
}
