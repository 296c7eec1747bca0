//! What is printed of memory that was overwritten: where, what lies there, who allocated and who freed the block.

use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![
    a_write_past_the_end_is_shown,
    a_write_after_free_is_shown,
    a_double_free_is_shown,
    memory_is_checked_by_a_command,
];

/// What the test prints where blocks are poisoned, without the lines of its end.
fn told_by(test: &str) -> Result<String, Failure> {
    let machine = machines::guest(&format!("test=guest::poison::{test} kmemleak.poison=on"));
    let ended = machines::run(&machine)?;
    machines::expect(&ended, Outcome::Passed, "")?;
    Ok(ended.serial.replace('\r', ""))
}

/// The report that begins with this line, up to the next one.
fn report<'t>(text: &'t str, first_line: &str) -> Result<Vec<&'t str>, Failure> {
    let begin = text
        .find(first_line)
        .ok_or(format!("no {first_line:?} in {text}"))?;
    let mut lines = text[begin..].lines();
    let first = lines.next().into_iter();
    Ok(first
        .chain(lines.take_while(|line| line.starts_with("  ")))
        .collect())
}

/// Each of the texts is in a line of its own, in this order.
fn has_in_order(lines: &[&str], texts: &[&str]) -> Result<(), Failure> {
    let mut rest = lines.iter();
    match texts
        .iter()
        .find(|&&text| !rest.any(|line| line.contains(text)))
    {
        None => Ok(()),
        Some(text) => Err(format!("no {text:?}, or not there, in {lines:#?}").into()),
    }
}

fn a_write_past_the_end_is_shown() -> Result<(), Failure> {
    let text = told_by("a_write_past_the_end_is_told")?;
    let of_slab = report(&text, "size-32: write past the end of a block: 0xffff8880")?;
    let lines = [
        "size-32: write past",
        "  1 byte overwritten at 0xffff8880",
        "  hex dump (from 0xffff8880",
        "5a 5a 5a 5a ee bb bb bb bb bb bb bb bb bb bb bb  ZZZZ............",
        "  allocated last from task 1, cpu ",
        "guest::poison::the_allocation+0x",
        "guest::poison::a_write_past_the_end_is_told+0x",
        "  freed last from task 1, cpu ",
        "guest::poison::the_free+0x",
    ];
    has_in_order(&of_slab, &lines)?;
    has_in_order(
        &of_slab,
        &["(offset +20) of a block of 20 bytes; found when it was freed"],
    )?;
    let large = report(&text, "pages: write past the end of a block: 0xffff8880")?;
    has_in_order(
        &large,
        &[
            "(offset +9000) of a block of 9000 bytes",
            "the_allocation+0x",
            "the_free+0x",
        ],
    )?;
    let text = told_by("a_write_before_the_start_is_told")?;
    let before = report(&text, "size-64: write before the start of a block")?;
    has_in_order(
        &before,
        &[
            "(offset -1) of a block of 64 bytes",
            "the_allocation+0x",
            "the_free+0x",
        ],
    )
}

fn a_write_after_free_is_shown() -> Result<(), Failure> {
    let text = told_by("a_write_after_free_is_told")?;
    let left = report(&text, "size-64: write to a freed block: 0xffff8880")?;
    let lines = [
        "(offset +5) of a block of 64 bytes; found when it left the quarantine",
        "6b 6b 6b 6b 6b ee 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkk.kkkkkkkkkk",
        "  allocated last from",
        "guest::poison::the_allocation+0x",
        "  freed last from",
        "guest::poison::the_free+0x",
    ];
    has_in_order(&left, &lines)?;
    let unseen = report(
        &text,
        "test-poison-unseen: write to a freed block: 0xffff8880",
    )?;
    has_in_order(
        &unseen,
        &["(offset +95)", "allocated last from", "freed last from"],
    )?;
    has_in_order(&unseen, &["found when it was to be handed out again"])
}

fn a_double_free_is_shown() -> Result<(), Failure> {
    for test in [
        "a_double_free_at_once_is_told",
        "a_double_free_after_allocations_is_told",
    ] {
        let text = told_by(test)?;
        let refused = report(&text, "size-64: double free: 0xffff8880")?;
        let lines = [
            "  refused free from task 1, cpu ",
            "guest::poison::the_free+0x",
            "  allocated last from",
            "guest::poison::the_allocation+0x",
            "  freed last from",
            "guest::poison::the_free+0x",
        ];
        has_in_order(&refused, &lines)?;
    }
    Ok(())
}

fn memory_is_checked_by_a_command() -> Result<(), Failure> {
    let mut machine = machines::kernel();
    let mut session = Session::start(&machine)?;
    session.wait_for_prompt(LIMIT)?;
    let without = session.command("mem check", LIMIT)?;
    let other = session.command("mem chek", LIMIT)?;
    session.send_line("exit", LIMIT)?;
    drop(session.finish(LIMIT));
    machine.append = "kmemleak.poison=on".into();
    let mut session = Session::start(&machine)?;
    session.wait_for_prompt(LIMIT)?;
    let with = session.command("mem check", LIMIT)?;
    let memory = session.command("mem", LIMIT)?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")?;
    let expected = [
        (
            without,
            "mem check: nothing to look at without the boot parameter kmemleak.poison=on",
        ),
        (
            other,
            "mem: unexpected argument `chek`: expected check or nothing",
        ),
        (with, " objects of slabs, 0 places overwritten"),
        (memory, "quarantine "),
    ];
    match expected
        .iter()
        .find(|(answer, text)| !answer.contains(text))
    {
        None => Ok(()),
        Some((answer, text)) => Err(format!("no {text:?} in {answer:?}").into()),
    }
}
