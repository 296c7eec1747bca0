//! What each command answers, to the letter, on a small machine; and what is said to wrong words.

use kmemleak::{AllocOptions, CommandError, WaitsOn};
use kmemleak_emulated::{Place, Stop};

use crate::lab::Lab;

/// Commands, each with its answer.
fn transcript(lab: &Lab, lines: &[(&str, &str)]) {
    for (command, answer) in lines {
        assert_eq!(lab.say(command), *answer, "{command}");
    }
}

#[test]
fn settings() {
    transcript(
        &Lab::new(),
        &[
            ("stack=off", "kmemleak: task stacks are no roots\n"),
            ("stack on", "kmemleak: task stacks are roots\n"),
            ("scan=off", "kmemleak: no background scan\n"),
            ("scan=on", "kmemleak: background scan every 600 s\n"),
            ("scan 7", "kmemleak: background scan every 7 s\n"),
            ("scan=0", "kmemleak: no background scan\n"),
            (
                "stop_max_ms=20",
                "kmemleak: a background scan stops the world for 20 ms at most\n",
            ),
            (
                "stop_max_ms=0",
                "kmemleak: a background scan never stops the world\n",
            ),
            (
                "stop_max_ms=short",
                "kmemleak: stop_max_ms: invalid value `short`: expected a number of milliseconds\n",
            ),
            (
                "scan=18446744073709551615",
                "kmemleak: background scan every 18446744073709 s\n",
            ),
            (
                "scan=18446744073709551616",
                "kmemleak: scan: invalid value `18446744073709551616`: expected on, off or a number of seconds\n",
            ),
        ],
    );
}

#[test]
fn help() {
    let list = "  \
  scan [--all] [--full] [--top N] [--json]
                            check for leaks now, and report
  report [--all] [--full] [--top N] [--json]
                            the last check's report again; --all: all leaks, not only leaders
  show #N [--top N]         a group that was listed, with its objects (20), or an object
  status [--json]           what the detector knows and does
  clear [--json]            never report again what is reported now; after off: free the metadata
  mark [--json]             check now, and remember what is lost and what is alive
  new [--full] [--top N] [--json]
                            check now, and report what was lost since the mark
  sites [N] [--by bytes|growth|count] [--full] [--json]
                            call sites (10) by growth since the mark; without a mark by live bytes
  types [N] [--by bytes|growth|count] [--json]
                            types of live blocks (10) by growth since the mark; without a mark by live bytes
  counts [N] [--all] [--json]
                            reference counts that are wrong (10): more references than there are, or less than none
  site CRC|#N [--task PID] [--older SECS] [--top N] [--json]
                            a call site, its bytes at the last marks, and its oldest objects (20)
  objects [--site CRC] [--task PID] [--older SECS] [--full] [--top N] [--json]
                            the oldest live objects (20), with their addresses
  interior [--full] [--top N] [--json]
                            the objects that only pointers into their middle keep alive
  stack-only [--full] [--top N] [--json]
                            the objects that only words of stacks keep alive, and in which frames these lie
  dump ADDR|#N [--json]     what is known of the object at an address
  holders ADDR|#N [--full] [--json]
                            the words that point into an object; more than 10: a table of where they lie
  path ADDR|#N [--json]     the shortest way to an object from a root
  why ADDR|#N [--json]      why an address is, or is not, reported, and what to do
  tasks [--json]            the tasks that can never run again, and what only they retain
  snapshot [--json]         the whole heap, always as JSON: objects, pointers between them, roots
  suppress [--json]         the suppressions, and what they hide
  suppress PATTERN|#N[:max=N] [--json]
                            hide leaks with a function in their call stack whose path ends with PATTERN; * is any text
  unsuppress PATTERN [--json]
                            remove a suppression
  stack=on|off [--json]     whether task stacks are roots
  stacks=on|off|sample:BYTES [--json]
                            of which allocations the call stack is taken: of all, none, or a sample by bytes
  scan=on|off [--json]      whether to scan in the background
  scan=SECS [--json]        scan in the background every so many seconds
  stop_max_ms=MS [--json]   how long a background scan may stop the world at most; 0: never
  selftest [--json]         plant a leak, find it, remove it; makes a new verdict
  help [COMMAND]            this list, or what a command takes
  off [--json]              record nothing any more; it can't be switched on again
  --color always|never      with any command: text with colours, or without
";
    let lab = Lab::new();
    transcript(&lab, &[("", list), ("help", list), ("  \t ", list)]);
    lab.say("off");
    transcript(&lab, &[("", list), ("help", list)]);
}

#[test]
fn why() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let (_first, held, lost) = (lab.block(64), lab.block(64), lab.block(32));
    lab.hold(7, held);
    lab.hold(8, (lost & !0xffff_0000_0000_0000) | 0xab << 56);
    let [held_by, missed] = [7, 8].map(|word| lab.machine.address(Place::Bss(word)));
    transcript(
        &lab,
        &[
            ("why 10", "0x0000000000000010: no object there, and there can be none\nkmemleak: check the number: it is no address, or it lies in the first page\n"),
            (
                &format!("why {held:x}"),
                &format!(
                    "\
object {held:#018x} (size 64): reachable: a word in a root leads to it
  {held_by:#018x}: bss 7
kmemleak: if it should be lost, one of these words should be gone; `holders` shows all that point to it
"
                ),
            ),
            (
                &format!("why={:x}", lost + 3),
                &format!(
                    "\
object {lost:#018x} (size 32): unreferenced now, and not in the last report: there was no check, or none since the last clear
  {missed:#018x}: bss 8
    near miss: a pointer with other upper bits: strip the bits in `ForeignWords::untag`, or call `not_leak`
kmemleak: `scan` checks now, whatever the age of an object; if it is in use, the near miss may be what holds it
"
                ),
            ),
            ("why", "kmemleak: why: missing argument: expected an address in hexadecimal or a number from a report, like #1\n"),
        ],
    );
}

#[test]
fn interior() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let block = lab.block(64);
    lab.hold(0, block + 8);
    lab.leaks();
    let table = "    #    count     bytes  oldest allocated by                 at
   #1        1      64 B    0 ms probe
kmemleak: 1 object (64 bytes) alive through interior pointers only
";
    transcript(&lab, &[("interior", table)]);
    let answer = lab.say("interior --full");
    let (before, after) = answer.split_once("(crc ").expect("a backtrace");
    assert_eq!(
        before,
        format!("object {block:#018x} (size 64):\n  backtrace ")
    );
    assert_eq!(
        &after[8..],
        "):\n    probe\nkmemleak: 1 object (64 bytes) alive through interior pointers only\n"
    );
    lab.hold(0, block);
    lab.leaks();
    transcript(
        &lab,
        &[(
            "interior",
            "kmemleak: 0 objects (0 bytes) alive through interior pointers only\n",
        )],
    );
}

#[test]
fn stack_only() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let none = "kmemleak: 0 objects (0 bytes) alive through stack words only\n";
    transcript(&lab, &[("stack-only", none)]);
    let blocks = [lab.block(64), lab.block(64), lab.block(32)];
    lab.machine.write(blocks[0], blocks[2]);
    for (word, &block) in blocks[..2].iter().enumerate() {
        lab.machine.store(Place::Stack(4 + word), block);
    }
    let [first, second] = [4, 5].map(|word| lab.machine.address(Place::Stack(word)));
    let sum = "kmemleak: 2 objects (128 bytes) alive through stack words only, and 1 object (32 bytes) behind them\n";
    let heading = "    # address                bytes     age allocated by                 at\n";
    let row = |number, block: usize, word: usize, name: &str| {
        format!(
            "   #{number} {block:#018x}      64 B    0 ms probe\n      held by {word:#018x}: {name}\n"
        )
    };
    let (one, two) = (
        row(1, blocks[0], first, "stack 4"),
        row(2, blocks[1], second, "stack 5"),
    );
    transcript(
        &lab,
        &[("stack-only", &format!("{heading}{one}{two}{sum}"))],
    );
    let more = "  ... and 1 more object: kmemleak stack-only --top 2\n";
    let top = format!("{heading}{one}{more}{sum}");
    transcript(&lab, &[("stack-only --top 1", &top)]);
    let full = lab.say("stack-only --full");
    let begins = format!(
        "object {:#018x} (size 64):\n      held by {first:#018x}: stack 4\n  backtrace (crc ",
        blocks[0]
    );
    assert!(full.starts_with(&begins), "{full}");
    assert!(full.ends_with(&format!("    probe\n{sum}")), "{full}");
}

#[test]
fn holders_and_path() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe", "main"]);
    let (top, below) = (lab.block(64), lab.block(32));
    let quiet = {
        lab.machine.call_from(&[]);
        lab.block(16)
    };
    lab.hold(7, top + 8);
    lab.machine.write(top + 0x28, below);
    lab.machine.write(quiet + 8, below + 31);
    let bss = lab.machine.address(Place::Bss(7));
    let (top_word, quiet_word) = (top + 0x28, quiet + 8);
    let expected = format!(
        "  \
  {top_word:#018x}: object {top:#018x} (size 64)+0x28, from probe
  {quiet_word:#018x}: object {quiet:#018x} (size 16)+0x8
kmemleak: 2 holders of object {below:#018x}
"
    );
    let mut sorted: Vec<&str> = expected.lines().collect();
    sorted[..2].sort_unstable();
    assert_eq!(
        lab.say(&format!("holders {:x}", below + 3)),
        sorted.join("\n") + "\n"
    );
    let expected = format!(
        "  \
  {bss:#018x}: bss 7
  {top_word:#018x}: object {top:#018x} (size 64)+0x28, from probe
kmemleak: 2 steps to object {below:#018x}
"
    );
    assert_eq!(lab.say(&format!("path={below:#x}")), expected);
    assert_eq!(
        lab.say(&format!("path {quiet:#x}")),
        "kmemleak: no root leads there\n"
    );
    let none = format!("kmemleak: 0 holders of object {quiet:#018x}\n");
    assert_eq!(lab.say(&format!("holders {quiet:#x}")), none);
    transcript(
        &lab,
        &[
            ("holders 10", "kmemleak: no object there\n"),
            ("path 0x10", "kmemleak: no object there\n"),
            (
                "holders 0x",
                "kmemleak: holders: invalid value `0x`: expected an address in hexadecimal or a number from a report, like #1\n",
            ),
            (
                "holders x10",
                "kmemleak: holders: invalid value `x10`: expected an address in hexadecimal or a number from a report, like #1\n",
            ),
            (
                "path 11112222333344445",
                "kmemleak: path: invalid value `11112222333344445`: expected an address in hexadecimal or a number from a report, like #1\n",
            ),
            ("path ffffffffffffffff", "kmemleak: no object there\n"),
        ],
    );
}

#[test]
fn tasks() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let queue = lab.block(48);
    let none = "kmemleak: 0 of 0 waiting tasks can never run again\n";
    transcript(&lab, &[("tasks", none)]);
    let slot = queue + 8;
    let tasks = &lab.machine.tasks;
    tasks.name_waiting(40, WaitsOn::Address(slot));
    tasks.name_waiting(41, WaitsOn::Task(40));
    lab.machine.advance_us(1_250_000);
    let text = format!(
        "\
task 40, comm \"waits\", can never run again:
  waits for wait queue at {slot:#018x}, in object {queue:#018x} (size 48), for 2.250s
  only it retains 0 objects (0 bytes)
  waits in: none recorded
task 41, comm \"waits\", can never run again:
  waits for the end of task 40, for 2.250s
  only it retains 0 objects (0 bytes)
  waits in: none recorded
kmemleak: 2 of 2 waiting tasks can never run again; only these retain 0 objects (0 bytes)
"
    );
    transcript(&lab, &[("tasks", &text)]);
    lab.machine.set_stop(Stop::Missing(1));
    let unstopped = "kmemleak: cpu 1 did not stop in time\n";
    let as_json = "{\"schema\":2,\"kind\":\"error\",\"code\":\"unstopped\",\"error\":\"cpu 1 did not stop in time\"}\n";
    transcript(&lab, &[("tasks", unstopped), ("tasks --json", as_json)]);
}

#[test]
fn suppress() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    lab.block(64);
    transcript(
        &lab,
        &[
            ("suppress", "kmemleak: 0 suppressions\n"),
            (
                "suppress probe:max=2",
                "kmemleak: from the next check on, \"probe:max=2\" hides what matches\n",
            ),
            (
                "suppress *open*",
                "kmemleak: from the next check on, \"*open*\" hides what matches\n",
            ),
            (
                "suppress x:max=y",
                "kmemleak: suppress: invalid value `x:max=y`: expected PATTERN, PATTERN:max=N or a number from a report, like #1\n",
            ),
            (
                "suppress=",
                "kmemleak: suppress: invalid value ``: expected PATTERN, PATTERN:max=N or a number from a report, like #1\n",
            ),
        ],
    );
    lab.leaks();
    transcript(
        &lab,
        &[
            (
                "suppress",
                "  probe:max=2  1 matched, 1 object (64 bytes) hidden\n  *open*  0 matched, 0 objects (0 bytes) hidden\nkmemleak: 2 suppressions\n",
            ),
            (
                "unsuppress nothing",
                "kmemleak: no suppression \"nothing\"\n",
            ),
            (
                "unsuppress probe",
                "kmemleak: \"probe\" hides nothing any more\n",
            ),
            // The name of a function may have blanks in it.
            (
                "  suppress <T as  Drop>::*:max=3 \n",
                "kmemleak: from the next check on, \"<T as  Drop>::*:max=3\" hides what matches\n",
            ),
            (
                "suppress=a b=c",
                "kmemleak: from the next check on, \"a b=c\" hides what matches\n",
            ),
            (
                "unsuppress <T as  Drop>::*",
                "kmemleak: \"<T as  Drop>::*\" hides nothing any more\n",
            ),
        ],
    );
}

#[test]
fn what_is_hidden_is_told_in_the_sum() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    lab.block(64);
    lab.say("suppress probe");
    let answer = lab.say("scan");
    let mut lines = answer.lines();
    assert_eq!(
        lines.next(),
        Some("kmemleak: 1 object (64 bytes) suppressed")
    );
    assert_eq!(
        lines.next(),
        Some("kmemleak: 0 unreferenced objects (0 bytes)")
    );
}

#[test]
fn dump() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let block = lab.block_with(16, AllocOptions::new().min_count(2));
    lab.detector.no_scan(block);
    lab.hold(0, block);
    lab.say("scan");
    let answer = lab.say(&format!("dump {:x}", block + 15));
    let expected = format!(
        "\
object {block:#018x} (size 16):
  comm \"test\", pid 1, cpu 0
  birth 1 us
  min_count 2, count 1
  flags no-scan unreferenced reported
  checksum "
    );
    assert_eq!(answer[..expected.len()], expected);
    let none = format!("kmemleak: no object at {:#018x}\n", block + 16);
    assert_eq!(lab.say(&format!("dump {:x}", block + 16)), none);
}

#[test]
fn clear_and_off() {
    let lab = Lab::new();
    lab.block(64);
    transcript(
        &lab,
        &[
            (
                "report",
                "kmemleak: no check so far, or none since the last clear\n",
            ),
            (
                "clear",
                "kmemleak: 0 reported objects are no leaks from now on\n",
            ),
        ],
    );
    lab.say("scan");
    transcript(
        &lab,
        &[
            (
                "clear",
                "kmemleak: 1 reported object is no leak from now on\n",
            ),
            (
                "report",
                "kmemleak: no check so far, or none since the last clear\n",
            ),
            ("off", "kmemleak: off; \"clear\" frees the metadata\n"),
            ("clear", "kmemleak: metadata freed\n"),
            ("clear", "kmemleak: metadata freed\n"),
        ],
    );
}

#[test]
fn after_off_a_few_words_work_and_the_others_say_why_not() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let block = lab.block(64);
    lab.say("scan");
    let report = lab.report();
    let report_all = lab.say("report --all --full");
    lab.say("off");
    let address = format!("{block:#x}");
    for command in [
        "scan",
        "scan --all",
        "scan=5",
        "scan=on",
        "stop_max_ms=5",
        "mark",
        "new",
        "sites",
        "sites 3",
        "interior",
        "suppress",
        "suppress x",
        "unsuppress x",
        "stack=on",
        "selftest",
        "off",
    ] {
        assert_eq!(
            lab.say(command),
            "kmemleak: off, and can't be switched on again\n",
            "{command}"
        );
    }
    for command in ["dump", "holders", "path"] {
        assert_eq!(
            lab.say(&format!("{command} {address}")),
            "kmemleak: off, and can't be switched on again\n"
        );
    }
    // Of a block that may be another's by now nothing is shown.
    let dump: Vec<&str> = report.lines().skip(2).take(3).collect();
    assert_eq!(dump[0], "  hex dump (first 32 bytes):");
    let unread = |report: &str| {
        report.replace(
            &dump.join("\n"),
            "  not read: the detector is off, and the block may have been freed",
        )
    };
    assert_eq!(lab.report(), unread(&report));
    assert_eq!(lab.say("report --all --full"), unread(&report_all));
    assert_eq!(lab.status("state"), "disabled");
    assert_eq!(lab.status("next scan"), "none");
    assert_eq!(lab.status("objects"), "1 (64 bytes)");
}

#[test]
fn wrong_arguments_get_the_command_s_own_lines() {
    let lab = Lab::new();
    transcript(
        &lab,
        &[
            (
                "dump",
                "kmemleak: dump: missing argument: expected an address in hexadecimal or a number from a report, like #1\n",
            ),
            (
                "stack maybe",
                "kmemleak: stack: invalid value `maybe`: expected on or off\n",
            ),
            (
                "stack",
                "kmemleak: stack: missing argument: expected on or off\n",
            ),
            ("off now", "kmemleak: off: unexpected argument `now`\n"),
            (
                "help scan now",
                "kmemleak: help: unexpected argument `now`\n",
            ),
            (
                "scan soon",
                "kmemleak: scan: invalid value `soon`: expected on, off or a number of seconds\n",
            ),
            ("dump 10 20", "kmemleak: dump: unexpected argument `20`\n"),
            (
                "dump 10 20 --all",
                "kmemleak: dump: unexpected argument `20`\n",
            ),
            (
                "sites 3 more",
                "kmemleak: sites: unexpected argument `more`\n",
            ),
            (
                "holders --json",
                "{\"schema\":2,\"kind\":\"error\",\"code\":\"missing_argument\",\"error\":\"holders: missing argument: expected an address in hexadecimal or a number from a report, like #1\"}\n",
            ),
            (
                "report more --json",
                "{\"schema\":2,\"kind\":\"error\",\"code\":\"unexpected_argument\",\"error\":\"report: unexpected argument `more`\"}\n",
            ),
            (
                "scan --fast",
                "kmemleak: scan: unexpected argument `--fast`\n",
            ),
            (
                "help --json",
                "{\"schema\":2,\"kind\":\"error\",\"code\":\"unexpected_argument\",\"error\":\"help: unexpected argument `--json`\"}\n",
            ),
            (
                "statsu --json",
                "{\"schema\":2,\"kind\":\"error\",\"code\":\"unknown_command\",\"error\":\"unknown command `statsu`; did you mean `status`?\"}\n",
            ),
            (
                "suppress --json x --all",
                "{\"schema\":2,\"kind\":\"error\",\"code\":\"unexpected_argument\",\"error\":\"suppress: unexpected argument `--all`\"}\n",
            ),
            (
                "dump 10 --all",
                "kmemleak: dump: unexpected argument `--all`\n",
            ),
            (
                "sites --all",
                "kmemleak: sites: unexpected argument `--all`\n",
            ),
            (
                "sites --by",
                "kmemleak: sites --by: missing argument: expected bytes, growth or count\n",
            ),
            (
                "sites --by --json",
                "{\"schema\":2,\"kind\":\"error\",\"code\":\"missing_argument\",\"error\":\"sites --by: missing argument: expected bytes, growth or count\"}\n",
            ),
            (
                "sites --by=",
                "kmemleak: sites --by: missing argument: expected bytes, growth or count\n",
            ),
            (
                "sites --by size",
                "kmemleak: sites --by: invalid value `size`: expected bytes, growth or count\n",
            ),
            (
                "sites --by=size 3",
                "kmemleak: sites --by: invalid value `size`: expected bytes, growth or count\n",
            ),
            (
                "sites --by bytes --by count",
                "kmemleak: sites: unexpected argument `--by`\n",
            ),
            (
                "sites --by bytes 3 4",
                "kmemleak: sites: unexpected argument `4`\n",
            ),
            (
                "report --by bytes",
                "kmemleak: report: unexpected argument `--by`\n",
            ),
            (
                "report --all=1",
                "kmemleak: report: unexpected argument `--all=1`\n",
            ),
            ("new --all", "kmemleak: new: unexpected argument `--all`\n"),
            (
                "scan=5 --all",
                "kmemleak: scan: unexpected argument `--all`\n",
            ),
            ("nwe", &unknown("nwe", "new")),
            ("statsu", &unknown("statsu", "status")),
            ("holder", &unknown("holder", "holders")),
            (
                "scan--json",
                "kmemleak: unknown command `scan--json`; `help` lists all\n",
            ),
            (
                "scan --jsn",
                "kmemleak: scan: unexpected argument `--jsn`; did you mean `--json`?\n",
            ),
        ],
    );
    assert!(
        lab.detector.is_on(),
        "off was told what to do, and did nothing"
    );
    assert_eq!(lab.say("suppress"), "kmemleak: 0 suppressions\n");
}

fn unknown(word: &str, nearest: &str) -> String {
    format!("kmemleak: unknown command `{word}`; did you mean `{nearest}`?\n")
}

#[test]
fn status() {
    let lab = Lab::new();
    lab.hold(0, lab.block(64));
    lab.say("suppress probe");
    lab.machine.call_from(&["probe"]);
    lab.block(36);
    lab.machine.call_from(&["open"]);
    (0..2).for_each(|_| _ = lab.block(8));
    lab.detector.free(0x1000);
    lab.say("scan");
    lab.machine.advance_us(2_500_000);
    let words = {
        let check = lab.status("last check");
        let (before, _) = check.split_once(" words").expect("it is told");
        before.rsplit_once(' ').expect("more").1.to_owned()
    };
    let metadata = lab.detector.metadata();
    let expected = format!(
        "\
state        enabled
objects      4 (116 bytes)
metadata     {} bytes, of which 2 call stacks take {}
unrecorded   0 (ever: 0)
missed frees 0
warnings     1
suppressions 1, hiding 1 object (36 bytes)
last check   2 s ago, took 0 us, world stopped for 0 us, {words} words, 2 unreferenced objects
marker       1 candidate, 1 hit, 0 misses, on 2 cpus
next scan    in 57 s
",
        metadata.bytes, metadata.call_stacks
    );
    assert_eq!(lab.say("status"), expected);
    lab.machine.set_stop(Stop::Unsupported);
    lab.say("scan");
    assert!(
        lab.status("last check")
            .starts_with("0 s ago, took 0 us, world running, ")
    );
    lab.say("scan=off");
    assert_eq!(lab.status("next scan"), "none");
    lab.say("clear");
    assert_eq!(lab.status("last check"), "none");
    lab.detector.exhaust_metadata(true);
    lab.block(8);
    assert_eq!(lab.status("state"), "enabled, incomplete");
    assert_eq!(lab.status("unrecorded"), "1 (ever: 1)");
    lab.say("off");
    assert_eq!(lab.status("state"), "disabled, incomplete");
    lab.detector.exhaust_metadata(false);
    lab.machine.set_stop(Stop::Works);
    lab.say("clear");
    assert_eq!(lab.status("objects"), "0 (0 bytes)");
    assert_eq!(
        lab.status("metadata"),
        "0 bytes, of which 0 call stacks take 0"
    );
    assert_eq!(lab.status("suppressions"), "0, hiding 0 objects (0 bytes)");
    assert_eq!(lab.machine.metadata_pages(), 0);
}

#[test]
fn what_allocates_while_a_report_is_written_is_no_harm() {
    // A writer that allocates and frees in the kernel that is tracked, with each piece of text.
    struct Busy<'a>(&'a Lab, Vec<usize>);
    impl std::fmt::Write for Busy<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.1.push(self.0.block(32));
            if self.1.len() > 3 {
                self.0.free(self.1.remove(0));
            }
            Ok(())
        }
    }
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let blocks: Vec<usize> = (0..10).map(|_| lab.block(64)).collect();
    lab.hold(0, blocks[0] + 8);
    lab.machine.write(blocks[1], blocks[2]);
    lab.say("suppress open");
    let address = format!("{:#x}", blocks[2]);
    let mut busy = Busy(&lab, Vec::new());
    let mut run = |line: &str| {
        let done = lab.detector.command(line, &mut busy);
        assert!(!matches!(done, Err(CommandError::Write(_))), "{line}");
    };
    for command in ["scan", "report", "new", "sites", "interior", "suppress"] {
        for format in ["", " --json"] {
            run(&format!("{command}{format}"));
        }
    }
    for command in ["holders", "path", "dump"] {
        run(&format!("{command} {address}"));
    }
    for command in ["mark", "status", "selftest", "clear", "help", "off"] {
        run(command);
    }
    assert_eq!(lab.warnings(), "");
}
