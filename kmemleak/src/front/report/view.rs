//! A leak as it is reported: a copy of all that is known of it, with the first bytes of its block if that is still there.

use crate::checker::claim::Claim;
use crate::metadata::WORD;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::address::Extent;
use crate::platform::{Comm, Platform};
use crate::stacks::depot::Frames;
use crate::tracker::Tracker;
use crate::verdict::handles::ShortHandle;
use crate::verdict::iter::Rank;
use crate::verdict::leak_list::Named;

/// Bytes of a block that are shown.
const DUMP: usize = 32;

/// A leak or a suspect.
pub(super) struct LeakView<'a> {
    pub(super) named: &'a Named,
    /// `None` where it is not asked for, or there was no memory.
    pub(super) handle: Option<ShortHandle>,
    /// The handle of its leader, if it is owned.
    pub(super) leader_handle: Option<ShortHandle>,
    pub(super) size: usize,
    pub(super) age_us: u64,
    pub(super) comm: Comm,
    /// `None` where there was no memory for an order.
    pub(super) rank: Option<Rank>,
    pub(super) contents: Contents,
    pub(super) frames: Frames,
}

/// What a block has in it.
pub(super) enum Contents {
    Read(Dump),
    /// It has been freed since.
    Freed,
    /// It is not known whether it has been freed, so it is not read: the detector is off, and hears of no free.
    Unknown,
}

/// The first bytes of a block.
pub(super) struct Dump {
    bytes: [u8; DUMP],
    len: usize,
}

impl Dump {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<'a> LeakView<'a> {
    /// A named object of the verdict, with its number in the list.
    pub(super) fn of<P: Platform>(
        claim: &Claim<'_, P>,
        named: &'a Named,
        index: Option<usize>,
    ) -> Self {
        let (tracker, verdict) = (claim.tracker(), claim.verdict());
        Self {
            named,
            handle: None,
            leader_handle: None,
            size: named.size(tracker),
            age_us: verdict.at_us.saturating_sub(named.record.birth_us()),
            comm: named.comm(tracker),
            rank: index.map(|index| verdict.list.rank(index)),
            contents: Contents::of(tracker, named),
            frames: tracker.depot().get(named.record.stack_id()),
        }
    }
}

impl LeakView<'_> {
    /// This view, with handles.
    pub(super) fn numbered<P: Platform>(self, claim: &Claim<'_, P>, index: Option<usize>) -> Self {
        let list = &claim.verdict().list;
        let owned = index.filter(|_| matches!(self.rank, Some(Rank::Owned { .. })));
        let leader = owned.and_then(|index| list.get(list.leader(index) as usize));
        Self {
            handle: claim.handle_of(self.named.thing()),
            leader_handle: leader.and_then(|leader| claim.handle_of(leader.thing())),
            ..self
        }
    }
}

impl Contents {
    /// The first bytes of a block, if it is still there. It can't be freed meanwhile: its chunk is locked.
    pub(super) fn of<P: Platform>(tracker: &Tracker<P>, named: &Named) -> Self {
        let birth_us = named.record.birth_us();
        let contents = |object: Object<'_>| {
            let record = object.record.read();
            if record.birth_us() != birth_us {
                return Self::Freed;
            }
            // A free waits for the chunk's lock only as long as the detector is on.
            match tracker.is_on() {
                true => Self::Read(read(tracker, named.start, &record)),
                false => Self::Unknown,
            }
        };
        let contents = tracker.without_interrupts(|_| {
            let registry = tracker.registry();
            registry.starting_at(Locked, named.start, contents)
        });
        contents.unwrap_or(Self::Freed)
    }
}

fn read<P: Platform>(tracker: &Tracker<P>, start: usize, record: &Record) -> Dump {
    let mut dump = Dump {
        bytes: [0; DUMP],
        len: 0,
    };
    let platform = tracker.platform();
    let size = record.short_size() as usize;
    let copy = if record.has(flag::PERCPU) {
        let copy = Extent::copy(platform, start, 0, size);
        copy.map(|copy| copy.start().get())
    } else if record.has(flag::PHYS) {
        let memory = Extent::mapped(platform, start, size);
        memory.map(|memory| memory.start().get())
    } else {
        Some(start)
    };
    let readable = |copy: &usize| {
        tracker
            .strangers()
            .or_platform(platform, *copy, size.min(DUMP))
    };
    let Some(start) = copy.filter(readable) else {
        return dump;
    };
    for (offset, byte) in dump.bytes.iter_mut().enumerate().take(size) {
        let address = start + offset;
        let word = address & !(WORD - 1);
        if word < start || size - (word - start) < WORD {
            // A word at the end that lies only partly in the block.
            break;
        }
        // SAFETY: a whole word of the block; its free waits for the chunk's lock.
        let word = unsafe { platform.words().read(word) };
        *byte = word.to_ne_bytes()[address % WORD];
        dump.len = offset + 1;
    }
    dump
}

/// The object that an address lies in; an address in any copy of a per-CPU block means the block.
pub(super) fn named_at<P: Platform>(tracker: &Tracker<P>, address: usize) -> Option<Named> {
    let copied = tracker.task_names().now();
    let named = |object: Object<'_>, _| Named {
        start: object.start,
        record: object.record.read(),
        copied,
    };
    tracker.without_interrupts(|_| {
        let registry = tracker.registry();
        registry.block_containing(Locked, address, named)
    })
}
