//! The detector, as scripts use it: one line for each thing that can be asked of it.
//!
//! What it can't do says so here and nowhere else.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use kmemleak::{
    AllocOptions, Detector, NoAnswer, NoStackOnly, NoTasks, NotCompared, Platform, Rank, Slot,
    SlotPlace, SuppressError,
};

use crate::hidden::Hidden;
use crate::machine::Checks;
use crate::statement::{Allocator, Expected, Scope, Switch};

/// The detector can't do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported;

/// An object of the last verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    pub(crate) start: Hidden,
    pub(crate) size: usize,
    /// Stands for its call stack.
    pub(crate) call_stack: u32,
    pub(crate) rank: Option<Rank>,
}

/// A word of an answer.
pub(crate) struct Found {
    pub(crate) word: Hidden,
    /// What the platform calls it, if it lies in a root.
    pub(crate) name: String,
}

/// A lost task.
pub(crate) struct LostOne {
    pub(crate) task: u32,
    pub(crate) bytes: usize,
    pub(crate) blocks: usize,
}

type Done = Result<(), Unsupported>;
type Told<T> = Result<T, NoAnswer>;

/// A detector.
pub(crate) struct Subject<'d, P> {
    detector: &'d Detector<P>,
    /// Objects that it knew before the script began.
    tracked_before: usize,
}

impl<'d, P: Platform> Subject<'d, P> {
    pub(crate) fn new(detector: &'d Detector<P>) -> Self {
        // Scripts say themselves how old a suspect has to be.
        detector.set_min_age_us(0);
        Self {
            detector,
            tracked_before: detector.tracking().objects,
        }
    }

    // Callbacks.

    pub(crate) fn alloc(&self, from: Allocator, start: usize, size: usize, min_count: i32) -> Done {
        let options = AllocOptions::new().min_count(min_count);
        match from {
            Allocator::Slab | Allocator::Pages | Allocator::Vmalloc => {
                self.detector.alloc(start, size, options)
            }
            // A per-CPU block needs one reference; that it needs more can't be said.
            Allocator::Percpu if min_count > 1 => return Err(Unsupported),
            Allocator::Percpu => {
                self.detector.alloc_percpu(start, size);
                match min_count {
                    0 => self.detector.not_leak(start),
                    -1 => self.detector.ignore(start),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn free(&self, from: Allocator, start: usize) -> Done {
        match from {
            Allocator::Percpu => self.detector.free_percpu(start),
            _ => self.detector.free(start),
        }
        Ok(())
    }

    pub(crate) fn free_part(&self, start: usize, len: usize) -> Done {
        self.detector.free_part(start, len);
        Ok(())
    }

    pub(crate) fn not_leak(&self, start: usize) -> Done {
        self.detector.not_leak(start);
        Ok(())
    }

    pub(crate) fn ignore(&self, from: Allocator, start: usize) -> Done {
        match from {
            Allocator::Percpu => self.detector.ignore_percpu(start),
            _ => self.detector.ignore(start),
        }
        Ok(())
    }

    pub(crate) fn no_scan(&self, start: usize) -> Done {
        self.detector.no_scan(start);
        Ok(())
    }

    pub(crate) fn scan_area(&self, start: usize, len: usize) -> Done {
        self.detector.scan_area(start, len);
        Ok(())
    }

    pub(crate) fn transient_leak(&self, start: usize) -> Done {
        self.detector.transient_leak(start);
        Ok(())
    }

    pub(crate) fn update_trace(&self, start: usize) -> Done {
        self.detector.update_trace(start);
        Ok(())
    }

    /// Clears a word.
    ///
    /// # Safety
    ///
    /// It can be written to, and nobody else does.
    pub(crate) unsafe fn erase(&self, slot: usize) -> Done {
        // SAFETY: the caller's promise.
        unsafe {
            self.detector
                .erase(core::ptr::with_exposed_provenance_mut(slot))
        };
        Ok(())
    }

    // Settings.

    pub(crate) fn region_add(&self, start: usize, len: usize) -> Done {
        // Without memory it is not added; the script sees it by what is lost.
        let _ = self.detector.region_add(start, len);
        Ok(())
    }

    pub(crate) fn region_remove(&self, start: usize) -> Done {
        self.detector.region_remove(start);
        Ok(())
    }

    pub(crate) fn disabled(&self, scope: Scope) -> Done {
        match scope {
            Scope::Begin => self.detector.disabled_begin(),
            Scope::End => self.detector.disabled_end(),
        }
        Ok(())
    }

    pub(crate) fn suppress(&self, pattern: &str) -> Result<(), SuppressError> {
        self.detector.suppress(pattern)
    }

    /// There are no suppressions and no mark.
    pub(crate) fn forget_suppressions_and_mark(&self) {
        // No call comes from inside an answer, so none is refused.
        let _ = self.detector.unsuppress_all();
        let _ = self.detector.unmark();
    }

    pub(crate) fn stack(&self, switch: Switch) -> Done {
        self.command(match switch {
            Switch::On => "stack=on",
            Switch::Off => "stack=off",
        })
    }

    pub(crate) fn min_age_ms(&self, ms: u64) -> Done {
        self.detector.set_min_age_us(ms.saturating_mul(1000));
        Ok(())
    }

    /// Makes the detector treat its store of metadata as used up, or no longer. (The machine refuses more, or gives it.)
    pub(crate) fn metadata(&self, switch: Switch) -> Done {
        self.detector.exhaust_metadata(switch == Switch::Off);
        Ok(())
    }

    // Passes.

    pub(crate) fn scan(&self) -> Done {
        // An error once it is off: then there is no verdict but the one before.
        let _ = self.detector.scan();
        Ok(())
    }

    pub(crate) fn check(&self, checks: Checks) -> Done {
        // An error once it is off: then there is no verdict but the one before.
        let _ = match checks {
            Checks::Stopped => self.detector.check(),
            Checks::Frozen => self.detector.check_frozen(),
        };
        Ok(())
    }

    pub(crate) fn clear(&self) -> Done {
        self.command("clear")
    }

    pub(crate) fn mark(&self) -> Done {
        // Without memory nothing is remembered; the script sees it by what is new.
        let _ = self.detector.mark();
        Ok(())
    }

    pub(crate) fn off(&self) -> Done {
        self.command("off")
    }

    // What it says.

    pub(crate) fn leaks(&self) -> Vec<Leak> {
        let mut leaks = Vec::new();
        // Neither this question nor those below come from inside an answer: none is refused.
        let _ = self.detector.for_each_unreferenced(&mut |object| {
            leaks.push(Leak {
                start: Hidden::new(object.start),
                size: object.size,
                call_stack: object.call_stack,
                rank: object.rank,
            });
        });
        leaks
    }

    pub(crate) fn interior(&self) -> Vec<Hidden> {
        let mut interior = Vec::new();
        let _ = self
            .detector
            .for_each_interior(&mut |object| interior.push(Hidden::new(object.start)));
        interior
    }

    pub(crate) fn stack_only(&self) -> Result<Vec<Hidden>, NoStackOnly> {
        let mut found = Vec::new();
        self.detector
            .for_each_stack_only(&mut |object| found.push(Hidden::new(object.start)))?;
        Ok(found)
    }

    pub(crate) fn suppressed(&self) -> Vec<Hidden> {
        let mut suppressed = Vec::new();
        let _ = self
            .detector
            .for_each_suppressed(&mut |object| suppressed.push(Hidden::new(object.start)));
        suppressed
    }

    pub(crate) fn new_leaks(&self) -> Vec<Hidden> {
        let mut new = Vec::new();
        let _ = self
            .detector
            .for_each_new(&mut |object| new.push(Hidden::new(object.start)));
        new
    }

    /// Bytes and blocks that came to a site since the mark.
    pub(crate) fn growth(&self, label: &str) -> (i64, i64) {
        let (mut bytes, mut blocks) = (0, 0);
        // Where some are not counted for lack of memory, the script sees it by the figures.
        let _ = self
            .detector
            .for_each_site(kmemleak::SiteOrder::Bytes, &mut |site| {
                let mut name = String::new();
                if let [frame] = *site.call_stack {
                    // Writing to a `String` never fails.
                    let _ = self.detector.platform().functions(frame, &mut name);
                }
                // Before it may be a constructor, which says the type.
                if name.lines().next_back() == Some(label) {
                    // Where there was no mark, all has come since.
                    let (more, more_blocks) = match site.growth {
                        Some(growth) => (growth.bytes, growth.objects),
                        None => (site.bytes as i64, site.objects as i64),
                    };
                    bytes += more;
                    blocks += more_blocks;
                }
            });
        (bytes, blocks)
    }

    /// The words that point into an object.
    pub(crate) fn holders(&self, start: Hidden) -> Told<Vec<Found>> {
        let mut found = Vec::new();
        self.detector
            .holders(start.get(), &mut |slot| found.push(self.found(&slot)))?;
        Ok(found)
    }

    /// The words of the shortest chain to an object, from the root on.
    pub(crate) fn path(&self, start: Hidden) -> Told<Vec<Found>> {
        let mut found = Vec::new();
        self.detector
            .path(start.get(), &mut |slot| found.push(self.found(&slot)))?;
        Ok(found)
    }

    /// The type of an object, as a report says it.
    pub(crate) fn type_of(&self, start: Hidden) -> Option<String> {
        let dump = self.answer(&format!("dump {:x}", start.get()));
        let mut lines = dump.lines();
        lines.find_map(|line| line.strip_prefix("  type ").map(String::from))
    }

    /// The objects of the cycle in which a leader lies, the leader first; none if it lies in none, or is no leader.
    pub(crate) fn cycle(&self, leader: Hidden) -> Vec<Hidden> {
        let report = self.answer("report --json");
        let of_leader = format!(",\"address\":\"{:#018x}\",\"size\"", leader.get());
        let mut lines = report.lines();
        let line =
            lines.find(|line| line.contains("\"kind\":\"object\"") && line.contains(&of_leader));
        // A type may hold brackets, but none before a comma and a quote.
        let cycle = line.and_then(|line| line.split_once("\"cycle\":[")?.1.split_once("],\""));
        let words = cycle.map_or("", |(cycle, _)| cycle).split('"');
        let numbers = words.filter_map(|word| word.strip_prefix("0x"));
        let addresses = numbers.filter_map(|digits| usize::from_str_radix(digits, 16).ok());
        addresses.map(Hidden::new).collect()
    }

    /// The counted blocks whose count is wrong, and how much it is too high.
    pub(crate) fn counts(&self) -> Result<Vec<(Hidden, i64)>, NotCompared> {
        let mut wrong = Vec::new();
        self.detector.for_each_miscount(&mut |block| {
            wrong.push((Hidden::new(block.start), block.difference));
        })?;
        Ok(wrong)
    }

    fn answer(&self, line: &str) -> String {
        let mut answer = String::new();
        // Writing to a `String` never fails; what was not done has no answer.
        let _ = self.detector.command(line, &mut answer);
        answer
    }

    fn found(&self, slot: &Slot) -> Found {
        let mut name = String::new();
        if let SlotPlace::Root(root) = slot.place {
            // Writing to a `String` never fails.
            let _ = self
                .detector
                .platform()
                .name_root(root, slot.address, &mut name);
        }
        Found {
            word: Hidden::new(slot.address),
            name,
        }
    }

    /// The tasks that can never run again.
    pub(crate) fn lost_tasks(&self) -> Result<Vec<LostOne>, NoTasks> {
        let mut lost = Vec::new();
        self.detector.for_each_lost_task(&mut |task| {
            lost.push(LostOne {
                task: task.task,
                bytes: task.bytes,
                blocks: task.objects,
            });
        })?;
        Ok(lost)
    }

    /// The warnings since this was last asked.
    pub(crate) fn warnings(&self) -> String {
        let mut text = String::new();
        self.detector.drain_warnings(&mut text);
        text
    }

    pub(crate) fn tracked(&self) -> usize {
        self.detector
            .tracking()
            .objects
            .saturating_sub(self.tracked_before)
    }

    pub(crate) fn state(&self) -> Expected {
        if !self.detector.is_on() {
            return Expected::Disabled;
        }
        let mut status = String::new();
        // Writing to a `String` never fails.
        let _ = self.detector.command("status", &mut status);
        let state = status.lines().find(|line| line.starts_with("state"));
        if state.is_some_and(|line| line.contains("incomplete")) {
            Expected::Incomplete
        } else {
            Expected::Enabled
        }
    }

    fn command(&self, line: &str) -> Done {
        // Writing to a `String` never fails; the answer is not looked at.
        let _ = self.detector.command(line, &mut String::new());
        Ok(())
    }
}
