//! The shell's pager, and how it breaks long lines.

use alloc::string::String;
use alloc::vec::Vec;

use kernel::console::Terminal;
use kernel::shell::pager::{Before, Page};
use kernel::shell::wrap::Wrap;

use crate::guest_test;

/// A text as a screen of that size shows it: cut where somebody is asked, with a bar where that is inside of a line. Each time
/// `turn` rows are given.
fn pages(columns: u16, rows: u16, turn: usize, text: &str) -> Vec<String> {
    let mut page = Page::new(Terminal { columns, rows });
    let mut pages = Vec::from([String::new()]);
    for character in text.chars() {
        let before = page.before(character);
        if before != Before::Nothing {
            page.turn(turn);
            let mark = if before == Before::StopInLine {
                "|"
            } else {
                ""
            };
            pages.push(mark.into());
        }
        page.write(character);
        pages.last_mut().expect("never empty").push(character);
    }
    pages
}

guest_test! {
    /// The last row is for the question, which is asked only if there is more.
    fn pages_end_at_the_last_row_but_one() smp [1] {
        assert_eq!(pages(10, 3, 9, "a\nb\n"), ["a\nb\n"]);
        assert_eq!(pages(10, 3, 9, "a\nb\nc\nd\ne"), ["a\nb\n", "c\nd\n", "e"]);
        assert_eq!(pages(10, 3, 9, "a\nb\n\n\n\n"), ["a\nb\n", "\n\n", "\n"]);
        // A row at a time.
        assert_eq!(pages(10, 3, 1, "a\nb\nc\nd\ne"), ["a\nb\n", "c\n", "d\n", "e"]);
        // Whatever the size.
        assert_eq!(pages(1, 1, 9, "a\nb\n"), ["a\n", "b\n"]);
    }
}

guest_test! {
    /// A line that is longer than the screen is wide takes several rows; one that fills a row exactly takes one.
    fn long_lines_take_several_rows() smp [1] {
        assert_eq!(pages(4, 3, 9, "abcd\nefgh\ni"), ["abcd\nefgh\n", "i"]);
        assert_eq!(pages(4, 3, 9, "abcdefgh\ni"), ["abcdefgh\n", "i"]);
        assert_eq!(pages(4, 3, 9, "abcdefghi\nj\nk"), ["abcdefgh", "|i\nj\n", "k"]);
    }
}

guest_test! {
    /// Colours take no place.
    fn escape_sequences_take_no_place() smp [1] {
        let red = "\x1b[1;31mabcd\x1b[0m\n";
        assert_eq!(pages(4, 3, 9, &[red, red, "x"].concat()), [[red, red].concat(), "x".into()]);
    }
}

/// A text with its lines broken for that many columns.
fn broken(columns: u16, text: &str) -> String {
    let mut wrap = Wrap::new(Terminal { columns, rows: 24 });
    let mut out = String::new();
    let written = (text.chars()).try_for_each(|character| wrap.put(character, &mut out));
    (written.and_then(|()| wrap.finish(&mut out))).expect("a text takes all");
    out
}

guest_test! {
    /// What does not fit goes below its line's first word, and a little deeper.
    fn lines_are_broken_before_a_word() smp [1] {
        assert_eq!(broken(10, "ab cd efgh ij\nk"), "ab cd efgh\n  ij\nk");
        assert_eq!(broken(10, " ab cd  efghi   jkl\n"), " ab cd\n   efghi\n   jkl\n");
        assert_eq!(broken(10, "a\n\n  b  \nc "), "a\n\n  b  \nc ");
        // The indentation leaves half of the row.
        assert_eq!(broken(10, "        a bcd\n"), "        a\n     bcd\n");
        assert_eq!(broken(10, "aaaaaa bbbbb\n"), "aaaaaa\n  bbbbb\n");
    }
}

guest_test! {
    /// It would be broken all the same, or could not be copied.
    fn a_word_longer_than_a_row_and_json_stay_whole() smp [1] {
        for line in ["ab cdefghijklmn", "abcdefghijklmn", "{\"a\": 1, \"b\": 2}"] {
            assert_eq!(broken(10, line), line);
        }
        let long = ["ab ", &"x".repeat(1000), " cd\n"].concat();
        assert_eq!(broken(10, &[&long, "ab cd efgh ij"].concat()), [&long, "ab cd efgh\n  ij"].concat());
    }
}

guest_test! {
    /// Colours take no place, and go with their word.
    fn colours_do_not_change_where_a_line_is_broken() smp [1] {
        let red = "ab cd \x1b[31mefgh\x1b[0m \x1b[2mij\x1b[0m\n";
        assert_eq!(broken(10, red), "ab cd \x1b[31mefgh\x1b[0m\n  \x1b[2mij\x1b[0m\n");
    }
}
