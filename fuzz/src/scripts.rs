//! Leak scripts: any text is refused with its line, or runs to its end.

use leak_script::host::{self, Outcome};
use leak_script::{Checks, Reason, Script};

/// Runs the input as a script. What it expects need not hold.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let parsed = Script::parse(text);
    if let Err(failure) = &parsed {
        assert!(
            (1..=text.lines().count().max(1)).contains(&failure.line),
            "{failure:?}"
        );
        assert!(matches!(failure.reason, Reason::Syntax(_)), "{failure:?}");
    }
    let outcome = host::run_with(text, 4, Checks::Stopped);
    if parsed.is_err() {
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
}
