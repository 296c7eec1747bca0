//! Lines that are longer than a row, and other output meanwhile.

use crate::desk::Desk;

#[test]
fn a_line_goes_on_in_the_next_row() {
    let mut desk = Desk::<64>::new(10, 6);
    desk.keys("1234567")
        .expect(&["> 1234567|"])
        .keys("8")
        .expect(&["> 12345678", "|"]);
    desk.keys("9")
        .expect(&["> 12345678", "9|"])
        .keys("\x02\x02")
        .expect(&["> 1234567|8", "9"]);
    desk.keys("x")
        .expect(&["> 1234567x", "|89"])
        .keys("\x7f")
        .expect(&["> 1234567|8", "9"]);
    desk.keys("\x01")
        .expect(&["> |12345678", "9"])
        .keys("\x05")
        .expect(&["> 12345678", "9|"]);
    desk.keys("\x7f")
        .expect(&["> 12345678", "|"])
        .keys("\x7f")
        .expect(&["> 1234567|"]);
    desk.keys("8\rx").expect(&["> 12345678", "> x|"]);
}

#[test]
fn the_screen_scrolls() {
    let mut desk = Desk::<64>::new(10, 3);
    desk.keys("a\rb\r123456789")
        .expect(&["> b", "> 12345678", "9|"]);
    desk.keys("\x01x")
        .expect(&["> b", "> x|1234567", "89"])
        .keys("\r")
        .expect(&["> x1234567", "89", "> |"]);
}

#[test]
fn wide_characters_do_not_straddle_rows() {
    let mut desk = Desk::<64>::new(10, 4);
    desk.keys("1234567\u{6f22}x");
    assert_eq!(
        desk.shown(),
        (vec!["> 1234567".into(), "\u{6f22}x".into()], (1, 3))
    );
    desk.keys("\x02\x02");
    assert_eq!(desk.shown().1, (1, 0));
    desk.keys("\x7f");
    assert_eq!(
        desk.shown(),
        (vec!["> 123456\u{6f22}".into(), "x".into()], (0, 8))
    );
    desk.keys("7");
    assert_eq!(
        desk.shown(),
        (vec!["> 1234567".into(), "\u{6f22}x".into()], (1, 0))
    );
}

#[test]
fn of_more_rows_than_the_screen_has_those_around_the_cursor_are_shown() {
    let mut desk = Desk::<64>::new(6, 3);
    desk.keys("1234abcdefABCDEF__")
        .expect(&["abcdef", "ABCDEF", "__|"]);
    desk.keys("\x01").expect(&["> |1234", "abcdef", "ABCDEF"]);
    desk.keys("x")
        .expect(&["> x|123", "4abcde", "fABCDE"])
        .keys("\x05")
        .expect(&["4abcde", "fABCDE", "F__|"]);
    desk.announce("hello\n");
    desk.expect(&["4abcde", "fABCDE", "F__|"]);
    desk.keys("\r").expect(&["fABCDE", "F__", "> |"]);
}

#[test]
fn other_output_appears_above_the_line() {
    let mut desk = Desk::<64>::new(10, 8);
    desk.keys("1234567890ab\x02\x02\x02\x02\x02");
    desk.expect(&["> 1234567|8", "90ab"]).announce("one\ntwo\n");
    desk.expect(&["one", "two", "> 1234567|8", "90ab"])
        .keys("x")
        .expect(&["one", "two", "> 1234567x", "|890ab"]);
    desk.announce("three\n");
    desk.expect(&["one", "two", "three", "> 1234567x", "|890ab"]);
    desk.keys("\r");
    assert_eq!(desk.lines, ["1234567x890ab"]);
}

#[test]
fn the_line_comes_back_when_all_have_written() {
    let mut desk = Desk::<64>::new(10, 8);
    desk.keys("ab");
    let mut sent = String::new();
    desk.editor.hide(&mut sent).expect("room");
    desk.editor.hide(&mut sent).expect("room");
    assert_eq!(sent, "\r\x1b[J");
    desk.editor.show(&mut sent).expect("room");
    assert!(desk.editor.is_hidden());
    assert_eq!(sent, "\r\x1b[J");
    desk.editor.show(&mut sent).expect("room");
    assert_eq!(sent, "\r\x1b[J> ab");
}
