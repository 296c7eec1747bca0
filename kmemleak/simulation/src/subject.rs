//! The detector of a run, and what it is told.

use std::cell::Cell;

use crate::Detector;
use crate::oracle::Op;
use crate::schedule::me;
use crate::world::platform::Kernel;
use crate::world::with;

/// The detector of a run.
pub type Subject = Detector<Kernel>;

thread_local! {
    static SUBJECT: Cell<Option<&'static Subject>> = const { Cell::new(None) };
}

/// The detector that all actors speak to.
pub(crate) fn set_subject(subject: Option<&'static Subject>) {
    SUBJECT.set(subject);
}

pub(crate) fn subject() -> &'static Subject {
    SUBJECT.get().expect("a run goes on")
}

/// Tells the detector, and the oracle before and after.
pub(crate) fn tell(ops: &[Op], call: impl FnOnce(&Subject)) {
    let number = with(|world| {
        world.log.callbacks += 1;
        for op in ops {
            world.log.note_op(op);
        }
        let now_us = world.now_us;
        world.oracle.begin(me(), ops, now_us)
    });
    call(subject());
    with(|world| world.oracle.end(number));
}
