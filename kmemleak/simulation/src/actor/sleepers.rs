//! Tasks that sleep: they begin, and are reaped, while others run.

use crate::AllocOptions;
use crate::oracle::Op;
use crate::schedule::moment;
use crate::subject::tell;
use crate::world::stacks::{Keeping, USED, start_of};
use crate::world::with;

/// A task begins or ends.
pub(crate) fn sleeper(keeping: Keeping) {
    match with(|world| world.setting.stacks.take()) {
        Some((place, true)) => begin(place, keeping),
        Some((place, false)) => end(place, keeping),
        None => {}
    }
}

/// All tasks that sleep end, where all others stand still.
pub(crate) fn end_sleepers() {
    while let Some((place, keeping)) = with(|world| world.setting.stacks.take_living()) {
        end(place, keeping);
    }
}

/// A stack that is a block is one before it is a root.
fn begin(place: usize, keeping: Keeping) {
    let (start, len) = with(|world| {
        world.map_stack(place);
        world.setting.stacks.memory(place)
    });
    if keeping == Keeping::Blocks {
        tell(&[Op::Alloc(start, len, 0)], |detector| {
            detector.alloc(start, len, AllocOptions::new().min_count(0));
        });
        tell(&[Op::NoScan(start)], |detector| detector.no_scan(start));
        moment();
    }
    tell(&[Op::RegionAdd(start_of(place), USED)], |_| {
        with(|world| world.begin_stack(place));
    });
}

/// It is freed when it is none any more.
fn end(place: usize, keeping: Keeping) {
    tell(&[Op::RegionRemove(start_of(place))], |_| {
        with(|world| world.end_stack(place));
    });
    if keeping == Keeping::Blocks {
        moment();
        let (start, _) = with(|world| world.setting.stacks.memory(place));
        tell(&[Op::Free(start)], |detector| detector.free(start));
        with(|world| world.forget_stack(place));
    }
}
