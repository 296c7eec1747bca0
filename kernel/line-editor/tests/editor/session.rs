//! A session: keys in any order, after each of which the screen must show what the model says.

use line_editor::Editor;
use unicode_width::UnicodeWidthStr;

use crate::desk::{Desk, Sent, shown, terminal, visible};
use crate::line::{Ended, KEYS, Key, Model};

/// Bytes of the longest line.
pub const LINE: usize = 40;

/// What decides what is typed.
pub trait Decide {
    /// A number below `below`.
    fn next(&mut self, below: usize) -> usize;
}

/// What is typed: letters that are searched for and found, blanks, and characters of two columns and of none.
pub const LETTERS: [char; 12] = [
    'a', 'b', 'c', 'a', 'b', ' ', ' ', '-', '\u{fc}', '\u{6f22}', '\u{5b57}', '\u{301}',
];

pub fn any_key(random: &mut impl Decide) -> (Key, Vec<u8>) {
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

/// Types so many keys at a terminal of this size. A failure names the session by `name`.
pub fn session(random: &mut impl Decide, keys: usize, (columns, rows): (u16, u16), name: &str) {
    let mut desk = Desk::<LINE>::new(columns, rows);
    let mut model = Model::new(LINE, 200);
    let (mut above, mut typed, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..keys {
        let (key, bytes) = any_key(random);
        typed.push(key);
        let what = format!(
            "{name}, {columns}x{rows}, step {step}: {:?}",
            &typed[typed.len().saturating_sub(12)..]
        );
        // Terminals send CR LF for one key as well.
        let ends_a_return = last == b"\r" && bytes == b"\n";
        match key {
            _ if ends_a_return => {}
            Key::Announce => {
                let text = format!("n{}", random.next(100));
                above.push(text.clone());
                desk.announce(&format!("{text}\n"));
            }
            Key::Enter | Key::Cancel => above.extend(rows_of_ended(&desk, key, model.missing)),
            _ => {}
        }
        bytes.iter().for_each(|byte| desk.byte(*byte));
        if !ends_a_return {
            model.key(key);
        }
        last = bytes;
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
    assert_eq!(desk.lines, lines.collect::<Vec<_>>(), "{name}");
    assert_eq!(desk.ended.len(), model.ended.len(), "{name}");
    assert!(desk.editor.history().rev().eq(&model.history), "{name}");
}
