//! All inputs of `corpus/`, each of which a fuzzer found worth keeping: because it reaches code that others do not, or because it
//! failed once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kmemleak::Detector;
use kmemleak_emulated::{Emulated, Machine};

/// Feeds all inputs of a target.
fn feed(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("each target has inputs") {
        let path = entry.expect("it can be read").path();
        // The last one that is shown has failed.
        println!("{}", path.display());
        run(&fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

macro_rules! targets {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            feed(stringify!($target), kmemleak_fuzz::$target::run);
        }
    )*};
}

/// The words that the inputs of `commands` have, in lines that begin so.
fn words_of(lines: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/commands");
    let inputs = fs::read_dir(folder).expect("there are inputs");
    let texts = inputs.map(|entry| fs::read(entry.expect("it can be read").path()));
    let texts: Vec<_> = texts
        .map(|text| String::from_utf8_lossy(&text.expect("it can be read")).into_owned())
        .collect();
    let lines = texts
        .iter()
        .flat_map(|text| text.lines().filter_map(|line| line.strip_prefix(lines)));
    lines
        .flat_map(|line| line.split([' ', '=']).map(str::to_owned))
        .collect()
}

#[test]
fn each_command_and_each_boot_parameter_is_among_the_inputs() {
    let detector = Detector::new(Emulated::of(&Machine::new()));
    let mut help = String::new();
    detector.command("help", &mut help).expect("it has help");
    let commands = help.lines().filter_map(|line| {
        let word = line.strip_prefix("  ")?.split([' ', '=']).next()?;
        (!word.is_empty() && !word.starts_with('-')).then_some(word)
    });
    let error = detector
        .boot_parameter("no.such=1")
        .expect_err("it is none");
    let error = error.to_string();
    let listed = error.split([' ', ',']);
    let parameters = listed.filter_map(|word| {
        word.starts_with("kmemleak")
            .then(|| word.split('=').next())?
    });
    for (all, given) in [
        (commands.collect::<Vec<_>>(), words_of("")),
        (parameters.collect(), words_of("boot ")),
    ] {
        assert!(all.len() > 7, "{all:?}");
        for word in all {
            assert!(given.contains(word), "no input has {word}");
        }
    }
}

targets!(callbacks commands editor images loading logs patterns scripts);
