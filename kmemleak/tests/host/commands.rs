//! The control words, and those that are none.

use kmemleak::CommandError;

use crate::lab::{Lab, try_to};

#[test]
fn scan_checks_and_reports() {
    let lab = Lab::new();
    let block = lab.block(64);
    let answer = lab.say("scan --full");
    assert!(answer.starts_with(&format!(
        "unreferenced object {block:#018x} (size 64), #2:\n"
    )));
    assert!(answer.ends_with("kmemleak: 1 unreferenced object (64 bytes)\n"));
    assert_eq!(lab.report(), answer);
    let table = lab.say("scan");
    assert!(
        table.ends_with("\nkmemleak: 1 unreferenced object (64 bytes)\nnext: kmemleak show #1\n")
    );
}

#[test]
fn report_is_the_last_checks() {
    let lab = Lab::new();
    assert_eq!(
        lab.say("report"),
        "kmemleak: no check so far, or none since the last clear\n"
    );
    lab.block(64);
    let answer = lab.say("scan");
    lab.block(32);
    assert_eq!(lab.say("report"), answer);
}

#[test]
fn status_tells_figures() {
    let lab = Lab::new();
    lab.hold(0, lab.block(64));
    lab.block(36);
    assert_eq!(lab.status("state"), "enabled");
    assert_eq!(lab.status("objects"), "2 (100 bytes)");
    assert_eq!(lab.status("last check"), "none");
    lab.leaks();
    assert!(lab.status("last check").contains("world stopped"));
    assert!(lab.status("last check").ends_with(" 1 unreferenced object"));
}

#[test]
fn dump_shows_an_object_by_any_of_its_addresses() {
    let lab = Lab::new();
    lab.machine.call_from(&["allocating_function"]);
    let block = lab.block(64);
    for address in [format!("{block:#x}"), format!("{:x}", block + 63)] {
        let answer = lab.say(&format!("dump={address}"));
        assert!(answer.contains(&format!("{block:#018x}")) && answer.contains("size 64"));
        assert!(answer.contains("allocating_function"));
    }
}

#[test]
fn dump_of_what_is_no_object_says_so() {
    let lab = Lab::new();
    let block = lab.block(64);
    assert!(
        lab.say(&format!("dump={:#x}", block + 64))
            .contains("no object at")
    );
    assert!(lab.say("dump=nonsense").contains("expected an address"));
}

#[test]
fn stack_off_and_on() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.store(kmemleak_emulated::Place::Stack(0), block);
    assert_eq!(lab.leaks(), []);
    lab.say("stack=off");
    assert_eq!(lab.leaks(), [block]);
    lab.say("stack=on");
    assert_eq!(lab.leaks(), []);
}

#[test]
fn scan_seconds_off_and_on() {
    let lab = Lab::new();
    assert_eq!(lab.status("next scan"), "in 60 s");
    lab.say("scan=5");
    assert_eq!(lab.status("next scan"), "in 5 s");
    lab.say("scan=off");
    assert_eq!(lab.status("next scan"), "none");
    lab.say("scan=on");
    assert_eq!(lab.status("next scan"), "in 5 s");
    lab.say("scan=0");
    assert_eq!(lab.status("next scan"), "none");
    assert!(lab.say("scan=soon").contains("soon"));
}

#[test]
fn blanks_around_and_a_blank_for_the_sign() {
    let lab = Lab::new();
    assert_eq!(lab.say("  stack off\n"), lab.say("stack=off"));
}

#[test]
fn no_word_lists_all() {
    let list = Lab::new().say("");
    for word in [
        "scan",
        "report",
        "status",
        "clear",
        "dump ADDR",
        "stack=on|off",
        "off",
    ] {
        let listed = list.lines().any(|line| line.trim().starts_with(word));
        assert!(listed, "{word} is not in {list}");
    }
}

#[test]
fn an_unknown_word_gets_the_nearest() {
    let answer = Lab::new().say("scam");
    assert_eq!(
        answer,
        "kmemleak: unknown command `scam`; did you mean `scan`?\n"
    );
}

#[test]
fn a_word_like_none_is_told_where_the_list_is() {
    let lab = Lab::new();
    for word in [
        "xyzzyplugh",
        "ünïcödé-größer-als-alles-andere",
        "=",
        "\u{0}",
    ] {
        let answer = lab.say(word);
        assert!(
            answer.ends_with("`; `help` lists all\n"),
            "{word}: {answer}"
        );
    }
}

#[test]
fn a_writer_that_fails_is_no_harm() {
    struct Full;
    impl std::fmt::Write for Full {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            Err(std::fmt::Error)
        }
    }
    let lab = Lab::new();
    let block = lab.block(64);
    for word in ["", "scan", "report", "status", "clear", "nonsense"] {
        let written = lab.detector.command(word, &mut Full);
        assert_eq!(written, Err(CommandError::Write(std::fmt::Error)), "{word}");
    }
    lab.detector.drain_warnings(&mut Full);
    lab.free(block);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn boot_parameters() {
    let lab = Lab::new();
    let say = |word: &str| lab.detector.boot_parameter(word);
    assert_eq!(say("kmemleak=on"), Ok(()));
    assert_eq!(say("kmemleak.scan=7"), Ok(()));
    assert_eq!(lab.status("next scan"), "in 7 s");
    assert_eq!(say("kmemleak.verbose=on"), Ok(()));
    assert_eq!(
        say("kmemleak.scan=often"),
        Err(kmemleak::ParameterError::Value)
    );
    assert_eq!(
        say("kmemleak.frobnicate=1"),
        Err(kmemleak::ParameterError::Unknown)
    );
    assert_eq!(say("kmemleak.color"), Ok(()));
    assert_eq!(say("kmemleak.color=off"), Ok(()));
    assert_eq!(
        say("kmemleak.color=auto"),
        Err(kmemleak::ParameterError::Value)
    );
    assert!(lab.detector.is_on());
    assert_eq!(say("kmemleak=off"), Ok(()));
    assert!(!lab.detector.is_on());
}

/// Whoever runs lines without reading the answers is to know that one was not obeyed, whatever is wrong with it.
#[test]
fn a_line_whose_argument_is_none_is_not_understood() {
    let lab = Lab::new();
    for line in [
        "",
        "help",
        "scan",
        "scan --json",
        "scan=on",
        "scan off",
        "scan=0",
        "scan 60",
        "stack=off",
        "sites",
        "sites 3",
        "sites --json 3",
        "sites --by bytes 3",
        "sites --by=growth --json",
        "dump 10",
        "path=0xffff800000000000",
        "suppress",
        "suppress a b",
        "suppress a:max=3",
        "unsuppress a:max=many",
        "unsuppress x",
    ] {
        let (done, answer) = try_to(&lab.detector, line);
        assert_ne!(done, Err(CommandError::NotUnderstood), "{line}: {answer}");
    }
    for line in [
        "frobnicate",
        "scan=fast",
        "scan=",
        "scan=-1",
        "scan=18446744073709551616",
        "stack",
        "stack=maybe",
        "sites many",
        "sites -1",
        "sites 3 4",
        "sites --by",
        "sites --by size",
        "report --by bytes",
        "dump",
        "dump here",
        "holders 0x",
        "path 11112222333344445",
        "suppress=",
        "suppress :max=3",
        "suppress a:max=many",
        "unsuppress",
        "status --all",
        "report --all=1",
    ] {
        let (done, answer) = try_to(&lab.detector, line);
        assert_eq!(done, Err(CommandError::NotUnderstood), "{line}");
        // And who reads it is told.
        assert!(
            answer.starts_with("kmemleak: ") || answer.contains(r#""kind":"error""#),
            "{answer}"
        );
    }
}

/// Whoever runs lines without reading the answers is to know that one had none.
#[test]
fn a_command_without_an_answer_is_not_done() {
    let lab = Lab::new();
    let refused = |line: &str| {
        let (done, answer) = try_to(&lab.detector, line);
        assert_eq!(done, Err(CommandError::NotDone), "{line}: {answer}");
        assert_ne!(answer, "", "{line}");
    };
    // No check so far.
    for line in ["report", "report --json", "interior", "interior --json"] {
        refused(line);
    }
    let (held, lost) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    assert_eq!(
        try_to(&lab.detector, "scan").0,
        Ok(()),
        "a leak is no failure"
    );
    let answered = [
        "report --json".into(),
        "status".into(),
        "interior".into(),
        "new".into(),
        format!("dump {held:x}"),
        format!("path {held:x}"),
        format!("holders {lost:x}"),
        "why 10".into(),
        "mark".into(),
        "sites --by growth".into(),
        "suppress a".into(),
        "unsuppress a".into(),
        "selftest".into(),
        "help".into(),
        String::new(),
    ];
    for line in answered {
        let (done, answer) = try_to(&lab.detector, &line);
        assert_eq!(done, Ok(()), "{line}: {answer}");
    }
    refused("dump 10");
    for question in ["holders", "path"] {
        refused(&format!("{question} 10"));
        refused(&format!("{question} --json 10"));
    }
    refused(&format!("path {lost:x}"));
    refused("site 12345678");
    refused("unsuppress never-there");
    assert_eq!(try_to(&lab.detector, "off").0, Ok(()));
    for line in ["off", "scan", "new", "mark", "sites", "why 10", "selftest"] {
        refused(line);
    }
    assert_eq!(try_to(&lab.detector, "report").0, Ok(()));
    assert_eq!(try_to(&lab.detector, "clear").0, Ok(()));
}
