//! What only words of stacks keep alive: often a word that nobody uses any more hides a leak there.
//!
//! A question of its own, in a stopped world: all CPUs mark what roots reach that are no stacks; then those words of stacks are listed
//! that point into what is unmarked; then the pass goes on from the stacks. What has been marked since is alive through them only. An
//! object that a word of a stack points to is held *first-hand*: that word is the one to look at. What lies behind those objects is only
//! counted. The last verdict stays as it is.
//!
//! A row is kept for each word that was listed, so it takes memory for what lies on stacks, however much hangs from that.

use core::fmt;
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicUsize, Lock};
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::pass::{NotSeen, Together};
use crate::checker::references::{Slot, SlotPlace};
use crate::checker::tasks::doubt;
use crate::marker::suspects::is_white;
use crate::marker::{GivenUp, Marker, Stacks};
use crate::metadata::heap::{Places, heapsort};
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::PageVec;
use crate::objects::access::Stopped;
use crate::objects::object::Object;
use crate::objects::record::Record;
use crate::platform::{Platform, Root, RootKind, StopError};
use crate::stacks::task_names::Round;
use crate::verdict::leak_list::Named;
use crate::verdict::summary::Doubt;

/// An object to which a word of a stack points, and which is alive through words of stacks only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackOnly {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// A number that stands for the call stack that allocated it.
    pub call_stack: u32,
    /// The word of a stack that points to it; of several the one at the lowest address.
    pub held_by: Slot,
}

/// What is alive through words of stacks only, in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackOnlySums {
    /// Objects to which a word of a stack points.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Objects that hang from these.
    pub behind_objects: usize,
    /// Their bytes.
    pub behind_bytes: usize,
    /// Whether there was memory to list all objects to which a word of a stack points. If not, some are counted with those behind.
    pub complete: bool,
    /// Why it is not certain that nothing else holds them; `None` if it is.
    pub doubt: Option<Doubt>,
    /// For how long the world was stopped, in microseconds.
    pub stopped_us: u64,
}

/// Why it is not known what only stacks keep alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStackOnly {
    /// For a reason for which other things are not done, either.
    NotDone(NotDone),
    /// The world can't be stopped, so stacks change while they are read.
    Unstopped(StopError),
}

impl fmt::Display for NoStackOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDone(why) => why.fmt(f),
            Self::Unstopped(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for NoStackOnly {}

impl From<NotDone> for NoStackOnly {
    fn from(why: NotDone) -> Self {
        Self::NotDone(why)
    }
}

impl From<Nested> for NoStackOnly {
    fn from(why: Nested) -> Self {
        Self::NotDone(why.into())
    }
}

impl From<NotSeen> for NoStackOnly {
    fn from(why: NotSeen) -> Self {
        match why {
            NotSeen::Unstopped(why) => Self::Unstopped(why),
            NotSeen::GivenUp => Self::NotDone(NotDone::Stopped),
        }
    }
}

/// A word of a stack that points into an object which is unmarked when only the stacks are left.
#[derive(Clone, Copy)]
struct StackWord {
    object: Hidden,
    /// A copy.
    record: Record,
    size: usize,
    slot: Hidden,
    root: Hidden,
    root_len: usize,
    kind: RootKind,
}

impl StackWord {
    fn held_by(&self) -> Slot {
        Slot {
            address: self.slot.get(),
            place: SlotPlace::Root(Root {
                kind: self.kind,
                start: self.root.get(),
                len: self.root_len,
            }),
        }
    }
}

/// The words, by the objects that they point to.
struct WordsByObject<'w>(&'w mut PageVec<StackWord>);

/// The words, by the age of the objects that they point to.
struct WordsByAge<'w>(&'w mut PageVec<StackWord>);

impl Places for WordsByObject<'_> {
    fn is_after(&self, one: usize, other: usize) -> bool {
        let key = |place| {
            let word: Option<&StackWord> = self.0.get(place);
            word.map(|word| (word.object.get(), word.slot.get()))
        };
        key(one) > key(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.0.swap(one, other);
    }
}

impl Places for WordsByAge<'_> {
    fn is_after(&self, one: usize, other: usize) -> bool {
        let key = |place| {
            let word: Option<&StackWord> = self.0.get(place);
            word.map(|word| (word.record.birth_us(), word.object.get()))
        };
        key(one) > key(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.0.swap(one, other);
    }
}

/// The answer to the last question.
pub(super) struct StackWords {
    words: PageVec<StackWord>,
    /// How many of the words are the answer: the first ones, one for each object.
    held: usize,
    bytes: usize,
    /// Whether there was no memory for all words.
    short: bool,
    copied: Round,
}

impl StackWords {
    pub(super) const fn new() -> Self {
        Self {
            words: PageVec::new(),
            held: 0,
            bytes: 0,
            short: false,
            copied: Round::FIRST,
        }
    }

    /// Forgets everything; its owner gives the memory back.
    pub(super) fn empty(&mut self) {
        (self.held, self.bytes) = (0, 0);
        self.words.empty();
    }

    /// Lists the words of stacks that point into what is unmarked. For one worker.
    fn list<P: Platform>(&mut self, marker: &mut Marker<'_, P, Stopped>) -> Result<(), GivenUp> {
        self.words.clear();
        (self.held, self.bytes, self.short) = (0, 0, false);
        let (registry, access) = (marker.registry(), marker.access());
        marker.each_stack_word(&mut |marker, root, slot, word| {
            let unmarked = |object: Object<'_>, _| {
                let record = object.record.read();
                let size = registry.size(object.start, object.record);
                is_white(object, &record).then(|| StackWord {
                    object: Hidden::new(object.start),
                    record,
                    size,
                    slot: Hidden::new(slot),
                    root: Hidden::new(root.start),
                    root_len: root.len,
                    kind: root.kind,
                })
            };
            if let Some(found) = registry.block_containing(access, word, unmarked).flatten() {
                self.short |= self.words.push(found, marker.meta()).is_err();
            }
        })
    }

    /// Keeps one word for each object that has been marked since. (A word is not always enough: an object may need several references.)
    fn keep_marked<P: Platform>(&mut self, marker: &Marker<'_, P, Stopped>) {
        let (registry, access) = (marker.registry(), marker.access());
        let len = self.words.len();
        heapsort(&mut WordsByObject(&mut self.words), len);
        let mut last = Hidden::NONE;
        for place in 0..len {
            let Some(&word) = self.words.get(place) else {
                break;
            };
            let is_alive = |object: Object<'_>| !is_white(object, &object.record.read());
            if core::mem::replace(&mut last, word.object) != word.object
                && registry.starting_at(access, word.object.get(), is_alive) == Some(true)
            {
                self.words.swap(self.held, place);
                self.held += 1;
                self.bytes += word.size;
            }
        }
        heapsort(&mut WordsByAge(&mut self.words), self.held);
    }
}

/// How much is unmarked.
struct Unmarked {
    objects: AtomicUsize,
    bytes: AtomicUsize,
}

impl Unmarked {
    const fn new() -> Self {
        Self {
            objects: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Counts a worker's share. Only added up, so Relaxed: the end of the stop orders it.
    fn count<P: Platform>(&self, marker: &mut Marker<'_, P, Stopped>) -> Result<(), GivenUp> {
        let registry = marker.registry();
        let (mut objects, mut bytes) = (0, 0);
        marker.each_white(&mut |object| {
            objects += 1;
            bytes += registry.size(object.start, object.record);
        })?;
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// How much less there is now.
    fn less(&self, now: &Self) -> (usize, usize) {
        let less = |before: &AtomicUsize, now: &AtomicUsize| {
            let (before, now) = (before.load(Ordering::Relaxed), now.load(Ordering::Relaxed));
            before.saturating_sub(now)
        };
        (
            less(&self.objects, &now.objects),
            less(&self.bytes, &now.bytes),
        )
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Finds what only words of stacks keep alive, for [`each_stack_only`](Self::each_stack_only).
    pub(crate) fn find_stack_only(&mut self) -> Result<StackOnlySums, NoStackOnly> {
        let tracker = self.tracker();
        let (before, after) = (Unmarked::new(), Unmarked::new());
        self.findings.stack_only.copied = tracker.task_names().now();
        let seen = self.on_unscanned_stack(|claim| {
            let handle = claim.handle();
            let found = Lock::<_>::new(&mut claim.findings.stack_only);
            let together: &Together<'_, P> = &|marker, worker| {
                marker.run()?;
                marker.barrier()?;
                before.count(marker)?;
                marker.barrier()?;
                if worker == 0 {
                    found.lock().list(marker)?;
                }
                marker.barrier()?;
                marker.run_stacks()?;
                marker.barrier()?;
                after.count(marker)?;
                marker.barrier()
            };
            let seen = handle.stopped_with(Stacks::Last, None, together, |marker| {
                found.lock().keep_marked(marker);
                Ok(())
            });
            Ok::<_, GivenUp>(seen)
        });
        let seen = seen.map_err(|GivenUp| NotDone::Stopped)??;
        let found = &self.findings.stack_only;
        let (objects, bytes) = before.less(&after);
        Ok(StackOnlySums {
            objects: found.held,
            bytes: found.bytes,
            behind_objects: objects.saturating_sub(found.held),
            behind_bytes: bytes.saturating_sub(found.bytes),
            complete: !found.short,
            doubt: doubt(&seen.figures, tracker.unrecorded()),
            stopped_us: seen.stopped_us,
        })
    }

    /// Shows the objects that were found, the oldest first, with what reports need of each.
    pub(crate) fn each_stack_only(&self, look: &mut dyn FnMut(&Named, &StackOnly)) {
        let _outside = self.outside();
        let found = &self.findings.stack_only;
        for word in (0..found.held).filter_map(|place| found.words.get(place)) {
            let named = Named {
                start: word.object.get(),
                record: word.record,
                copied: found.copied,
            };
            let object = StackOnly {
                start: named.start,
                size: word.size,
                birth_us: self.tracker().birth_us(&word.record),
                call_stack: word.record.stack_id().0,
                held_by: word.held_by(),
            };
            look(&named, &object);
        }
    }
}
