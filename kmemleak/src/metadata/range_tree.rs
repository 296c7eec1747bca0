//! Ranges of memory, found by address in no more steps than an address has bits, however many there are.
//!
//! A priority search tree (McCreight, Priority Search Trees, 1985) over the bits of their starts: of all ranges, one that ends last stands
//! at the top. Of the others, those whose start has its highest bit clear are to the left, and the rest to the right; so it goes on
//! with the next bit. What comes and goes makes the tree no deeper, and nothing is balanced. The order of starts leads to the left or
//! to the right, and where the topmost range ends too early, so do all below.
//!
//! Ranges with one start share a place, the one that was added last before the others.
//!
//! # Invariants
//!
//! - The starts in a subtree agree in all bits that led there. So the place that a start can have is unique at each depth, and no subtree is
//!   deeper than the bits that are left.
//! - No node's [`top`](RangeNode::top) is above that of the node over it.

use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::list::{Link, MetaBox};
use crate::metadata::page::NoMemory;
use crate::platform::address::end_of;

/// The bit of a start that is looked at first.
const FIRST_BIT: usize = 1 << (usize::BITS - 1);

/// Places that wait while a subtree is looked through, at most: one for each bit, and the last two.
const DEPTH: usize = usize::BITS as usize + 2;

/// A range.
pub(crate) struct RangeNode<H> {
    start: Hidden,
    len: usize,
    pub(crate) how: H,
    /// How often it was added.
    count: usize,
    /// Larger than that of all ranges that were added before.
    pub(crate) stamp: u64,
    /// The last end of this range and the earlier ones with its start; zero if all are empty.
    top: Hidden,
    /// The range with this start that was added before this one.
    earlier: Link<RangeNode<H>>,
    left: Link<RangeNode<H>>,
    right: Link<RangeNode<H>>,
}

impl<H> RangeNode<H> {
    pub(crate) fn start(&self) -> usize {
        self.start.get()
    }

    pub(crate) fn end(&self) -> usize {
        end_of(self.start(), self.len)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The last end of all ranges with this start.
    pub(crate) fn top(&self) -> usize {
        self.top.get()
    }

    /// This one and those with its start that were added before, the last one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |one| one.earlier.get())
    }
}

impl<H> RangeNode<H> {
    /// Of the ranges with this start, the one that an address lies in and that was added last, if it was added after `newest`.
    fn newer_at<'a>(&'a self, at: usize, newest: Option<&'a Self>) -> Option<&'a Self> {
        let here = self.all().find(|one| one.start() <= at && one.end() > at);
        match (here, newest) {
            (Some(here), Some(newest)) if here.stamp < newest.stamp => Some(newest),
            (here, newest) => here.or(newest),
        }
    }

    /// The same of all in a subtree.
    fn newest_below<'a>(&'a self, at: usize, mut newest: Option<&'a Self>) -> Option<&'a Self> {
        let (mut waiting, mut len) = ([None; DEPTH], 1);
        waiting[0] = Some(self);
        while len > 0 {
            len -= 1;
            let Some(here) = waiting[len].filter(|here| here.top() > at) else {
                continue;
            };
            newest = here.newer_at(at, newest);
            for below in [here.right.get(), here.left.get()] {
                waiting[len] = below;
                len += 1;
            }
        }
        newest
    }
}

/// The tree.
pub(crate) struct RangeTree<H> {
    root: Link<RangeNode<H>>,
}

fn top_of<H>(link: &Link<RangeNode<H>>) -> usize {
    link.get().map_or(0, RangeNode::top)
}

impl<H: Copy + PartialEq> RangeTree<H> {
    pub(crate) const fn new() -> Self {
        Self { root: Link::new() }
    }

    /// Adds a range, or counts the last one with this start once more if it is the same, and was added after the stamp `since`.
    pub(crate) fn add(
        &mut self,
        (start, len): (usize, usize),
        how: H,
        (stamp, since): (u64, u64),
        meta: &MetaAlloc<'_>,
    ) -> Result<(), NoMemory> {
        if let Some(last) = self.find(start)
            && (last.len, last.how) == (len, how)
            && last.stamp > since
        {
            last.count += 1;
            return Ok(());
        }
        let mut new = MetaBox::new(
            RangeNode {
                start: Hidden::new(start),
                len,
                how,
                count: 1,
                stamp,
                top: Hidden::new(if len == 0 { 0 } else { end_of(start, len) }),
                earlier: Link::new(),
                left: Link::new(),
                right: Link::new(),
            },
            meta,
        )?;
        if let Some(earlier) = self.unlink(start) {
            new.top = Hidden::new(new.top().max(earlier.top()));
            new.earlier.set(earlier);
        }
        self.insert(new);
        Ok(())
    }

    /// Takes back the range that was added last of those with this start, and returns its length. `None` if there is none.
    pub(crate) fn remove(&mut self, start: usize, meta: &MetaAlloc<'_>) -> Option<usize> {
        let last = self.find(start)?;
        last.count -= 1;
        let len = last.len;
        if last.count == 0 {
            let mut gone = self.unlink(start)?;
            if let Some(earlier) = gone.earlier.take() {
                self.insert(earlier);
            }
            gone.give_back(meta);
        }
        Some(len)
    }

    /// The range that was added last of those with this start.
    pub(crate) fn get(&self, start: usize) -> Option<&RangeNode<H>> {
        let (mut link, mut bit) = (&self.root, FIRST_BIT);
        loop {
            let here = link.get()?;
            if here.start() == start {
                return Some(here);
            }
            link = if start & bit == 0 {
                &here.left
            } else {
                &here.right
            };
            bit >>= 1;
        }
    }

    fn find(&mut self, start: usize) -> Option<&mut RangeNode<H>> {
        self.link_to(start).get_mut()
    }

    /// The link that leads to a start; one that leads nowhere if there is none.
    fn link_to(&mut self, start: usize) -> &mut Link<RangeNode<H>> {
        let (mut link, mut bit) = (&mut self.root, FIRST_BIT);
        loop {
            let Some(here) = link.take() else {
                return link;
            };
            if here.start() == start {
                link.set(here);
                return link;
            }
            let here = link.set(here);
            link = if start & bit == 0 {
                &mut here.left
            } else {
                &mut here.right
            };
            bit >>= 1;
        }
    }

    /// Puts a node in, whose start is not there and which has nothing below it. Each one that it stands above goes further down.
    fn insert(&mut self, mut new: MetaBox<RangeNode<H>>) {
        let (mut link, mut bit) = (&mut self.root, FIRST_BIT);
        loop {
            let Some(mut here) = link.take() else {
                link.set(new);
                return;
            };
            if new.top() > here.top() {
                (new.left, new.right) = (here.left.take_link(), here.right.take_link());
                core::mem::swap(&mut new, &mut here);
            }
            let here = link.set(here);
            link = if new.start() & bit == 0 {
                &mut here.left
            } else {
                &mut here.right
            };
            bit >>= 1;
        }
    }

    /// Takes a start out. Below it the nodes that end last move up.
    fn unlink(&mut self, start: usize) -> Option<MetaBox<RangeNode<H>>> {
        let mut link = self.link_to(start);
        let mut gone = link.take()?;
        let (mut left, mut right) = (gone.left.take_link(), gone.right.take_link());
        loop {
            let from_left = match (left.get(), right.get()) {
                (Some(left), Some(right)) => left.top() >= right.top(),
                (left, _) => left.is_some(),
            };
            let Some(mut winner) = (if from_left { &mut left } else { &mut right }).take() else {
                return Some(gone);
            };
            let (below_left, below_right) = (winner.left.take_link(), winner.right.take_link());
            let here = link.set(winner);
            if from_left {
                here.right = right;
                link = &mut here.left;
            } else {
                here.left = left;
                link = &mut here.right;
            }
            (left, right) = (below_left, below_right);
        }
    }

    /// The last end of the ranges that begin at an address or before; zero if there are none.
    pub(crate) fn last_end(&self, at: usize) -> usize {
        let (mut link, mut bit, mut last) = (&self.root, FIRST_BIT, 0);
        while let Some(here) = link.get()
            && here.top() > last
        {
            if here.start() <= at {
                // No range below ends later.
                return here.top();
            }
            if at & bit == 0 {
                link = &here.left;
            } else {
                last = last.max(top_of(&here.left));
                link = &here.right;
            }
            bit >>= 1;
        }
        last
    }

    /// The first start of ranges of which one ends after an address.
    pub(crate) fn first_beyond(&self, at: usize) -> Option<&RangeNode<H>> {
        let (mut link, mut first) = (&self.root, None::<&RangeNode<H>>);
        while let Some(here) = link.get()
            && here.top() > at
        {
            if first.is_none_or(|first| here.start() < first.start()) {
                first = Some(here);
            }
            link = if top_of(&here.left) > at {
                &here.left
            } else {
                &here.right
            };
        }
        first
    }

    /// The first start after an address.
    pub(crate) fn next_start(&self, at: usize) -> Option<&RangeNode<H>> {
        let (mut link, mut bit) = (&self.root, FIRST_BIT);
        // The first one on the way, and where all starts are after the address, and before all those further up.
        let (mut first, mut behind) = (None::<&RangeNode<H>>, None);
        let earlier = |one: &'_ RangeNode<H>, first: Option<&RangeNode<H>>| {
            first.is_none_or(|first| one.start() < first.start())
        };
        while let Some(here) = link.get() {
            if here.start() > at && earlier(here, first) {
                first = Some(here);
            }
            link = if at & bit == 0 {
                behind = here.right.get().or(behind);
                &here.left
            } else {
                &here.right
            };
            bit >>= 1;
        }
        while let Some(here) = behind {
            if earlier(here, first) {
                first = Some(here);
            }
            behind = here.left.get().or(here.right.get());
        }
        first
    }

    /// The range that was added last of those that an address lies in. Looks at all of these.
    pub(crate) fn newest_at(&self, at: usize) -> Option<&RangeNode<H>> {
        let (mut link, mut bit, mut newest) = (&self.root, FIRST_BIT, None);
        while let Some(here) = link.get()
            && here.top() > at
        {
            newest = here.newer_at(at, newest);
            link = if at & bit == 0 {
                &here.left
            } else {
                newest = here
                    .left
                    .get()
                    .map_or(newest, |all| all.newest_below(at, newest));
                &here.right
            };
            bit >>= 1;
        }
        newest
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.root = Link::new();
    }
}
