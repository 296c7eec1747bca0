use alloc::string::String;

use super::*;
use crate::statement::{Counting, Place, Slot, Switch, Target, Word};

fn one(line: &str) -> Statement<'_> {
    let script = Script::parse(line).unwrap();
    assert_eq!(script.lines.len(), 1);
    script.lines.into_iter().next().unwrap().statement
}

fn refused(line: &str) -> String {
    Script::parse(line).unwrap_err().reason_text()
}

impl Failure {
    fn reason_text(self) -> String {
        match self.reason {
            Reason::Syntax(text) => text,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn comments_and_blank_lines_say_nothing() {
    assert!(
        Script::parse("# a comment\n\n  \n")
            .unwrap()
            .lines
            .is_empty()
    );
    assert_eq!(one("check # now"), Statement::Check);
}

#[test]
fn alloc_has_defaults_and_options() {
    let plain = Statement::Alloc {
        name: "A",
        size: 64,
        align: 8,
        min_count: 1,
        from: Allocator::Slab,
        site: "A",
        block_type: None,
        counted: Counting::None,
    };
    assert_eq!(one("alloc A 0x40"), plain);
    let full = Statement::Alloc {
        name: "A",
        size: 4096,
        align: 64,
        min_count: -1,
        from: Allocator::Pages,
        site: "probe",
        block_type: Some("kernel::Node<u8>"),
        counted: Counting::None,
    };
    let Statement::Alloc { counted, .. } = one("alloc A 24 counted") else {
        panic!("it is one");
    };
    assert_eq!(counted, Counting::Arc);
    let text = "alloc A 4096 align=64 min_count=-1 from=pages site=probe type=kernel::Node<u8>";
    assert_eq!(one(text), full);
}

#[test]
fn slots_of_all_kinds() {
    let slot = |text: &'static str| match one(text) {
        Statement::Erase(slot) => slot,
        other => panic!("{other:?}"),
    };
    assert_eq!(slot("erase data 3"), Slot::Place(Place::Data(3)));
    assert_eq!(slot("erase percpu 1 5"), Slot::Place(Place::PerCpu(1, 5)));
    assert_eq!(slot("erase region 3 63"), Slot::Place(Place::Region(3, 63)));
    let word = |cpu, offset| {
        Slot::Word(Word {
            name: "A",
            cpu,
            offset,
        })
    };
    assert_eq!(slot("erase A"), word(None, 0));
    assert_eq!(slot("erase A+0x10"), word(None, 16));
    assert_eq!(slot("erase A[1]+8"), word(Some(1), 8));
}

#[test]
fn targets_of_all_kinds() {
    let target = |text: &'static str| match one(text) {
        Statement::Store(_, target) => target,
        other => panic!("{other:?}"),
    };
    assert_eq!(target("bss 0 = A"), Target::At("A", 0));
    assert_eq!(target("bss 0 = A+7"), Target::At("A", 7));
    assert_eq!(target("bss 0 = A.tail-8"), Target::At("A.tail", -8));
    assert_eq!(target("bss 0 = end A"), Target::End("A"));
    assert_eq!(target("bss 0 = hidden A"), Target::Hidden("A"));
    assert_eq!(target("bss 0 = 0xff"), Target::Number(255));
}

#[test]
fn stack_is_a_slot_and_a_switch() {
    let store = Statement::Store(Slot::Place(Place::Stack(0)), Target::Number(1));
    assert_eq!(one("stack 0 = 1"), store);
    assert_eq!(one("stack off"), Statement::Stack(Switch::Off));
    let named = Target::At("scan", 0);
    let word = Word {
        name: "check",
        cpu: None,
        offset: 0,
    };
    assert_eq!(
        one("check = scan"),
        Statement::Store(Slot::Word(word), named)
    );
    let warning = Expectation::Warning("a = b");
    assert_eq!(one("expect warning a = b"), Statement::Expect(warning));
}

#[test]
fn tasks_that_wait() {
    let word = Word {
        name: "Q",
        cpu: None,
        offset: 8,
    };
    let (slot, object) = (Slot::Word(word), Waiter::Object("T"));
    let blocked = Statement::Blocked(Waiter::Parked, slot);
    assert_eq!(one("blocked on Q+8"), blocked);
    assert_eq!(one("blocked T on Q+8"), Statement::Blocked(object, slot));
    let bss = Slot::Place(Place::Bss(3));
    assert_eq!(
        one("blocked on bss 3"),
        Statement::Blocked(Waiter::Parked, bss)
    );
    let joins = |task, other| Statement::Joins(task, other);
    assert_eq!(one("blocked on end T"), joins(Waiter::Parked, object));
    assert_eq!(
        one("blocked T on end parked"),
        joins(object, Waiter::Parked)
    );
    assert_eq!(one("woken"), Statement::Woken(Waiter::Parked));
    assert_eq!(one("woken T"), Statement::Woken(object));
    assert_eq!(one("task_list T"), Statement::TaskList("T"));
    let expected = |text| match one(text) {
        Statement::Expect(expectation) => expectation,
        other => panic!("{other:?}"),
    };
    assert_eq!(expected("expect lost none"), Expectation::Lost(Vec::new()));
    let both = Vec::from([Waiter::Parked, object]);
    assert_eq!(expected("expect lost parked T"), Expectation::Lost(both));
    let retains = Expectation::Retains(object, 64, 2);
    assert_eq!(expected("expect retains T 64 2"), retains);
    for wrong in [
        "blocked",
        "blocked T",
        "blocked T at Q",
        "blocked parked on Q",
        "blocked on",
        "blocked on end",
        "blocked on Q+4",
        "woken T T",
        "task_list",
        "expect lost",
        "expect lost none T",
        "expect retains T 64",
    ] {
        assert!(Script::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn expectations_with_lists() {
    let holders = Expectation::Holders(
        "B",
        Vec::from([
            Slot::Place(Place::Data(1)),
            Slot::Word(Word {
                name: "A",
                cpu: None,
                offset: 16,
            }),
        ]),
    );
    assert_eq!(
        one("expect holders B data 1 A+16"),
        Statement::Expect(holders)
    );
    let none = Expectation::Leaks(Vec::new());
    assert_eq!(one("expect leaks none"), Statement::Expect(none));
    let counts = Expectation::Counts(Vec::from([("A", 2), ("B", -1)]));
    assert_eq!(one("expect counts A+2 B-1"), Statement::Expect(counts));
    assert_eq!(one("strong A -1"), Statement::Strong("A", -1));
    let growth = Expectation::Growth("push", -256, -2);
    assert_eq!(one("expect growth push -256 -2"), Statement::Expect(growth));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let failure = Script::parse("check\n\nchek").unwrap_err();
    assert_eq!(failure.line, 3);
    assert_eq!(failure.reason_text(), "\"chek\" is no statement");
    assert_eq!(refused("alloc end 8"), "\"end\" is no name");
    assert_eq!(refused("alloc A 0"), "a size of 0");
    assert_eq!(
        refused("alloc A 9000"),
        "9000 bytes are not a block of a slab"
    );
    assert_eq!(refused("free"), "a name is missing");
    assert_eq!(refused("free A B"), "\"B\" is one word too many");
    assert_eq!(refused("A+4 = 0"), "offset 4 is not a multiple of 8");
    assert_eq!(refused("data 64 = 0"), "word 64 is not below 64");
    assert_eq!(refused("reg 4 = 0"), "register 4 is not below 4");
    assert_eq!(refused("page 4 = 0"), "page frame 4 is not below 4");
    assert_eq!(refused("percpu 2 0 = 0"), "there is no cpu 2");
    assert_eq!(refused("expect leaks"), "a name is missing");
    let counted = "a counted block has 24 bytes or more, no other type, and one copy";
    for line in [
        "alloc A 16 counted",
        "alloc A 32 counted type=B",
        "alloc A 32 from=percpu counted",
    ] {
        assert_eq!(refused(line), counted);
    }
    assert_eq!(refused("expect counts A"), "\"A\" is no NAME+N or NAME-N");
    assert_eq!(refused("bss 0 = -1"), "\"\" is no name");
}

#[test]
fn the_head_says_where_it_runs_and_the_body_on_how_many_cpus() {
    let script = Script::parse("# a test\n# only: qemu\npercpu 1 0 = 1").unwrap();
    assert_eq!((script.only, script.cpus), (Some(Only::Qemu), 2));
    assert_eq!(Script::parse("check\n# only: host").unwrap().only, None);
    let only = |text| Script::parse(text).unwrap().only;
    assert_eq!(only("#Only:host"), Some(Only::Host));
    assert_eq!(only("# Only what is lost: host"), None);
    assert_eq!(only("check\n# only: nowhere"), None);
}

#[test]
fn a_head_that_names_no_place_is_wrong() {
    for place in ["", "nowhere", "host and qemu", "Host"] {
        let text = format!("# a test\n\n#  ONLY: {place}\nchek");
        let failure = Script::parse(&text).unwrap_err();
        assert_eq!(failure.line, 3);
        assert_eq!(failure.reason_text(), "only: takes host or qemu");
    }
}

#[test]
fn a_mark_of_the_byte_order_says_nothing() {
    assert_eq!(one("\u{feff}check"), Statement::Check);
    let script = Script::parse("\u{feff}# only: host").unwrap();
    assert_eq!(script.only, Some(Only::Host));
}
