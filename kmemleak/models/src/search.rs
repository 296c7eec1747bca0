//! Runs of models.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::atomic;

/// A model: makes what is shared, spawns threads, and asserts what must hold.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it is about.
    pub name: &'static str,
    /// How often a thread is interrupted by another, at most, in one execution.
    pub preemptions: usize,
    /// What each execution runs.
    pub run: fn(),
}

impl Model {
    /// Searches all executions within the model's bound, and tells what went wrong in the first that fails.
    pub fn search(&self) -> Result<(), String> {
        be_quiet();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        builder.max_branches = 20_000;
        let run = self.run;
        let search = AssertUnwindSafe(|| {
            builder.check(move || {
                atomic::forget_pages();
                run();
            });
        });
        atomic::set_searching(true);
        let result = panic::catch_unwind(search);
        atomic::set_searching(false);
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            text.unwrap_or_else(|| "it panicked".to_string())
        })
    }
}

/// Failures of models are expected, and the search reports them: nothing is printed where they happen.
fn be_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !atomic::is_searching() {
                print(info);
            }
        }));
    });
}
