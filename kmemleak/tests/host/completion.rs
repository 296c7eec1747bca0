//! What can be typed next, and the help on one command.

use kmemleak::CommandError;

use crate::lab::Lab;

/// The words that can stand at the end of the line, which begin as its last word does; each once, in order.
fn offered(lab: &Lab, line: &str) -> Vec<String> {
    let last = line.rsplit(' ').next().unwrap_or_default();
    let mut words = Vec::new();
    lab.detector.complete(line, &mut |word| {
        if word.starts_with(last) {
            words.push(word.to_owned());
        }
    });
    words.sort();
    words.dedup();
    words
}

#[test]
fn names_are_completed() {
    let lab = Lab::new();
    let begin_alike = [
        "stack-only",
        "stack=off",
        "stack=on",
        "stacks=off",
        "stacks=on",
        "status",
    ];
    assert_eq!(offered(&lab, "sta"), begin_alike);
    assert_eq!(offered(&lab, "sc"), ["scan", "scan=off", "scan=on"]);
    assert_eq!(
        offered(&lab, "help sta"),
        ["stack", "stack-only", "stacks", "status"]
    );
    assert_eq!(offered(&lab, "stack o"), ["off", "on"]);
    assert_eq!(offered(&lab, "stacks s"), ["sample:524288"]);
    assert!(offered(&lab, "x").is_empty());
    assert!(offered(&lab, "frobnicate --").is_empty());
}

#[test]
fn options_are_completed_that_the_command_takes_and_were_not_given() {
    let lab = Lab::new();
    assert_eq!(offered(&lab, "sites --by gr"), ["growth"]);
    assert_eq!(offered(&lab, "sites --by=c"), ["--by=count"]);
    assert!(offered(&lab, "report --").contains(&"--all".to_owned()));
    assert!(!offered(&lab, "report --all --").contains(&"--all".to_owned()));
    assert!(!offered(&lab, "sites --by=count --").contains(&"--by".to_owned()));
    assert!(offered(&lab, "help --").is_empty());
    assert!(offered(&lab, "objects --top ").is_empty(), "a number");
}

#[test]
fn addresses_and_handles_of_the_last_verdict_are_completed() {
    let lab = Lab::new();
    assert!(offered(&lab, "why 0x").is_empty());
    let block = lab.block(64);
    assert!(offered(&lab, "why 0x").is_empty(), "not checked yet");
    lab.say("scan");
    for word in ["dump", "holders", "path", "why"] {
        assert_eq!(
            offered(&lab, &format!("{word} 0x")),
            [format!("{block:#018x}")]
        );
    }
    assert_eq!(offered(&lab, "why #"), ["#1"]);
    assert_eq!(offered(&lab, "show #"), ["#1"]);
    assert_eq!(offered(&lab, "suppress #"), ["#1"]);
    assert!(offered(&lab, "mark 0x").is_empty());
    // Nor behind the address.
    assert!(offered(&lab, "why 10 0x").is_empty());
}

#[test]
fn suppressions_are_completed() {
    let lab = Lab::new();
    lab.say("suppress one::function");
    assert_eq!(offered(&lab, "unsuppress o"), ["one::function"]);
}

#[test]
fn each_command_has_help_with_an_example_that_is_understood() {
    for name in offered(&Lab::new(), "help ") {
        let help = Lab::new().say(&format!("help {name}"));
        assert!(help.starts_with(&format!("  {name}")), "{help}");
        let examples = help
            .lines()
            .filter_map(|line| line.strip_prefix("  for example: kmemleak "));
        let examples: Vec<_> = examples.collect();
        assert!(!examples.is_empty(), "{help}");
        for example in examples {
            let done = Lab::new().detector.command(example, &mut String::new());
            assert_ne!(done, Err(CommandError::NotUnderstood), "{example}");
        }
    }
}

#[test]
fn help_of_a_command_says_what_its_options_do() {
    let help = Lab::new().say("help scan");
    assert!(help.contains("\n  scan=SECS "), "{help}");
    assert!(
        help.contains("\n    --all: all leaks, not only leaders; all counts, not only those that are certainly wrong\n"),
        "{help}"
    );
    assert!(!help.contains("--task"), "{help}");
    assert_eq!(
        Lab::new().say("help stack=on"),
        Lab::new().say("help stack")
    );
    let lab = Lab::new();
    let wrong = lab.say("help scam");
    assert!(
        wrong.starts_with("kmemleak: unknown command `scam`; did you mean `scan`?\n"),
        "{wrong}"
    );
    let done = lab.detector.command("help scam", &mut String::new());
    assert_eq!(done, Err(CommandError::NotUnderstood));
}
