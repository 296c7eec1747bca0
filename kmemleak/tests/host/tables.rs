//! Answers that list much are tables: a line for each call site.

use kmemleak_emulated::Place;

use crate::lab::Lab;

const FIRST: &str = "net::Queue<net::Packet>::push+0x1/0x2 (net/queue.rs:7)";
const OTHER: &str = "fs::open+0x1/0x2 (fs/mod.rs:9)";

/// A block that was allocated there.
fn block(lab: &Lab, call_site: &str, size: usize) -> usize {
    lab.machine.call_from(&[call_site]);
    lab.block(size)
}

#[test]
fn interior_is_grouped_by_call_site() {
    let lab = Lab::new();
    for index in 0..30 {
        let held = block(&lab, FIRST, 64);
        lab.hold(index, held + 8);
    }
    let (held, below) = (block(&lab, OTHER, 4096), block(&lab, OTHER, 16));
    lab.hold(30, held + 8);
    lab.machine.write(held, below);
    lab.machine.advance_us(2_000_000);
    assert_eq!(lab.leaks(), []);
    let table = "    #    count     bytes  oldest allocated by                 at
   #1        1   4.0 KiB   2.0 s fs::open                     fs/mod.rs:9
   #2       30   1.9 KiB   2.0 s net::Queue<Packet>::push     net/queue.rs:7
kmemleak: 31 objects (6016 bytes, 5.9 KiB) alive through interior pointers only, and 1 object (16 bytes) behind them
";
    assert_eq!(lab.say("interior"), table);
    // The handle is that of an object.
    let dump = lab.say("dump #1");
    assert!(
        dump.starts_with(&format!("object {held:#018x} (size 4096)")),
        "{dump}"
    );
    let one = lab.say("interior --top 1");
    let rest = "\n  ... and 1 more call site: kmemleak interior --top 2\nkmemleak: 31 objects ";
    assert!(one.contains(rest) && !one.contains("net::Queue"), "{one}");
    let full = lab.say("interior --full");
    assert_eq!(full.matches("\nobject 0x").count() + 1, 32, "{full}");
    // Without memory for groups all are listed.
    let lab = Lab::new();
    let held = block(&lab, FIRST, 64);
    lab.hold(0, held + 8);
    assert_eq!(lab.leaks(), []);
    lab.machine
        .set_metadata_budget(lab.machine.metadata_pages());
    while lab.machine.metadata_refused() == 0 {
        block(&lab, OTHER, 4096);
    }
    let listed = lab.say("interior");
    let no_memory = "kmemleak: no memory to group the objects by call stack\n";
    assert!(
        listed.starts_with(&format!("{no_memory}object {held:#018x} (size 64):\n")),
        "{listed}"
    );
}

#[test]
fn many_holders_are_grouped_by_where_they_come_from() {
    let lab = Lab::new();
    let held = block(&lab, OTHER, 64);
    // Ten words are listed one by one.
    (0..10).for_each(|index| lab.hold(index, held));
    let few = lab.say(&format!("holders {held:x}"));
    assert_eq!(few.lines().count(), 11, "{few}");
    for _ in 0..300 {
        let holder = block(&lab, FIRST, 32);
        lab.machine.write(holder, held);
        lab.machine.write(holder + 8, held + 8);
    }
    let other = block(&lab, OTHER, 4096);
    lab.machine.write(other, held);
    lab.machine.store(Place::Bss(10), held);
    let answer = lab.say(&format!("holders {held:x}"));
    let mut lines = answer.lines();
    assert_eq!(
        lines.next(),
        Some("    #    words  objects     bytes allocated by                 at")
    );
    assert_eq!(
        lines.next(),
        Some("   #1      600      300   9.4 KiB net::Queue<Packet>::push     net/queue.rs:7")
    );
    // Words of roots by what the roots are called.
    let roots = lines
        .clone()
        .filter(|line| line.contains("       -         - "));
    assert_eq!(roots.count(), 11, "{answer}");
    assert!(
        answer.contains("1        1   4.0 KiB fs::open                     fs/mod.rs:9\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with(&format!("\nkmemleak: 612 holders of object {held:#018x}\n")),
        "{answer}"
    );
    assert!(answer.lines().all(|line| line.len() <= 100), "{answer}");
    let dump = lab.say("dump #1");
    assert!(dump.contains("(size 32)"), "{dump}");
    // Each word, where that is asked for.
    let full = lab.say(&format!("holders {held:x} --full"));
    assert_eq!(full.lines().count(), 613);
    let json = lab.say(&format!("holders {held:x} --json"));
    assert_eq!(json.matches("\"kind\":\"holder\"").count(), 612);
    // More lines than are shown.
    for number in 0..30 {
        let holder = block(&lab, &format!("site_{number}"), 32);
        lab.machine.write(holder, held);
    }
    let answer = lab.say(&format!("holders {held:x}"));
    let rest =
        "\n  ... and 23 more lines (23 words): --full lists each word\nkmemleak: 642 holders ";
    assert!(answer.contains(rest), "{answer}");
}

#[test]
fn sites_are_a_table() {
    let lab = Lab::new();
    (0..3).for_each(|_| _ = block(&lab, FIRST, 512));
    block(&lab, OTHER, 64);
    let table = "    #    count     bytes allocated by                 at
   #1        3   1.5 KiB net::Queue<Packet>::push     net/queue.rs:7
   #2        1      64 B fs::open                     fs/mod.rs:9
kmemleak: 2 of 2 call sites, by bytes
";
    assert_eq!(lab.say("sites"), table);
    lab.say("mark");
    for _ in 0..3 {
        block(&lab, OTHER, 64);
        lab.say("mark");
    }
    let other = block(&lab, OTHER, 512);
    let table =
        "    #    count     bytes     growth  objects trend  allocated by                 at
   #2        5     768 B     +512 B       +1 step   fs::open                     fs/mod.rs:9
   #1        3   1.5 KiB       +0 B       +0 -      net::Queue<Packet>::push     net/queue.rs:7
kmemleak: 2 of 2 call sites, by growth
";
    let answer = lab.say("sites");
    let numbers = |text: &str| text.replace("#1 ", "#  ").replace("#2 ", "#  ");
    assert_eq!(numbers(&answer), numbers(table));
    lab.free(other);
    lab.say("mark");
    lab.free(block(&lab, FIRST, 8));
    let full = lab.say("sites --full 1");
    assert!(full.contains("  backtrace (crc "), "{full}");
}
