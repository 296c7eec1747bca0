//! What the oracle knows of words of stacks: what is live by these alone.

use std::collections::BTreeSet;

use crate::verdict::spread;
use crate::world::{Pointer, Slot, Told, World};

type Set = BTreeSet<usize>;

fn is_of_stack(pointer: &Pointer) -> bool {
    matches!(pointer.slot, Slot::Place("stack" | "reg", ..))
}

impl World {
    /// The answer to `expect stacks`.
    pub fn held_by_stacks(&self) -> Told<Vec<String>> {
        if self.off || self.metadata_off {
            return Err("there is no answer".into());
        }
        let all = self.pointers_with_stacks();
        let (of_stacks, others): (Vec<Pointer>, _) = all.iter().copied().partition(is_of_stack);
        let live_by = |pointers: &[Pointer]| {
            let gray = self.tracked().filter(|&id| self.objects[id].is_gray());
            let mut live: Set = gray.collect();
            spread(self, pointers, &mut live);
            live
        };
        let only = &live_by(&all) - &live_by(&others);
        let pointed_to = of_stacks.iter().map(|pointer| pointer.to).collect();
        Ok(self.names(&(&only & &pointed_to)))
    }
}
