//! Handles: what has which, and what a handle means now.
//!
//! A handle outlives the check that it comes from. So what it names may be freed, or the last verdict may not list it; a question
//! about it then ends with the reason.

use crate::checker::claim::Claim;
use crate::metadata::hidden::Hidden;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::leak_list::Named;
use crate::verdict::order::Which;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Address(Hidden),
    /// An object, or the first leader of a group.
    Handle(ShortHandle),
}

/// Why a handle leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTarget {
    /// Nothing has one.
    NoneGiven,
    /// The last one that was given is lower.
    Beyond { asked: ShortHandle, last: usize },
    /// The object has been freed.
    Freed { asked: ShortHandle, start: Hidden },
    /// The last verdict lists no object of this call stack that is still there.
    NoneLeft(ShortHandle),
}

impl Named {
    /// What it is called by.
    pub(crate) fn thing(&self) -> Thing {
        Thing::Object {
            start: Hidden::new(self.start),
            birth_us: self.record.birth_us(),
        }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// To be called before the verdict is reported: its groups get the first handles.
    pub(crate) fn begin_handles(&self) {
        let (verdict, tracker) = (self.verdict(), self.tracker());
        if let Ok(mut handles) = self.findings.handles.try_borrow_mut() {
            tracker.without_interrupts(|meta| handles.begin(verdict.number, &verdict.groups, meta));
        }
    }

    /// The handle of a thing, which is a new one if it had none. `None` without memory.
    pub(crate) fn handle_of(&self, thing: Thing) -> Option<ShortHandle> {
        let mut handles = self.findings.handles.try_borrow_mut().ok()?;
        (self.tracker()).without_interrupts(|meta| handles.of(thing, meta))
    }

    /// How many handles have been given.
    pub(crate) fn handles_given(&self) -> usize {
        let handles = self.findings.handles.try_borrow();
        handles.map_or(0, |handles| handles.len())
    }

    /// What has this handle.
    pub(crate) fn thing(&self, asked: ShortHandle) -> Result<Thing, NoTarget> {
        let handles = self.findings.handles.try_borrow();
        let handles = handles.map_err(|_| NoTarget::NoneGiven)?;
        handles.thing(asked).ok_or(match handles.len() {
            0 => NoTarget::NoneGiven,
            last => NoTarget::Beyond { asked, last },
        })
    }

    /// The call stack of a group, or the one that allocated an object.
    pub(crate) fn call_stack_of(&self, asked: ShortHandle) -> Result<StackId, NoTarget> {
        let thing = self.thing(asked)?;
        if let Thing::Group(stack_id) = thing {
            return Ok(stack_id);
        }
        let named = self.named(asked)?;
        Ok(named.record.stack_id())
    }

    /// The address that a question is about. Not inlined: what it leaves on the stack lies in frames of its own.
    #[inline(never)]
    pub(crate) fn address_of(&self, topic: Topic) -> Result<Hidden, NoTarget> {
        let asked = match topic {
            Topic::Address(address) => return Ok(address),
            Topic::Handle(asked) => asked,
        };
        Ok(Hidden::new(self.named(asked)?.start))
    }

    /// An object that is still there: the one with this handle, or the first leader of the group.
    pub(crate) fn named(&self, asked: ShortHandle) -> Result<Named, NoTarget> {
        match self.thing(asked)? {
            Thing::Group(stack_id) => self.first_of(stack_id).ok_or(NoTarget::NoneLeft(asked)),
            Thing::Object { start, birth_us } => {
                let there = self.object_at(start, birth_us);
                there.ok_or(NoTarget::Freed { asked, start })
            }
        }
    }

    /// The object that was allocated there at this time, if it is still there.
    fn object_at(&self, start: Hidden, birth_us: u64) -> Option<Named> {
        let (tracker, copied) = (self.tracker(), self.tracker().task_names().now());
        let named = |object: Object<'_>| Named {
            start: object.start,
            record: object.record.read(),
            copied,
        };
        let there = tracker
            .without_interrupts(|_| tracker.registry().starting_at(Locked, start.get(), named));
        there.filter(|named| named.record.birth_us() == birth_us)
    }

    /// Of the objects that a call stack allocated and that are still there the first one that is reported.
    fn first_of(&self, stack_id: StackId) -> Option<Named> {
        let mut first = None;
        for which in [Which::Leaders, Which::All] {
            self.each_in_order(which, &mut |named, _| {
                let is_it = first.is_none() && named.record.stack_id() == stack_id;
                if is_it && named.is_there(self.tracker()) {
                    first = Some(*named);
                }
            });
        }
        first
    }
}
