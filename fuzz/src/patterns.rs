//! Patterns of suppressions, held against a matcher that tries everything.

use kmemleak::{AllocOptions, Detector};
use kmemleak_emulated::{Emulated, Machine};

/// The first line of the input is a pattern, the second one the name of the function that lost a block.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    // A name of more than one line is several functions.
    if name.is_empty() || name.contains('\n') || pattern.len() + name.len() > 400 {
        return;
    }
    let machine = Machine::builder().build();
    let detector = Detector::new(Emulated::of(&machine));
    if detector.suppress(pattern).is_err() {
        return;
    }
    machine.call_from(&[name]);
    let start = machine.slab(64);
    detector.alloc(start, 64, AllocOptions::new());
    let found = detector.check().expect("it is on");
    let is_hidden = found.objects == 0;
    let expected = matches_name(pattern.as_bytes(), name.as_bytes());
    assert_eq!(is_hidden, expected, "{pattern:?} on {name:?}");
}

/// A name matches as a whole, or from behind one of its `::`.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let begins = |at: &usize| *at == 0 || name[..*at].ends_with(b"::");
    (0..=name.len())
        .filter(begins)
        .any(|at| matches(pattern, &name[at..]))
}

/// Whether the pattern matches all of the text: for each of its prefixes, which prefixes of the text it matches.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut so_far = vec![false; text.len() + 1];
    so_far[0] = true;
    for &byte in pattern {
        let mut next = vec![false; text.len() + 1];
        for (end, fits) in next.iter_mut().enumerate() {
            *fits = match byte {
                b'*' => so_far[..=end].contains(&true),
                _ => end > 0 && text[end - 1] == byte && so_far[end - 1],
            };
        }
        so_far = next;
    }
    so_far[text.len()]
}
