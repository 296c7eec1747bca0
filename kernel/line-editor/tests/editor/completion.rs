//! Tab.

use crate::desk::Desk;

fn desk(words: &'static [&'static str]) -> Desk {
    let mut desk = Desk::new(40, 8);
    desk.words = words;
    desk
}

#[test]
fn the_only_word_is_completed() {
    desk(&["status", "scan"])
        .keys("kmemleak st\t")
        .expect_line("kmemleak status |");
    desk(&["status", "scan"])
        .keys("status\t")
        .expect_line("status |");
    desk(&["status"]).keys("\t").expect_line("status |");
    // Behind the cursor there is a blank already.
    desk(&["status"])
        .keys("st x\x02\x02\t")
        .expect_line("status| x");
    // A word that is offered twice is one word.
    desk(&["scan", "scan"]).keys("s\t").expect_line("scan |");
}

#[test]
fn of_several_what_they_have_in_common() {
    let mut desk = desk(&["suppress", "status", "suppression"]);
    desk.keys("su\t").expect_line("suppress|").keys("\t");
    assert_eq!(desk.sent, "\x07");
    desk.keys("\t")
        .expect(&["suppress     suppression", "> suppress|"]);
}

#[test]
fn what_nothing_begins_with_rings() {
    let mut desk = desk(&["suppress"]);
    desk.keys("x\t");
    assert_eq!(desk.sent, "\x07");
    desk.keys("\t").expect(&["> x|"]);
}

#[test]
fn the_list_is_in_order_and_without_repetitions() {
    let words = &["#10", "pages", "#9", "#9", "arc-cycle", "#1", "vmalloc"];
    desk(words).keys("leak \t\t").expect(&[
        "#1         #9         #10",
        "arc-cycle  pages      vmalloc",
        "> leak |",
    ]);
    // Another key in between, and nothing is listed.
    desk(words).keys("leak \tx\x7f\t").expect(&["> leak |"]);
}

#[test]
fn what_does_not_fit_into_the_line_is_not_added() {
    let mut desk = desk(&["arc-cycle"]);
    desk.keys(&"x".repeat(60)).keys(" a\t");
    assert_eq!(desk.sent, "\x07");
    assert_eq!(desk.editor.line().len(), 62);
    desk.keys("\r");
    assert_eq!(desk.lines.len(), 1);
}

#[test]
fn a_long_list_ends_with_a_line_that_says_so() {
    let words: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let mut offer = |take: &mut dyn FnMut(&str)| words.iter().for_each(|word| take(word));
    let mut list = String::new();
    let completion = line_editor::Completion::of("", &mut offer);
    completion.list(80, &mut offer, &mut list).expect("room");
    assert_eq!(
        list.split_whitespace().take(120).collect::<Vec<_>>(),
        words[..120]
    );
    assert!(list.ends_with("\n... and more\n"), "{list}");
}
