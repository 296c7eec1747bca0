//! What happens beside a scan, at each of its moments: where other code may run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kmemleak_emulated::Machine;

use crate::lab::{Lab, Subject};

/// A lab whose scans report whatever its age.
pub fn lab() -> Lab {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    lab
}

/// What one pass reports.
pub fn scan(lab: &Lab) -> Vec<usize> {
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on");
    lab.listed()
}

/// At the moment of the next pass with this number `action` happens, once. Whether it did.
pub fn at(
    lab: &Lab,
    moment: usize,
    action: impl Fn(&Machine, &Subject) + Send + 'static,
) -> Arc<AtomicBool> {
    at_one_of(lab, |_| true, moment, action)
}

/// Does the same, where only those moments count for which `counts` is true.
pub fn at_one_of(
    lab: &Lab,
    counts: impl Fn(&Machine) -> bool + Send + 'static,
    moment: usize,
    action: impl Fn(&Machine, &Subject) + Send + 'static,
) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let (told, detector) = (Arc::clone(&done), Arc::downgrade(&lab.detector));
    let passed = AtomicUsize::new(0);
    lab.machine.at_relax(move |machine| {
        if counts(machine) && passed.fetch_add(1, Ordering::Relaxed) == moment {
            machine.advance_us(1);
            action(machine, &detector.upgrade().expect("it scans"));
            told.store(true, Ordering::Relaxed);
        }
    });
    done
}

/// Does something at each moment of a pass, in labs of their own, until a pass has fewer moments.
pub fn at_each_moment(test: impl Fn(usize) -> bool) {
    let moments = (0..).take_while(|&moment| test(moment)).count();
    assert!(moments > 3, "{moments} moments only");
}
