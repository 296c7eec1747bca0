//! Live objects with their addresses, the oldest first: a miss, or what grows, is pursued from there by holders and path.
//!
//! One walk over all objects, a chunk at a time, counts those that match and keeps the oldest of them: in a heap whose root is
//! the youngest that is kept (48 bytes each, in pages that stay for the next question). So it takes memory for what is shown, not
//! for what there is. If memory is short, fewer are kept: still the oldest, and the answer says so.
//!
//! Other CPUs go on meanwhile, so the answer is of no single moment: what is born or freed during the walk may be in it or not.
//!
//! # Locks
//!
//! A chunk's, one at a time; none while the caller's code runs.

use crate::checker::claim::{Claim, NotDone};
use crate::metadata::MetaAlloc;
use crate::metadata::heap::{Places, sift_down, sift_up, sort_heap};
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::PageVec;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::{Comm, Platform};
use crate::stacks::crc::crc_of;
use crate::stacks::depot::StackId;
use crate::stacks::task_names::Round;
use crate::tracker::{Tracker, Tracking};
use crate::verdict::handles::Thing;
use crate::verdict::leak_list::Named;

/// Which objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFilter {
    /// Those of call stacks with this checksum, as reports show it.
    pub site: Option<u32>,
    /// Those that this task allocated, or an interrupt handler that interrupted it.
    pub task: Option<u32>,
    /// Those that are at least so old, in microseconds.
    pub min_age_us: u64,
    /// The oldest of these, so many at most.
    pub top: usize,
}

impl ObjectFilter {
    /// All objects.
    pub const ALL: Self = Self {
        site: None,
        task: None,
        min_age_us: 0,
        top: usize::MAX,
    };
}

/// That an object is never a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// It is scanned.
    Gray,
    /// It is not scanned either.
    Black,
}

/// A tracked object.
#[derive(Clone, Copy, Debug)]
pub struct LiveObject<'a> {
    /// Its address; of a per-CPU block the handle.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// How long ago that was when the question was asked, in microseconds.
    pub age_us: u64,
    /// The task that allocated it; the one that was interrupted, if an interrupt handler did.
    pub task: u32,
    /// The name of that task; `hardirq` for an interrupt handler.
    pub comm: Comm,
    /// The CPU that it was allocated on.
    pub cpu: u32,
    /// Whether an interrupt handler allocated it.
    pub interrupt: bool,
    /// `None` if it is a leak as soon as nothing points to it.
    pub colour: Option<Colour>,
    /// Whether it has been freed since the question was asked.
    pub freed: bool,
    /// Return addresses of the call stack that allocated it, innermost first. Empty if there is no call stack.
    pub call_stack: &'a [usize],
}

/// What is kept of an object.
#[derive(Clone, Copy)]
struct LiveRow {
    start: Hidden,
    /// A copy.
    record: Record,
    size: usize,
}

const _: () = assert!(size_of::<LiveRow>() == 48, "as the header says");

impl LiveRow {
    /// Of two objects, the one that was allocated first has the lower one.
    fn order(&self) -> (u64, usize) {
        (self.record.birth_us(), self.start.get())
    }
}

/// The oldest objects of those that match.
pub(super) struct LiveObjects {
    rows: PageVec<LiveRow>,
    /// Whether there was no memory for as many as were asked for.
    short: bool,
    /// When the question was asked, and its copies made.
    asked_us: u64,
    copied: Round,
}

impl Places for LiveObjects {
    fn is_after(&self, one: usize, other: usize) -> bool {
        let order = |place| self.rows.get(place).map(LiveRow::order);
        order(one) > order(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.rows.swap(one, other);
    }
}

impl LiveObjects {
    pub(super) const fn new() -> Self {
        Self {
            rows: PageVec::new(),
            short: false,
            asked_us: 0,
            copied: Round::FIRST,
        }
    }

    /// Forgets everything; its owner gives the memory back.
    pub(super) fn empty(&mut self) {
        self.rows.empty();
    }

    /// Keeps an object, unless `top` are kept that are all older.
    fn add(&mut self, row: LiveRow, top: usize, meta: &MetaAlloc<'_>) {
        if self.rows.len() < top && !self.short {
            match self.rows.push(row, meta) {
                Ok(place) => return sift_up(self, place),
                Err(_) => self.short = true,
            }
        }
        if let Some(youngest) = self.rows.get_mut(0)
            && row.order() < youngest.order()
        {
            *youngest = row;
            sift_down(self, 0, self.rows.len());
        }
    }

    /// Keeps the oldest objects that match, in the order of allocation. Returns how many match.
    fn fill<P: Platform>(&mut self, tracker: &Tracker<P>, filter: &ObjectFilter) -> Tracking {
        self.short = false;
        self.rows.clear();
        (self.asked_us, self.copied) = (tracker.now_us(), tracker.task_names().now());
        let mut matching = Matching::new(filter, self.asked_us);
        let mut all = Tracking {
            objects: 0,
            bytes: 0,
        };
        tracker.each_tracked(&mut |object: Object<'_>, meta| {
            let record = object.record.read();
            if !matching.lets(tracker, &record) {
                return;
            }
            let size = tracker.registry().size(object.start, object.record);
            all.objects += 1;
            all.bytes = all.bytes.saturating_add(size);
            let start = Hidden::new(object.start);
            let row = LiveRow {
                start,
                record,
                size,
            };
            self.add(row, filter.top, meta);
        });
        sort_heap(self, self.rows.len());
        all
    }
}

/// Call stacks whose checksums are remembered while objects are walked over: a power of two.
const REMEMBERED: usize = 64;

/// A filter, at work.
struct Matching<'f> {
    filter: &'f ObjectFilter,
    /// Objects that were born later are too young.
    until_us: u64,
    /// Whether call stacks are those of the site: by number, since a checksum takes a microsecond and many objects have one call
    /// stack. A call stack's place is its number modulo the places.
    known: [(StackId, bool); REMEMBERED],
}

impl<'f> Matching<'f> {
    fn new(filter: &'f ObjectFilter, now_us: u64) -> Self {
        let none = (StackId::NONE, filter.site == Some(crc_of(&[])));
        Self {
            filter,
            until_us: now_us.saturating_sub(filter.min_age_us),
            known: [none; REMEMBERED],
        }
    }

    fn lets<P: Platform>(&mut self, tracker: &Tracker<P>, record: &Record) -> bool {
        let filter = self.filter;
        let old = filter.min_age_us == 0 || record.birth_us() <= self.until_us;
        old && filter.task.is_none_or(|task| task == record.task())
            && (filter.site).is_none_or(|crc| self.is_of_site(tracker, record.stack_id(), crc))
    }

    fn is_of_site<P: Platform>(&mut self, tracker: &Tracker<P>, stack: StackId, crc: u32) -> bool {
        let known = &mut self.known[stack.0 as usize % REMEMBERED];
        if known.0 != stack {
            *known = (stack, crc_of(tracker.depot().get(stack).as_slice()) == crc);
        }
        known.1
    }
}

/// What a row shows.
fn show<P: Platform>(
    tracker: &Tracker<P>,
    row: &LiveRow,
    live: &LiveObjects,
    look: &mut dyn FnMut(LiveObject<'_>, Thing),
) {
    let (record, frames) = (row.record, tracker.depot().get(row.record.stack_id()));
    let named = Named {
        start: row.start.get(),
        record,
        copied: live.copied,
    };
    let object = LiveObject {
        start: named.start,
        size: row.size,
        birth_us: tracker.birth_us(&record),
        age_us: live.asked_us.saturating_sub(record.birth_us()),
        task: record.task(),
        comm: named.comm(tracker),
        cpu: record.cpu(),
        interrupt: record.has(flag::INTERRUPT),
        colour: match record.min_count() {
            ..0 => Some(Colour::Black),
            0 => Some(Colour::Gray),
            1.. => None,
        },
        freed: !named.is_there(tracker),
        call_stack: frames.as_slice(),
    };
    look(object, named.thing());
}

impl<P: Platform> Claim<'_, P> {
    /// Finds the oldest objects that match, for [`each_found`](Self::each_found). Returns how many match, and whether there was
    /// memory for all that were asked for.
    pub(crate) fn find_live(&mut self, filter: &ObjectFilter) -> (Tracking, bool) {
        let tracker = self.tracker();
        let live = &mut self.findings.live;
        let all = live.fill(tracker, filter);
        (all, !live.short)
    }

    /// Shows the objects that were found, in the order of allocation, with what they are called by.
    pub(crate) fn each_found(&self, look: &mut dyn FnMut(LiveObject<'_>, Thing)) {
        let _outside = self.outside();
        let live = &self.findings.live;
        let rows = (0..live.rows.len()).filter_map(|place| live.rows.get(place));
        rows.for_each(|row| show(self.tracker(), row, live, look));
    }

    /// Shows the oldest objects that match.
    pub(crate) fn show_live(
        &mut self,
        filter: &ObjectFilter,
        look: &mut dyn FnMut(LiveObject<'_>),
    ) -> Result<Tracking, NotDone> {
        let found = self.find_live(filter);
        self.each_found(&mut |object, _| look(object));
        match found {
            (all, true) => Ok(all),
            (_, false) => Err(NotDone::NoMemory),
        }
    }
}
