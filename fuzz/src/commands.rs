//! Command lines and boot parameters: whatever comes is answered in the format that was asked for, and loses nothing.
//!
//! A line of the input that begins with `boot ` gives boot parameters, any other is a command.

use kmemleak::{AllocOptions, CommandError, Detector};
use kmemleak_emulated::{Emulated, Machine, Place};
use serde_json::Value;

/// Blocks of the machine: the first is held, holds the second, and the rest is lost.
const BLOCKS: usize = 6;

/// Commands after which other blocks may be known, or none.
const CHANGE_WHAT_IS_KNOWN: [&str; 2] = ["off", "clear"];

/// Takes the lines of the input one after another.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let machine = Machine::builder().build();
    let detector = Detector::new(Emulated::of(&machine));
    let blocks: [usize; BLOCKS] = std::array::from_fn(|index| {
        machine.call_from(&[["probe", "driver::<T>::open"][index % 2], "caller"]);
        let start = machine.slab(64);
        machine.advance_us(1);
        detector.alloc(start, 64, AllocOptions::new());
        start
    });
    machine.store(Place::Bss(0), blocks[0]);
    machine.write(blocks[0], blocks[1]);
    let mut is_known = true;
    for line in text.lines() {
        match line.strip_prefix("boot ") {
            Some(words) => give(&detector, words),
            None => ask(&detector, line),
        }
        let word = line.split_whitespace().next().unwrap_or_default();
        is_known &= !CHANGE_WHAT_IS_KNOWN.contains(&word) && !line.starts_with("boot ");
        if is_known {
            assert_eq!(detector.tracking().objects, BLOCKS, "after {line:?}");
        }
    }
    if is_known {
        detector.unsuppress_all().expect("nobody else asks");
        let found = detector.check().expect("it is on");
        assert_eq!(found.objects, BLOCKS - 2, "after {text:?}");
    }
}

fn give(detector: &Detector<Emulated>, words: &str) {
    for word in words.split_ascii_whitespace() {
        if let Err(error) = detector.boot_parameter(word) {
            assert!(!error.to_string().is_empty(), "{word:?}");
        }
    }
}

fn ask(detector: &Detector<Emulated>, line: &str) {
    let mut answer = String::new();
    let done = detector.command(line, &mut answer);
    assert!(!matches!(done, Err(CommandError::Write(_))), "{line:?}");
    assert!(
        done.is_ok() || !answer.is_empty(),
        "no word of why {line:?} failed"
    );
    let is_json = answer.starts_with('{');
    for said in answer.lines() {
        if is_json {
            let value: Result<Value, _> = serde_json::from_str(said);
            assert!(
                value.is_ok_and(|value| value.is_object()),
                "{line:?}: {said}"
            );
        }
        let is_text = |c: char| !c.is_control() || c == '\x1b';
        assert!(said.chars().all(is_text), "{line:?}: {said:?}");
    }
}
