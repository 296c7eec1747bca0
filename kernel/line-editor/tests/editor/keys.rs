//! Recorded key sequences: what each key does to the line and to the screen.

use line_editor::{Event, Refusal};

use crate::desk::Desk;

const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const RIGHT: &str = "\x1b[C";
const LEFT: &str = "\x1b[D";

fn desk() -> Desk {
    Desk::new(80, 24)
}

#[test]
fn cursor_keys_in_both_forms() {
    desk()
        .keys("abc")
        .keys(LEFT)
        .keys("\x1bOD")
        .expect(&["> a|bc"])
        .keys("x")
        .expect(&["> ax|bc"]);
    desk()
        .keys("abc\x02\x02")
        .keys(RIGHT)
        .expect_line("ab|c")
        .keys("\x1bOC")
        .expect_line("abc|");
    desk().keys("abc\x02\x02\x06").expect_line("ab|c");
    // At the ends they ring.
    let mut desk = desk();
    desk.keys("a").keys(RIGHT);
    assert_eq!(desk.sent, "\x07");
    desk.keys(LEFT).keys(LEFT);
    assert_eq!(desk.sent, "\x07");
}

#[test]
fn the_ends_of_the_line() {
    for home in ["\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~", "\x01"] {
        desk()
            .keys("abc")
            .keys(home)
            .expect(&["> |abc"])
            .keys("x")
            .expect_line("x|abc");
    }
    for end in ["\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~", "\x05"] {
        desk()
            .keys("abc\x01")
            .keys(end)
            .expect(&["> abc|"])
            .keys("x")
            .expect_line("abcx|");
    }
}

#[test]
fn by_word() {
    for left in ["\x1b[1;5D", "\x1b[1;3D", "\x1bb"] {
        desk()
            .keys("kmemleak scan=on")
            .keys(left)
            .expect_line("kmemleak scan=|on")
            .keys(left)
            .keys(left)
            .expect_line("|kmemleak scan=on");
    }
    for right in ["\x1b[1;5C", "\x1b[1;3C", "\x1bf"] {
        desk()
            .keys("leak arc-cycle\x01")
            .keys(right)
            .expect_line("leak| arc-cycle")
            .keys(right)
            .expect_line("leak arc|-cycle");
    }
}

#[test]
fn taking_characters_away() {
    desk()
        .keys("abc\x7f")
        .expect(&["> ab|"])
        .keys("\x08")
        .expect(&["> a|"]);
    desk().keys("abc\x02\x7f").expect(&["> a|c"]);
    desk()
        .keys("abc\x01\x1b[3~")
        .expect(&["> |bc"])
        .keys("\x04")
        .expect(&["> |c"]);
    let mut desk = desk();
    desk.keys("ab\x04").expect_line("ab|");
    assert_eq!((desk.sent.as_str(), desk.ended.len()), ("\x07", 0));
    desk.keys("\x7f\x7f\x7f");
    assert_eq!(desk.sent, "\x07");
}

#[test]
fn killing_and_putting_back() {
    desk()
        .keys("one two\x02\x02\x02\x0b")
        .expect(&["> one |"])
        .keys("\x01\x19")
        .expect(&["> two|one"]);
    desk()
        .keys("one two\x02\x15")
        .expect(&["> |o"])
        .keys("\x05\x19")
        .expect(&["> oone tw|"]);
    desk()
        .keys("one two  \x17")
        .expect_line("one |")
        .keys("\x17")
        .expect_line("|")
        .keys("\x19\x19")
        .expect_line("one one |");
    desk().keys("scan=on x\x02\x02\x17").expect_line("| x");
    desk()
        .keys("scan=on\x1b\x7f")
        .expect_line("scan=|")
        .keys("\x19")
        .expect_line("scan=on|");
    desk()
        .keys("one two\x01\x1bd")
        .expect_line("| two")
        .keys("\x1bd")
        .expect_line("|")
        .keys("\x19")
        .expect_line(" two|");
    let mut desk = desk();
    desk.keys("a\x0b");
    assert_eq!(desk.sent, "\x07", "there is nothing to kill");
    desk.keys("\x19");
    assert_eq!(desk.sent, "\x07", "nor anything to put back");
}

#[test]
fn swapping() {
    desk().keys("abc\x14").expect(&["> acb|"]);
    desk().keys("abc\x02\x02\x14").expect(&["> ba|c"]);
    desk().keys("a\u{20ac}\x14").expect(&["> \u{20ac}a|"]);
    desk().keys("a\x14").expect(&["> a|"]);
    desk().keys("ab\x01\x14").expect(&["> |ab"]);
}

#[test]
fn ends_of_lines() {
    let mut desk = desk();
    desk.keys("a\rb\nc\r\nd\n\ne");
    assert_eq!(desk.lines, ["a", "b", "c", "d", ""]);
    assert_eq!(desk.editor.line(), "e");
    // In the middle of a line.
    desk.keys("fg\x02\x02\r");
    assert_eq!(desk.lines.last().map(String::as_str), Some("efg"));
}

#[test]
fn giving_up_and_the_end() {
    let mut desk = desk();
    desk.keys("abc\x02\x03")
        .expect(&["> abc^C", "> |"])
        .keys("d\x04\x7f\x04");
    assert_eq!(desk.ended, [Event::Cancelled, Event::End]);
    assert!(desk.lines.is_empty());
}

#[test]
fn clearing_the_screen() {
    desk()
        .keys("one\rtwo\x02\x0c")
        .expect(&["> tw|o"])
        .keys("x")
        .expect(&["> twx|o"]);
}

#[test]
fn history_keeps_the_new_line() {
    let mut desk = desk();
    desk.keys("one\rtwo\rnew")
        .keys(UP)
        .expect_line("two|")
        .keys(UP)
        .expect_line("one|")
        .keys(UP);
    assert_eq!(desk.sent, "\x07");
    desk.keys(DOWN).keys("\x0e").expect_line("new|").keys(DOWN);
    assert_eq!(desk.sent, "\x07");
    desk.keys("\x10")
        .expect(&["> one", "> two", "> two|"])
        .keys("!\r");
    assert_eq!(desk.lines, ["one", "two", "two!"]);
    let history: Vec<_> = desk.editor.history().collect();
    assert_eq!(history, ["one", "two", "two!"]);
}

#[test]
fn history_is_bounded_and_without_repetitions() {
    let mut desk = desk();
    desk.keys("same\rsame\r\r  \r");
    assert_eq!(desk.editor.history().collect::<Vec<_>>(), ["same"]);
    for line in 0..100 {
        desk.keys(&format!("line number {line}\r"));
    }
    let history: Vec<_> = desk.editor.history().collect();
    // As many as fit into 200 bytes with a line feed behind each.
    let expected: Vec<_> = (87..100)
        .map(|line| format!("line number {line}"))
        .collect();
    assert_eq!(history, expected);
}

#[test]
fn searching_the_history() {
    let mut desk = desk();
    desk.keys("scan one\rmark\rscan two\rdraft\x12").expect(&[
        "> scan one",
        "> mark",
        "> scan two",
        "(search ``) draft|",
    ]);
    desk.keys("sc").expect(&[
        "> scan one",
        "> mark",
        "> scan two",
        "(search `sc`) |scan two",
    ]);
    desk.keys("\x12").expect_line("|scan one").keys("\x12");
    assert_eq!(desk.sent, "\x07", "there is no older one");
    desk.keys("x").expect(&[
        "> scan one",
        "> mark",
        "> scan two",
        "(search `sc`) |scan one",
    ]);
    desk.keys("\x7f\x7f")
        .expect_line("draft|")
        .keys("ma")
        .expect_line("|mark");
    // Control-G gives the line back as it was.
    desk.keys("\x07")
        .expect(&["> scan one", "> mark", "> scan two", "> draft|"]);
    // Another key takes the match, and then does what it does.
    desk.keys("\x12one\x05!")
        .expect(&["> scan one", "> mark", "> scan two", "> scan one!|"]);
    desk.keys(DOWN)
        .expect_line("mark|")
        .keys(DOWN)
        .expect_line("scan two|")
        .keys(DOWN)
        .expect_line("draft|");
    desk.keys("\x12mark\r");
    assert_eq!(desk.lines.last().map(String::as_str), Some("mark"));
    desk.keys("\x12one\x03").expect_line("|");
    assert_eq!(desk.ended.last(), Some(&Event::Cancelled));
}

#[test]
fn characters_beyond_ascii() {
    let mut desk = desk();
    desk.keys("gr\u{fc}n \u{6f22}\u{5b57}\x02")
        .expect_line("gr\u{fc}n \u{6f22}|\u{5b57}");
    assert_eq!(
        desk.shown(),
        (vec!["> gr\u{fc}n \u{6f22}\u{5b57}".into()], (0, 9))
    );
    desk.keys("\x7f\x7f\x7f\x7f");
    assert_eq!(desk.shown(), (vec!["> gr\u{5b57}".into()], (0, 4)));
    // A mark on a letter is a character of its own, drawn on that letter.
    desk.keys("\x15\x0be\u{301}x\x01\x06");
    assert_eq!(desk.shown(), (vec!["> e\u{301}x".into()], (0, 3)));
    desk.keys("y");
    assert_eq!(desk.shown().0, ["> ey\u{301}x"]);
    desk.keys("\x7f\x7f");
    assert_eq!(desk.editor.line(), "\u{301}x");
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let refused = |places| Event::Refused(Refusal::Foreign { places });
    let cases: [(&[u8], &str, Event); 8] = [
        (b"gr\xfcn\r", "> gr\u{bf}n", refused(1)),
        (b"a\xe2\x82b\r", "> a\u{bf}b", refused(1)),
        (b"a\xe2\x82\r", "> a\u{bf}", refused(1)),
        (b"\xff\xfe\r", "> \u{bf}\u{bf}", refused(2)),
        (b"\xc3\xe2\x82\xac\r", "> \u{bf}\u{20ac}", refused(1)),
        // Control characters of the upper half.
        (b"a\xc2\x9b31mb\r", "> a\u{bf}31mb", refused(1)),
        (b"a\xff\x7fb\r", "> ab", Event::Complete),
        (b"a\xff\x15b\r", "> b", Event::Complete),
    ];
    for (typed, shown, ended) in cases {
        let mut desk = desk();
        typed.iter().for_each(|byte| desk.byte(*byte));
        assert_eq!(desk.shown().0, [shown, ">"], "{typed:?}");
        assert_eq!(desk.ended, [ended], "{typed:?}");
        assert_eq!(desk.lines.len(), usize::from(ended == Event::Complete));
        assert_eq!(desk.editor.history().count(), desk.lines.len());
    }
    let mut desk = desk();
    desk.byte(0xff);
    assert!(desk.sent.ends_with('\x07'));
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let full = "x".repeat(64);
    let ended = |typed: &str| {
        let mut desk = desk();
        desk.keys(&full).keys(typed);
        (
            desk.ended.last().copied(),
            desk.lines.last().cloned().unwrap_or_default(),
        )
    };
    let too_long = |characters| {
        let refusal = Refusal::TooLong {
            characters,
            most_bytes: 64,
        };
        (Some(Event::Refused(refusal)), String::new())
    };
    let complete = |line: &str| (Some(Event::Complete), line.to_owned());
    assert_eq!(ended("\r"), complete(&full));
    assert_eq!(ended("y\r"), too_long(1));
    assert_eq!(ended("y\u{20ac}\u{fc}\n"), too_long(3));
    // In the middle, too.
    assert_eq!(ended("\x02y\r"), too_long(1));
    // Each is taken away once.
    assert_eq!(ended("yy\x7f\x7f\r"), complete(&full));
    assert_eq!(
        ended("yy\x7f\x7f\x7fz\r"),
        complete(&format!("{}z", &full[1..]))
    );
    assert_eq!(ended("yy\x7f\r"), too_long(1));
    // No other key makes one of it that was not typed.
    assert_eq!(ended("y\x17\r"), too_long(1));
    assert_eq!(ended("y\x01\x0b\r"), too_long(1));
    assert_eq!(ended("y\x1b[A\r"), too_long(1));
    assert_eq!(ended("y\x15ps\r"), complete("ps"));
    assert_eq!(ended("y\x03ps\r"), complete("ps"));
    // What is put back fits, or is not put back.
    assert_eq!(ended("\x15abc\x19\r"), complete("abc"));
}

#[test]
fn a_control_character_ends_an_escape_sequence() {
    let mut desk = desk();
    desk.keys("a\x1b\rb\x1b[\nc\x1b[1;\x1b[Dd\r");
    assert_eq!(desk.lines, ["a", "b", "dc"]);
    desk.keys("x\x1bO\x08y\x1bzv\x1b[15~w\x1bOPu\r");
    assert_eq!(desk.lines.last().map(String::as_str), Some("yvwu"));
    desk.keys("\x1b[\u{20ac}\r");
    assert_eq!(desk.lines.last().map(String::as_str), Some("\u{20ac}"));
}

#[test]
fn keys_without_a_meaning_ring() {
    let mut desk = desk();
    for key in ["\x00", "\x0f", "\x1c", "\x07"] {
        desk.keys(key);
        assert_eq!(desk.sent, "\x07");
    }
    assert_eq!(desk.editor.line(), "");
}
