//! Checks and scans: beside other code, and where all others stand still.
//!
//! Beside other code a verdict is held against what was known at the stop, or all through the pass ([`crate::oracle`]). Where all
//! others stand still between two calls (`exactly`), the model says all of a check: each listed object in the order of births, the leaders with what
//! they own. Of a scan, too, whose rules say what is kept as young or changed; but for what is born in the very tick in which it begins,
//! which may count as born while it runs: so the clock ticks before each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::actor;
use crate::oracle::Op;
use crate::oracle::kept::{Listed, When};
use crate::owned::Owner;
use crate::schedule::{Fault, has, me, moment};
use crate::subject::{subject, tell};
use crate::world::{self, World, with};
use crate::{How, NotDone, ObjectFilter, Rank, Summary, Unreferenced};

/// Ways to a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Check,
    Frozen,
    Scan,
    Confirmed,
}

impl Way {
    fn any() -> Self {
        match with(|world| world.random.below(8)) {
            0..3 => Self::Check,
            3 => Self::Frozen,
            4..6 => Self::Scan,
            _ => Self::Confirmed,
        }
    }

    /// Makes a pass. `None` if it was ended.
    fn go(self) -> Option<Summary> {
        with(|world| world.asked_to_end = false);
        let detector = subject();
        let verdict = match self {
            Self::Check => detector.check(),
            Self::Frozen => detector.check_frozen(),
            Self::Scan => detector.scan(),
            Self::Confirmed => detector.scan_and_confirm(),
        };
        with(|world| match verdict {
            _ if world.asked_to_end && has(Fault::NobodyEndsAPass) => None,
            Err(NotDone::Stopped) if world.asked_to_end => None,
            verdict => Some(verdict.expect("it is on")),
        })
    }

    /// Makes a pass that no checkpoint ends.
    fn go_to_the_end(self) -> Summary {
        let ends = with(|world| world.setting.failures.ends.take());
        let verdict = self.go();
        with(|world| world.setting.failures.ends = ends);
        verdict.expect("nobody ends it")
    }
}

/// What the last verdict lists.
fn listed() -> Vec<Unreferenced> {
    let mut all = Vec::new();
    subject()
        .for_each_unreferenced(&mut |object| all.push(object))
        .expect("asked from outside");
    all
}

/// Starts and sizes of what the last verdict lists, where passes may be ended.
fn listed_before() -> Vec<(usize, usize)> {
    match with(|world| world.setting.failures.ends.is_some()) {
        true => places(&listed()),
        false => Vec::new(),
    }
}

fn places(shown: &[Unreferenced]) -> Vec<(usize, usize)> {
    shown.iter().map(|one| (one.start, one.size)).collect()
}

/// A verdict while other code runs.
pub(crate) fn beside() {
    world::begin_pass();
    with(|world| world.oracle.begin_watch());
    let before = listed_before();
    let way = Way::any();
    let verdict = way.go();
    let shown = places(&listed());
    with(|world| {
        world.log.passes += 1;
        let Some(verdict) = verdict else {
            world.log.ended += 1;
            if let Err(why) = world.oracle.judge_ended(&before, &shown) {
                panic!("{way:?} by task {}: {why}", me());
            }
            return;
        };
        world.log.note(verdict.objects);
        let listed = Listed {
            objects: verdict.listed(),
            shown,
        };
        let right = match verdict.how {
            _ if is_incomplete(&verdict) => judge_incomplete(world, &verdict),
            // Without memory for a list, what is still there is found by its flag afterwards.
            How::Stopped if verdict.leaders.is_none() => world.oracle.judge(&listed, When::Later),
            How::Stopped => world.oracle.judge(&listed, When::Then),
            How::Frozen => world.oracle.judge(&listed, When::Later),
            How::Confirmed => world.oracle.judge_confirmed(&listed),
            How::Scanned { .. } | How::Repeated { .. } => Ok(()),
        };
        let right = right.and_then(|()| match verdict.how {
            _ if is_incomplete(&verdict) => Ok(()),
            How::Stopped | How::Frozen => Ok(()),
            _ => world.oracle.judge_watched(&listed.shown),
        });
        if let Err(why) = right {
            panic!("{way:?} by task {}, {:?}: {why}", me(), verdict.how);
        }
    });
    world::end_pass();
}

/// Whether a verdict says that something was not recorded.
fn is_incomplete(verdict: &Summary) -> bool {
    verdict.unrecorded > 0 && !has(Fault::NobodyHearsOfWhatIsMissing)
}

/// Of an incomplete verdict no more can be said than that it calls nothing a leak, and that it is so for a reason.
fn judge_incomplete(world: &mut World, verdict: &Summary) -> Result<(), String> {
    world.log.incomplete += 1;
    match (world.refused, verdict.objects) {
        (true, 0) => Ok(()),
        (false, _) => Err("no memory was refused, and something was not recorded".into()),
        (true, leaks) => Err(format!("something was not recorded, and {leaks} are leaks")),
    }
}

/// A request for metadata was refused. If the detector says that something is missing, all blocks are freed and all regions removed. Then
/// `clear` makes it as good as new.
fn recover() {
    if Way::Check.go_to_the_end().unrecorded > 0 {
        actor::end_all();
        actor::end_sleepers();
        let mut answer = String::new();
        subject().command("clear", &mut answer).expect("it is on");
        let verdict = Way::Check.go_to_the_end();
        assert_eq!(
            (verdict.unrecorded, verdict.listed(), verdict.tracked),
            (0, 0, 0),
            "all was freed and cleared"
        );
        with(|world| world.log.recoveries += 1);
    }
    with(World::note_recovery);
}

/// Some verdicts while all others stand still.
pub(crate) fn exactly() {
    world::begin_pass();
    world::begin_calm();
    if with(|world| world.refused) {
        recover();
    }
    learn_births();
    forget_scans();
    for _ in 0..with(|world| world.random.between(2, 6)) {
        moment();
        if with(|world| world.setting.failures.unmap()) {
            actor::unmap_some();
        }
        match with(|world| world.random.below(10)) {
            0 => actor::step_of(Owner::Task(me())),
            1 => actor::store(),
            2 => with(|world| {
                world.now_us = world.now_us.saturating_add(world.random.below(50) as u64)
            }),
            3 => {
                let us = with(|world| [0, 0, 5, 40][world.random.below(4)]);
                subject().set_min_age_us(us);
                with(|world| world.oracle.model.min_age = us);
            }
            4 => clear(),
            _ => judge_exactly(),
        }
    }
    subject().set_min_age_us(0);
    with(|world| world.oracle.model.min_age = 0);
    world::end_calm();
    world::end_pass();
}

/// What scans have seen before nobody knows.
fn forget_scans() {
    for (start, _) in with(|world| world.oracle.model.all()) {
        tell(&[Op::TransientLeak(start)], |detector| {
            detector.transient_leak(start);
        });
    }
}

/// What is tracked is what the model has; when it was born only the detector knows.
fn learn_births() {
    let mut tracked = Vec::new();
    subject()
        .for_each_object(&ObjectFilter::ALL, &mut |object| {
            tracked.push((object.start, object.size, object.birth_us));
        })
        .expect("it is on, and there is memory");
    with(|world| {
        let mut told: Vec<_> = tracked.iter().map(|one| (one.0, one.1)).collect();
        told.sort_unstable();
        let known = world.oracle.model.all();
        let differ = |a: &[(usize, usize)], b: &[(usize, usize)]| -> Vec<(usize, usize)> {
            a.iter().filter(|one| !b.contains(one)).copied().collect()
        };
        assert!(
            told == known,
            "tracked, and not known: {:x?}; known, and not tracked: {:x?}",
            differ(&told, &known),
            differ(&known, &told)
        );
        for (start, _, birth_us) in tracked {
            world.oracle.model.set_birth(start, birth_us);
        }
    });
}

/// A verdict, each word of which the model knows.
fn judge_exactly() {
    with(|world| world.now_us = world.now_us.saturating_add(1));
    learn_births();
    let (way, before) = (Way::any(), listed_before());
    let verdict = way.go();
    let shown = listed();
    let told = places(&shown);
    let Some(verdict) = verdict else {
        with(|world| world.log.ended += 1);
        assert_eq!(told, before, "{way:?} by task {} alone was ended", me());
        return forget_scans();
    };
    let wrong: Option<String> = with(|world| {
        world.log.passes += 1;
        let now_us = world.now_us;
        let model = &mut world.oracle.model;
        match (way, verdict.how) {
            (Way::Scan, _) => model.scan(now_us),
            (Way::Confirmed, _) => model.scan_untold(now_us),
            (_, How::Repeated { .. }) => model.check_by_passes(),
            _ => model.check(),
        }
        let what = format!("{way:?} by task {} alone, {:?}", me(), verdict.how);
        let leaks = model.leaks();
        if told != leaks {
            return Some(format!("{what}: it lists {told:x?}, lost is {leaks:x?}"));
        }
        let certain = verdict.doubt().is_none();
        assert_eq!(
            verdict.objects,
            if certain { told.len() } else { 0 },
            "{what}"
        );
        let mut leaders = BTreeMap::new();
        for object in &shown {
            let leader = match object.rank.expect("there is memory") {
                Rank::Leader { .. } => object.start,
                Rank::Owned { leader } => leader,
            };
            let owned: &mut BTreeSet<usize> = leaders.entry(leader).or_default();
            if leader != object.start {
                owned.insert(object.start);
            }
        }
        assert_eq!(leaders, model.leaders(), "leaders: {what}");
        None
    });
    if let Some(why) = wrong {
        panic!("{why}{}", held_by(&told));
    }
}

/// What the detector says of how the lost ones are held that it does not list.
fn held_by(told: &[(usize, usize)]) -> String {
    let mut text = String::new();
    for leak in with(|world| world.oracle.model.leaks()) {
        if !told.contains(&leak) {
            let mut slots = Vec::new();
            let answer = subject().path(leak.0, &mut |slot| slots.push((slot.address, slot.place)));
            let _ = write!(text, "\n{:#x} is held by {slots:x?} ({answer:?})", leak.0);
        }
    }
    text
}

/// What is listed is no leak from now on.
fn clear() {
    let listed = listed();
    let mut answer = String::new();
    subject().command("clear", &mut answer).expect("it is on");
    with(|world| {
        for object in listed {
            world.oracle.model.set_min_count(object.start, 0);
        }
    });
}
