//! A detector for the next script.

use kmemleak::{Detector, Platform};

use crate::detector::Subject;
use crate::machine::Machine;
use crate::parse::Script;
use crate::statement::{Place, Scope, Statement, Switch};

/// Undoes what a script may have left in the detector, however far it came: settings, suppressions, the mark, open
/// scopes, regions, the verdict and warnings. Its blocks have been freed before, and the detector gets memory. What
/// is off stays off.
///
/// For each statement that leaves something, one that takes it back is done. If the script has taken it back itself, that
/// is once too often, and the detector warns; so the warnings are dropped last.
pub fn reset<P: Platform>(script: &Script<'_>, machine: &dyn Machine, detector: &Detector<P>) {
    // This sets the minimum age, too.
    let subject = Subject::new(detector);
    // A detector that can't do a statement has nothing of it left.
    let _ = subject.metadata(Switch::On);
    let _ = subject.clear();
    let _ = subject.stack(Switch::On);
    subject.forget_suppressions_and_mark();
    for line in &script.lines {
        let _ = match line.statement {
            Statement::RegionAdd(region) => {
                subject.region_remove(machine.address(Place::Region(region, 0)))
            }
            Statement::Disabled(Scope::Begin) => subject.disabled(Scope::End),
            _ => Ok(()),
        };
    }
    drop(subject.warnings());
}
