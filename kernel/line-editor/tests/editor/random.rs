//! Random keys, and random bytes.

use line_editor::{Editor, Event};
use unicode_width::UnicodeWidthStr;

use crate::desk::{Desk, Sent, shown, terminal, visible};
use crate::model::{Ended, KEYS, Key, Model};

/// Numbers that look random (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }
}

/// Bytes of the longest line.
const LINE: usize = 40;

/// Sessions of each kind.
const SESSIONS: u64 = 25;

/// What is typed: letters that are searched for and found, blanks, and characters of two columns and of none.
const LETTERS: [char; 12] = [
    'a', 'b', 'c', 'a', 'b', ' ', ' ', '-', '\u{fc}', '\u{6f22}', '\u{5b57}', '\u{301}',
];

fn any_key(random: &mut Random) -> (Key, Vec<u8>) {
    // Half of the keys are letters.
    if random.next(2) == 0 {
        let letter = LETTERS[random.next(LETTERS.len())];
        return (Key::Text(letter), letter.to_string().into_bytes());
    }
    let (key, bytes) = KEYS[random.next(KEYS.len())];
    // A line should grow long now and then.
    match key {
        Key::Enter | Key::Cancel | Key::KillToEnd | Key::KillToStart if random.next(3) > 0 => {
            (Key::Text('x'), b"x".to_vec())
        }
        _ => (key, bytes.to_vec()),
    }
}

/// The screen must show what it would show if the line had just been written to an empty one, below what was there.
fn compare_screens(desk: &Desk<LINE>, above: &[String], what: &str) {
    let (rows, cursor) = desk.shown();
    let (fresh, fresh_cursor) = fresh(&desk.editor, desk);
    let start = cursor.0.checked_sub(fresh_cursor.0);
    let start = usize::from(start.unwrap_or_else(|| panic!("{what}: {rows:?}, not {fresh:?}")));
    assert_eq!(
        (&rows[start..], cursor.1),
        (&fresh[..], fresh_cursor.1),
        "{what}"
    );
    let rows_above = &above[above.len().saturating_sub(start)..];
    assert_eq!(&rows[..start], rows_above, "{what}");
}

/// What an empty terminal shows of the line.
fn fresh(editor: &Editor<LINE, 200>, desk: &Desk<LINE>) -> (Vec<String>, (u16, u16)) {
    let (rows, columns) = desk.screen.screen().size();
    let (mut editor, mut sent) = (editor.clone(), Sent::default());
    editor.hide(&mut Sent::default()).expect("room");
    editor.show(&mut sent).expect("room");
    let mut screen = terminal(columns.get(), rows.get());
    screen.process(visible(&sent.0).as_bytes());
    shown(screen.screen())
}

/// The rows that stay on the screen of a line that ends with this key.
fn rows_of_ended(desk: &Desk<LINE>, key: Key, missing: usize) -> Vec<String> {
    let (mut editor, mut sent) = (desk.editor.clone(), Sent::default());
    let mut keys = vec![0x7f; missing];
    if key == Key::Cancel && missing == 0 {
        // Control-G ends a search and shows the line again.
        keys.push(0x07);
    }
    // To the end of the line.
    keys.push(0x05);
    keys.into_iter()
        .for_each(|key| _ = editor.byte(key, &mut sent).expect("room"));
    let (mut rows, (row, column)) = fresh(&editor, desk);
    let (row, column) = (usize::from(row), usize::from(column));
    let columns = usize::from(desk.screen.screen().size().1.get());
    if key == Key::Cancel {
        let blanks = " ".repeat(column - rows[row].width());
        rows[row] += &format!("{blanks}^");
        match column + 2 > columns {
            true => rows.push("C".into()),
            false => rows[row].push('C'),
        }
    } else if row > 0 && column == 0 {
        // The next line begins there.
        rows.pop();
    }
    rows
}

fn session(seed: u64, columns: u16, rows: u16) {
    let mut random = Random(seed);
    let mut desk = Desk::<LINE>::new(columns, rows);
    let mut model = Model::new(LINE, 200);
    let (mut above, mut typed) = (Vec::new(), Vec::new());
    for step in 0..400 {
        let (key, bytes) = any_key(&mut random);
        typed.push(key);
        let what = format!(
            "seed {seed}, {columns}x{rows}, step {step}: {:?}",
            &typed[typed.len().saturating_sub(12)..]
        );
        match key {
            Key::Announce => {
                let text = format!("n{}", random.next(100));
                above.push(text.clone());
                desk.announce(&format!("{text}\n"));
            }
            Key::Enter | Key::Cancel => above.extend(rows_of_ended(&desk, key, model.missing)),
            _ => {}
        }
        bytes.iter().for_each(|byte| desk.byte(*byte));
        model.key(key);
        assert_eq!(desk.editor.line(), model.line(), "{what}");
        assert_eq!(
            desk.editor.before_cursor().chars().count(),
            model.cursor,
            "{what}"
        );
        compare_screens(&desk, &above, &what);
    }
    let lines = model.ended.iter().filter_map(|ended| match ended {
        Ended::Line(line) => Some(line.clone()),
        Ended::NoLine => None,
    });
    assert_eq!(desk.lines, lines.collect::<Vec<_>>(), "seed {seed}");
    assert_eq!(desk.ended.len(), model.ended.len(), "seed {seed}");
    assert!(
        desk.editor.history().rev().eq(&model.history),
        "seed {seed}"
    );
}

#[test]
fn any_keys_on_a_wide_screen() {
    (1..=SESSIONS).for_each(|seed| session(seed, 80, 24));
}

#[test]
fn any_keys_on_a_narrow_screen() {
    (1..=SESSIONS).for_each(|seed| session(seed, 7, 24));
    (1..=SESSIONS).for_each(|seed| session(seed, 10, 24));
    (1..=SESSIONS).for_each(|seed| session(seed, 21, 4));
}

#[test]
fn any_keys_on_a_screen_of_fewer_rows_than_the_line_has() {
    (1..=SESSIONS).for_each(|seed| session(seed, 7, 3));
    (1..=SESSIONS).for_each(|seed| session(seed, 5, 1));
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
