//! A plain line: what is typed is echoed, and no escape sequence is written.

use line_editor::{Editor, Event};

use crate::desk::Sent;

/// What a plain line gets for some typing.
fn sent(typed: &str) -> String {
    let (mut editor, mut sent) = (Editor::<64, 200>::new("> "), Sent::default());
    let write = "a string takes it";
    editor.begin(&mut sent).expect(write);
    for byte in typed.bytes() {
        if editor.byte(byte, &mut sent).expect(write) != Event::Edited {
            editor.begin(&mut sent).expect(write);
        }
    }
    sent.0
}

#[test]
fn what_is_typed_is_echoed() {
    assert_eq!(sent("ps\rcpus\n"), "> ps\r\n> cpus\r\n> ");
    assert_eq!(sent("gr\u{fc}n\n"), "> gr\u{fc}n\r\n> ");
    assert_eq!(
        sent(&format!("{}\n", "x".repeat(64))),
        format!("> {}\r\n> ", "x".repeat(64))
    );
}

#[test]
fn a_tab_is_a_blank() {
    assert_eq!(sent("kmemleak\tscan\n"), "> kmemleak scan\r\n> ");
}

#[test]
fn keys_take_backspaces() {
    assert_eq!(sent("ab\x7f"), "> ab\x08 \x08");
    assert_eq!(sent("ab\x02x"), "> ab\x08xb\x08");
    assert_eq!(sent("ab\x01\x05c"), "> ab\x08\x08abc");
    assert_eq!(sent("ab\x01\x0b"), "> ab\x08\x08  \x08\x08");
    assert_eq!(sent("ab\x01\n"), "> ab\x08\x08ab\r\n> ");
}

#[test]
fn other_output_begins_on_a_new_line() {
    let (mut editor, mut sent) = (Editor::<64, 200>::new("> "), Sent::default());
    editor.begin(&mut sent).expect("room");
    for byte in *b"abc\x02" {
        editor.byte(byte, &mut sent).expect("room");
    }
    sent.0.clear();
    editor.hide(&mut sent).expect("room");
    assert_eq!(sent.0, "\r\n");
    editor.show(&mut sent).expect("room");
    assert_eq!(sent.0, "\r\n> abc\x08");
}
