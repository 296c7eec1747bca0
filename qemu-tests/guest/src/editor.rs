//! The shell's line editor.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use kernel::shell::editor::{Edit, Editor, LINE_LEN};

use crate::guest_test;

/// The lines that come of some typing.
fn lines(typed: &str) -> Vec<String> {
    let mut editor = Editor::new();
    let complete = |byte| (editor.byte(byte) == Edit::Complete).then(|| editor.take().to_string());
    typed.bytes().filter_map(complete).collect()
}

guest_test! {
    /// Lines end with a carriage return, a line feed, or both.
    fn line_ends() smp [1] {
        assert_eq!(lines("a\rb\nc\r\nd\n\ne"), ["a", "b", "c", "d", ""]);
    }
}

guest_test! {
    /// Backspace, delete, and the control keys.
    fn corrections() smp [1] {
        assert_eq!(lines("ab\x08c\r"), ["ac"]);
        assert_eq!(lines("\x7f\x7fab\x7f\x7f\x7fc\r"), ["c"]);
        assert_eq!(lines("one two\x17three\r"), ["one three"]);
        assert_eq!(lines("one two \x17\x17x\r"), ["x"]);
        assert_eq!(lines("one two\x15x\r"), ["x"]);
        assert_eq!(lines("one\x03two\r"), ["two"]);
    }
}

guest_test! {
    /// Arrow keys and bytes that are no characters leave nothing. A tab is a blank.
    fn noise() smp [1] {
        assert_eq!(lines("a\x1b[A\x1b[1;5Cb\x1bOPc\x00\x01\r"), ["abc"]);
        assert_eq!(lines("kmemleak\tscan\r"), ["kmemleak scan"]);
    }
}

guest_test! {
    /// A line is never taken without those of its characters that the editor can't keep.
    fn what_is_no_ascii() smp [1] {
        let mut editor = Editor::new();
        let mut type_line = |typed: &str| {
            let last = typed.bytes().map(|byte| editor.byte(byte)).last();
            (last, editor.take().to_string())
        };
        let taken = |line: &str| (Some(Edit::Complete), line.to_string());
        let refused = |bytes| (Some(Edit::Foreign(bytes)), String::new());
        assert_eq!(type_line("gr\u{fc}n\r"), refused(2));
        assert_eq!(type_line("ps\r"), taken("ps"));
        assert_eq!(type_line("\u{20ac}\n"), refused(3));
        assert_eq!(type_line("\u{fc}\x04\r"), refused(2), "not the beginning of a line");
        assert_eq!(type_line("\u{fc}x\x7f\x7f\r"), refused(2));
        assert_eq!(type_line("\u{fc}\x15ps\r"), taken("ps"));
        assert_eq!(type_line("\u{fc}\x03ps\r"), taken("ps"));
    }
}

guest_test! {
    /// A control character is one also where a sequence has begun, which it ends: Escape and then Enter is Enter.
    fn keys_after_escape() smp [1] {
        assert_eq!(lines("a\x1b\rb\x1b[\nc\x1b[1;\x1b[Ad\r"), ["a", "b", "cd"]);
        assert_eq!(lines("a\x1b\x03b\r"), ["b"]);
        assert_eq!(lines("a\x1b\x1b[Ab\x1bxc\r"), ["abc"]);
        assert_eq!(lines("a\x1bO\x08b\r"), ["b"]);
    }
}

guest_test! {
    /// The character for the end of the input counts at the beginning of a line only.
    fn the_end() smp [1] {
        let mut editor = Editor::new();
        assert_eq!(editor.byte(0x04), Edit::End);
        assert_eq!(editor.byte(b'x'), Edit::Insert('x'));
        assert_eq!(editor.byte(0x04), Edit::None);
        assert_eq!(editor.line(), "x");
    }
}

guest_test! {
    /// A line that is too long can be corrected or given up, but it is not taken without its end.
    fn too_long_lines() smp [1] {
        let mut editor = Editor::new();
        let mut type_line = |typed: &str, last: u8| {
            (0..LINE_LEN).for_each(|_| _ = editor.byte(b'x'));
            typed.bytes().for_each(|byte| _ = editor.byte(byte));
            let edit = editor.byte(last);
            (edit, editor.take().len())
        };
        assert_eq!(type_line("", b'\r'), (Edit::Complete, LINE_LEN));
        assert_eq!(type_line("y", b'\r'), (Edit::TooLong(LINE_LEN + 1), 0));
        assert_eq!(type_line("yyy", b'\n'), (Edit::TooLong(LINE_LEN + 3), 0));
        // Each character is taken away once, seen or not.
        assert_eq!(type_line("yy\x7f\x7f", b'\n'), (Edit::Complete, LINE_LEN));
        assert_eq!(type_line("yy\x7f\x7f\x7fz", b'\n'), (Edit::Complete, LINE_LEN));
        assert_eq!(type_line("yy\x7f", b'\n'), (Edit::TooLong(LINE_LEN + 1), 0));
        // Where the last word begins is not known.
        assert_eq!(type_line("y z\x17", b'\n'), (Edit::TooLong(LINE_LEN + 3), 0));
        assert_eq!(type_line("y z\x15ps", b'\n'), (Edit::Complete, 2));
        assert_eq!(type_line("y z\x03", b'\n'), (Edit::Complete, 0));
    }
}

guest_test! {
    /// A line that is too long is refused from there on, and can be corrected.
    fn long_lines() smp [1] {
        let mut editor = Editor::new();
        for _ in 0..LINE_LEN {
            assert_eq!(editor.byte(b'x'), Edit::Insert('x'));
        }
        assert_eq!(editor.byte(b'x'), Edit::Full);
        assert_eq!(editor.byte(0x7f), Edit::None, "that is the one that was not kept");
        assert_eq!(editor.byte(0x7f), Edit::Erase);
        assert_eq!(editor.byte(b'y'), Edit::Insert('y'));
        assert_eq!(editor.byte(b'\r'), Edit::Complete);
        assert_eq!(editor.take().len(), LINE_LEN);
        assert_eq!(editor.line(), "");
    }
}
