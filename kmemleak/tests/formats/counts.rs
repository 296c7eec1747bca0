//! What the command `counts` writes.

use kmemleak_emulated::{Place, Stop};

use crate::lab::Lab;

/// An `Arc` that a function of this name allocates, with these counts.
fn arc(lab: &Lab, user: &str, strong: usize, weak: usize) -> usize {
    let frame = format!(
        "alloc::boxed::Box<T>::new<alloc::sync::ArcInner<kernel::{user}>>\n{user} (kernel/src/{user}.rs:7)"
    );
    lab.machine.call_from(&[&frame, "main"]);
    let start = lab.block(48);
    lab.machine.write(start, strong);
    lab.machine.write(start + 8, weak);
    start
}

/// Two of one call site that have too many, one of another; one below zero, one that may have too few, one on a stack.
fn lab() -> (Lab, [usize; 6]) {
    let lab = Lab::new();
    let blocks = [
        arc(&lab, "Task", 2, 1),
        arc(&lab, "Job", 3, 1),
        arc(&lab, "Task", 4, 1),
        arc(&lab, "Dropped", usize::MAX, 2),
        arc(&lab, "Early", 1, 1),
        arc(&lab, "Held", 9, 1),
    ];
    (0..)
        .zip(blocks)
        .for_each(|(word, block)| lab.hold(word, block));
    lab.hold(10, blocks[4]);
    lab.machine.store(Place::Stack(0), blocks[5]);
    lab.machine.advance_us(2000);
    (lab, blocks)
}

#[test]
fn a_table_of_call_sites() {
    let (lab, _) = lab();
    let certain = "    \
    #    count  too many  oldest type         allocated by                 at
   #1        1   below 0    2 ms Arc<Dropped> Dropped                      kernel/src/Dropped.rs:7
   #2        2        +4    2 ms Arc<Task>    Task                         kernel/src/Task.rs:7
   #3        1        +2    2 ms Arc<Job>     Job                          kernel/src/Job.rs:7
kmemleak: 1 count is below zero: a reference was dropped twice, and what still points there may use freed memory
kmemleak: 1 count is possibly too low, or stale words point there: kmemleak counts --all
kmemleak: 3 counts are too high, of 6 counted blocks; 1 held by stacks, not judged
";
    assert_eq!(lab.say("counts"), certain);
    let first = "    \
    #    count  too many  oldest type         allocated by                 at
   #1        1   below 0    2 ms Arc<Dropped> Dropped                      kernel/src/Dropped.rs:7
   #4        1       -1?    2 ms Arc<Early>   Early                        kernel/src/Early.rs:7
  ... and 2 more lines: kmemleak counts 4 --all
kmemleak: 1 count is below zero: a reference was dropped twice, and what still points there may use freed memory
kmemleak: 1 count is possibly too low: words beyond the counts are stale, or the block is about to be freed too early
kmemleak: 3 counts are too high, of 6 counted blocks; 1 held by stacks, not judged
";
    assert_eq!(lab.say("counts 2 --all"), first);
}

#[test]
fn nothing_wrong() {
    let lab = Lab::new();
    let none = "kmemleak: 0 counts are too high, of 0 counted blocks\n";
    assert_eq!(lab.say("counts"), none);
    lab.hold(0, arc(&lab, "Task", 1, 1));
    let none = "kmemleak: 0 counts are too high, of 1 counted block\n";
    assert_eq!(lab.say("counts"), none);
}

#[test]
fn each_block_in_json() {
    let (lab, [_, job, task, dropped, early, _]) = lab();
    let json = lab.say("counts 3 --all --json");
    let lines: Vec<&str> = json.lines().collect();
    assert_eq!(lines.len(), 4, "{json}");
    for (line, begins, address, of_type) in [
        (
            lines[0],
            "\"handle\":1,\"wrong\":\"below_zero\",\"certain\":true,\"references\":-1,\"words\":1,\"difference\":-2",
            dropped,
            "Arc<kernel::Dropped>",
        ),
        (
            lines[1],
            "\"handle\":2,\"wrong\":\"too_low\",\"certain\":false,\"references\":1,\"words\":2,\"difference\":-1",
            early,
            "Arc<kernel::Early>",
        ),
    ] {
        let begins = format!(
            "{{\"schema\":2,\"kind\":\"miscount\",{begins},\"address\":\"{address:#018x}\",\"size\":48,\"birth_us\":"
        );
        assert!(line.starts_with(&begins), "{line}");
        assert!(line.contains(&format!("\"type\":\"{of_type}\"")), "{line}");
    }
    assert_eq!(
        lines[3],
        "{\"schema\":2,\"kind\":\"miscounts\",\"shown\":3,\"blocks\":6,\"on_stacks\":1,\"below_zero\":1,\"too_low\":1,\"too_high\":3,\"no_call_stacks\":null}"
    );
    let certain = lab.say("counts --json");
    assert!(!certain.contains("too_low\","), "{certain}");
    for block in [job, task] {
        assert!(certain.contains(&format!("{block:#018x}")), "{certain}");
    }
}

#[test]
fn why_nothing_is_compared() {
    let lab = Lab::new();
    let says = |command: &str, text: &str, code: &str| {
        assert_eq!(lab.say(command), format!("kmemleak: {text}\n"));
        let json = lab.say(&format!("{command} --json"));
        assert!(json.contains(&format!("\"code\":\"{code}\"")), "{json}");
    };
    lab.say("stack=off");
    let stacks =
        "stacks are not read, and may hold references: `stack=on`, or a platform that names stacks";
    says("counts", stacks, "no_stacks");
    lab.say("stack=on");
    lab.machine.set_stop(Stop::Unsupported);
    says("counts", "this platform cannot stop the world", "unstopped");
    lab.machine.set_stop(Stop::Works);
    lab.detector.exhaust_metadata(true);
    lab.block(64);
    lab.detector.exhaust_metadata(false);
    let unrecorded = "blocks are unrecorded, and may hold references: `status` says how many, `clear` begins anew";
    says("counts", unrecorded, "unrecorded");
    lab.say("off");
    says("counts", "off, and can't be switched on again", "off");
}
