//! The shell on a terminal: what its screen shows, as a terminal emulator sees it.

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use boot::patience::Patience;
use boot::session::Session;
use qemu_tests::machines::{Failure, LIMIT};

use crate::leaks::plant;
use crate::shell::shell_with;

crate::tests![
    a_line_is_edited_and_completed,
    lines_are_recalled_and_searched,
    reports_appear_above_a_line_of_several_rows,
    a_line_of_the_most_bytes_is_edited,
];

/// How long to wait between two looks at the screen.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A shell on a terminal of 40 columns and 12 rows.
fn terminal(append: &str) -> Result<Session, Failure> {
    shell_with(&format!("console=40x12 {append}"))
}

/// The rows of the screen down to the last that has text, with a `|` where the cursor is.
fn screen(session: &Session) -> String {
    let size = |of| NonZero::new(of).expect("not zero");
    let mut screen = vt100::Parser::new(size(12), size(40), 0);
    screen.process(&session.output());
    let (row, column) = screen.screen().cursor_position();
    let mut rows: Vec<_> = screen.screen().rows(0, 40).collect();
    let last = rows.iter().rposition(|row| !row.trim().is_empty());
    rows.truncate(usize::from(row).max(last.unwrap_or(0)) + 1);
    let Some(with_cursor) = rows.get_mut(usize::from(row)) else {
        return rows.join("\n");
    };
    *with_cursor = format!("{with_cursor:0$}", column.into());
    let at = with_cursor.char_indices().nth(column.into());
    with_cursor.insert(at.map_or(with_cursor.len(), |(at, _)| at), '|');
    rows.join("\n")
}

/// Types keys, and waits until these are the last rows of the screen.
fn keys(session: &mut Session, keys: &str, expected: &[&str]) -> Result<(), Failure> {
    session.send(keys.as_bytes(), LIMIT)?;
    let expected = expected.join("\n");
    let mut patience = Patience::new(LIMIT);
    loop {
        let shown = screen(session);
        if shown == expected || shown.ends_with(&format!("\n{expected}")) {
            return Ok(());
        }
        if patience.left().is_zero() {
            return Err(format!("after {keys:?} not\n{expected}\nbut\n{shown}").into());
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn a_line_is_edited_and_completed() -> Result<(), Failure> {
    let mut session = terminal("")?;
    let shell = &mut session;
    keys(shell, "kmeml\tstac\t", &["> kmemleak stack|"])?;
    keys(
        shell,
        "\t\t",
        &[
            "stack-only  stack=off   stack=on",
            "stacks=off  stacks=on   ",
            "> kmemleak stack|",
        ],
    )?;
    keys(
        shell,
        "\x15leak arc\t\x1b[H\x1b[3~l\r",
        &[
            "> leak arc-cycle ",
            "planted: two Arcs that own each other",
            "> |",
        ],
    )?;
    keys(
        shell,
        "leakarc\x1b[D\x1b[D\x1b[D \r",
        &[
            "> leak arc",
            "leak: unknown kind `arc`; there are:",
            "  forgotten-free arc-cycle unlinked-node",
            "  error-path lost-task-stack pages",
            "  all-pages vmalloc percpu blocked-task",
            "  deadlock lost-sender forgotten-clone",
            "  double-into-raw lost-waker free",
            "> |",
        ],
    )?;
    keys(
        shell,
        "kmemleak sites --by gr\t--j\t",
        &["> kmemleak sites --by growth --json |"],
    )?;
    keys(
        shell,
        "\x15slabs vmalloc-a\t\x15kmemleak objects --task 0\t",
        &["> kmemleak objects --task 0 |"],
    )?;
    keys(shell, "\x03", &["> kmemleak objects --task 0 ^C", "> |"])?;
    // The address of what the last check has found.
    session.send(b"kmemleak scan --no-pager\r", LIMIT)?;
    session.wait_for("2 unreferenced objects (64\n  bytes)\n", LIMIT)?;
    session.wait_for("> ", LIMIT)?;
    session.send(b"kmemleak dump 0\t\r", LIMIT)?;
    session.wait_for("object 0xffff8", LIMIT)?;
    Ok(())
}

fn lines_are_recalled_and_searched() -> Result<(), Failure> {
    let mut session = terminal("")?;
    let shell = &mut session;
    keys(shell, "one\rtwo\r", &["> |"])?;
    keys(shell, "new\x1b[A\x1b[A", &["> one|"])?;
    keys(shell, "\x1b[B\x1b[B", &["> new|"])?;
    keys(shell, "\x12tw", &["(search `tw`) |two"])?;
    keys(shell, "\x07", &["> new|"])?;
    keys(shell, "\x12on\x05x", &["> onex|"])?;
    keys(shell, "\x0c", &["> onex|"])
}

/// A background scan reports while the cursor is in the middle of a line; nothing of the line is lost.
fn reports_appear_above_a_line_of_several_rows() -> Result<(), Failure> {
    let mut session = terminal("")?;
    plant(&mut session, "forgotten-free")?;
    session.command("kmemleak scan=1", LIMIT)?;
    let line = "0123456789".repeat(9);
    let typed = format!("> {line}");
    let rows = [&typed[..40], &typed[40..80], &typed[80..]];
    let left = "\x1b[D".repeat(50);
    session.send(format!("{line}{left}").as_bytes(), LIMIT)?;
    session.wait_for("1 new unreferenced object", LIMIT)?;
    let middle = format!("{}|{}", &typed[40..42], &typed[42..80]);
    keys(&mut session, "", &[rows[0], &middle, rows[2]])?;
    // The report is above.
    let shown = screen(&session);
    if !shown.contains("kmemleak: 1 new unreferenced object") {
        return Err(shown.into());
    }
    session.send(b"x\r", LIMIT)?;
    session.wait_for(
        &format!("unknown command `{}x{}`", &line[..40], &line[40..]),
        LIMIT,
    )?;
    Ok(())
}

/// More rows than the screen has.
fn a_line_of_the_most_bytes_is_edited() -> Result<(), Failure> {
    let mut session = terminal("")?;
    let line = "abcdefgh".repeat(128);
    session.send(line.as_bytes(), LIMIT)?;
    keys(
        &mut session,
        "",
        &[&line[958..998], &format!("{}|", &line[998..])],
    )?;
    let shown = format!("> {}", &line[1..]);
    let rows: Vec<_> = (1..12).map(|row| &shown[row * 40..][..40]).collect();
    let first = format!("> |{}", &shown[2..40]);
    keys(
        &mut session,
        "\x01\x1b[3~",
        &[&[first.as_str()], &rows[..]].concat(),
    )?;
    session.send(b"X\r", LIMIT)?;
    // As much of it as the screen has room for.
    session.wait_for(&format!("unknown command `X{}", &line[1..300]), LIMIT)?;
    Ok(())
}
