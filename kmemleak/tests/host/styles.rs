//! Colours of text: only where they are wanted, never in JSON, and none that comes from a name.

use kmemleak_emulated::Place;

use crate::lab::Lab;

const ESCAPE: char = '\u{1b}';

/// Text without its colours.
fn bare(text: &str) -> String {
    let mut parts = text.split(ESCAPE);
    let mut bare: String = parts.next().unwrap_or_default().into();
    for part in parts {
        let (code, rest) = part.split_once('m').expect("a whole sequence");
        let digits = code.strip_prefix('[').expect("its beginning");
        assert!(digits.parse::<u8>().is_ok(), "{code}");
        bare += rest;
    }
    bare
}

/// A machine with leaks, and with an object that interior pointers and many words hold.
fn lab() -> (Lab, Vec<String>) {
    let lab = Lab::new();
    lab.machine.call_from(&[
        "net::\u{1b}[31mopen\u{9b} (net\u{1b}/mod.rs:7)\nnet::run+0x1/0x2 (net.rs:1)",
    ]);
    (0..2).for_each(|_| _ = lab.block(64));
    let held = lab.block(2048);
    for index in 0..20 {
        let holder = lab.block(16);
        lab.machine.write(holder, held + 8);
        lab.hold(index, holder);
    }
    lab.machine.store(Place::Stack(0), lab.block(64));
    // Blocks that were not recorded: the verdict is in doubt.
    lab.machine
        .set_metadata_budget(lab.machine.metadata_pages());
    while lab.machine.metadata_refused() == 0 {
        lab.block(4096);
    }
    lab.machine.set_metadata_budget(usize::MAX);
    let commands = [
        "scan",
        "report --all",
        "report --full",
        "new",
        "show #1",
        "sites",
        "sites --full",
        "objects",
        "interior",
        "interior --full",
        "stack-only",
        "stack-only --full",
    ];
    let mut commands = commands.map(str::to_owned).to_vec();
    for command in ["holders", "holders --full", "path", "why", "dump"] {
        let (word, option) = command.split_once(' ').unwrap_or((command, ""));
        commands.push(format!("{word} {held:x} {option}").trim().to_owned());
    }
    (lab, commands)
}

#[test]
fn text_is_plain_unless_colours_are_wanted() {
    let (lab, commands) = lab();
    for command in &commands {
        let plain = lab.say(command);
        assert!(!plain.contains(ESCAPE), "{command}: {plain}");
        let coloured = lab.say(&format!("{command} --color always"));
        assert!(coloured.contains(ESCAPE), "{command}: {coloured}");
        // What takes time and the handles aside, it is the same text.
        assert_eq!(
            bare(&coloured).lines().count(),
            plain.lines().count(),
            "{command}"
        );
        for line in coloured.lines() {
            // No colour runs on into the next line.
            let last = line.rsplit(ESCAPE).next().unwrap_or_default();
            assert!(
                !line.contains(ESCAPE) || last.starts_with("[0m"),
                "{line:?}"
            );
        }
        // Not any more with the next command.
        assert!(!lab.say(command).contains(ESCAPE), "{command}");
    }
}

#[test]
fn a_setting_turns_them_on_and_a_command_off() {
    let (lab, commands) = lab();
    lab.detector
        .boot_parameter("kmemleak.color=on")
        .expect("known");
    for command in &commands {
        assert!(lab.say(command).contains(ESCAPE), "{command}");
        let never = lab.say(&format!("{command} --color never"));
        assert!(!never.contains(ESCAPE), "{command}: {never}");
        if !command.contains("--full") && !command.starts_with("show") {
            let json = lab.say(&format!("{command} --json --color always"));
            assert!(!json.contains(ESCAPE), "{command}: {json}");
        }
    }
    assert!(lab.report().contains(ESCAPE));
    // The line for machines is as it always is.
    let sum = lab.report().lines().last().expect("one").to_owned();
    assert!(
        sum.starts_with("kmemleak: 0 unreferenced objects (0 bytes), "),
        "{sum}"
    );
    // Doubts stand out.
    assert!(lab.report().contains("\u{1b}[31mkmemleak: "));
    lab.detector
        .boot_parameter("kmemleak.color=off")
        .expect("known");
    assert!(!lab.report().contains(ESCAPE));
}

#[test]
fn a_wrong_colour_is_refused() {
    let lab = Lab::new();
    assert_eq!(
        lab.say("scan --color auto"),
        "kmemleak: scan --color: invalid value `auto`: expected always or never\n"
    );
}
