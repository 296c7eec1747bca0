//! The interpreter: one statement after another.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};

use kmemleak::{Detector, Platform, SuppressError};

use crate::detector::{Subject, Unsupported};
use crate::failure::{Failure, Reason};
use crate::hidden::Hidden;
use crate::machine::{self, Machine, Supply};
use crate::names::{Names, Object};
use crate::parse::{Script, size_suits};
use crate::statement::{Allocator, Counting, Name, Place, Slot, Statement, Switch, Word};
use crate::tasks::ScriptTasks;

const WORD: usize = size_of::<usize>();
/// Words of a region.
const REGION_WORDS: usize = 64;

/// What an `Arc` puts into its block beside the value.
const ARC_INNER: &str = "alloc::sync::ArcInner";
/// Where the counts of such a block lie.
const STRONG: usize = 0;
const WEAK: usize = WORD;

/// A call stack: a constructor of this type, inlined into the label.
fn constructor(block_type: &str, site: &str) -> String {
    format!("alloc::boxed::Box<T>::new<{block_type}>\n{site}")
}

/// Why a statement was not done.
pub(crate) enum Stop {
    Misuse(String),
    Unsupported,
    Mismatch { expected: String, got: String },
}

impl From<Unsupported> for Stop {
    fn from(_: Unsupported) -> Self {
        Self::Unsupported
    }
}

impl From<SuppressError> for Stop {
    fn from(why: SuppressError) -> Self {
        Self::Misuse(why.to_string())
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Misuse(what)
    }
}

/// Runs a script. Neither the machine nor the detector has anything left of an earlier script.
pub fn run<P: Platform>(
    script: &Script<'_>,
    machine: &mut dyn Machine,
    detector: &Detector<P>,
) -> Result<(), Failure> {
    let mut run = Run {
        subject: Subject::new(detector),
        machine,
        names: Names::default(),
        tasks: ScriptTasks::default(),
        checked: false,
    };
    for line in &script.lines {
        run.machine.begin_line(line.number);
        run.machine.advance_us(1);
        run.machine.call_from(&format!("line {}", line.number));
        run.statement(&line.statement).map_err(|stop| Failure {
            line: line.number,
            reason: match stop {
                Stop::Misuse(what) => Reason::Misuse(what),
                Stop::Unsupported => Reason::Unsupported(line.text.to_owned()),
                Stop::Mismatch { expected, got } => Reason::Mismatch { expected, got },
            },
        })?;
    }
    Ok(())
}

/// A script that runs.
pub(crate) struct Run<'r, P> {
    pub(crate) subject: Subject<'r, P>,
    pub(crate) machine: &'r mut dyn Machine,
    pub(crate) names: Names,
    pub(crate) tasks: ScriptTasks,
    /// There is a verdict to speak of.
    pub(crate) checked: bool,
}

impl<P: Platform> Run<'_, P> {
    fn statement(&mut self, statement: &Statement<'_>) -> Result<(), Stop> {
        let start = |name: Name<'_>| self.names.get(name).map(|object| object.start.get());
        match *statement {
            Statement::Alloc {
                name,
                size,
                align,
                min_count,
                from,
                site,
                block_type,
                counted,
            } => {
                self.names.is_free(name)?;
                self.alloc(Object {
                    name: name.into(),
                    start: Hidden::new(0),
                    size,
                    align,
                    min_count,
                    from,
                    site: match (block_type, counted) {
                        (_, Counting::Arc) => constructor(&format!("{ARC_INNER}<{site}>"), site),
                        (Some(name), Counting::None) => constructor(name, site),
                        (None, Counting::None) => site.into(),
                    },
                    live: true,
                })?;
                if counted == Counting::Arc {
                    self.set_count(name, STRONG, 1)?;
                    self.set_count(name, WEAK, 1)?;
                }
            }
            Statement::Free(name) => self.free(name)?,
            Statement::Realloc(name, size) => self.realloc(name, size)?,
            Statement::FreePart(name, offset, len) => self.free_part(name, offset, len)?,
            Statement::Store(slot, target) => {
                let value = self.names.value(target)?;
                let place = self.names.place(slot, self.machine)?;
                // SAFETY: `place` gives places, and words of live blocks.
                unsafe { self.machine.write(place.get(), value.get()) };
            }
            Statement::NotLeak(name) => self.subject.not_leak(start(name)?)?,
            Statement::Ignore(name) => {
                let object = self.names.get(name)?;
                self.subject.ignore(object.from, object.start.get())?;
            }
            Statement::NoScan(name) => self.subject.no_scan(start(name)?)?,
            Statement::ScanArea(name, offset, len) => self.scan_area(name, offset, len)?,
            Statement::TransientLeak(name) => self.subject.transient_leak(start(name)?)?,
            Statement::UpdateTrace(name, site) => {
                let start = start(name)?;
                self.machine.call_from(site);
                self.subject.update_trace(start)?;
                self.names.set_site(name, site);
            }
            Statement::Strong(name, count) => self.set_count(name, STRONG, count)?,
            Statement::Weak(name, count) => self.set_count(name, WEAK, count)?,
            Statement::Erase(slot) => {
                let place = self.names.place(slot, self.machine)?;
                // SAFETY: as with a store; nobody else writes to what is the script's.
                unsafe { self.subject.erase(place.get()) }?;
            }
            Statement::RegionAdd(region) => {
                let start = self.machine.address(Place::Region(region, 0));
                self.subject.region_add(start, REGION_WORDS * WORD)?;
            }
            Statement::RegionRemove(region) => {
                let start = self.machine.address(Place::Region(region, 0));
                self.subject.region_remove(start)?;
            }
            Statement::Disabled(scope) => self.subject.disabled(scope)?,
            Statement::Suppress(pattern) => self.subject.suppress(pattern)?,
            Statement::Stack(switch) => self.subject.stack(switch)?,
            Statement::MinAgeMs(ms) => self.subject.min_age_ms(ms)?,
            Statement::AdvanceMs(ms) => self.machine.advance_us(ms.saturating_mul(1000)),
            Statement::Scan => {
                self.subject.scan()?;
                self.checked = true;
            }
            Statement::Check => {
                self.subject.check(self.machine.checks())?;
                self.checked = true;
            }
            Statement::Clear => self.subject.clear()?,
            Statement::Mark => self.subject.mark()?,
            Statement::Off => self.subject.off()?,
            Statement::Metadata(switch) => {
                self.machine.supply(match switch {
                    Switch::On => Supply::Given,
                    Switch::Off => Supply::Refused,
                });
                self.subject.metadata(switch)?;
            }
            Statement::Blocked(task, slot) => self.block(task, slot)?,
            Statement::Joins(task, other) => self.join(task, other)?,
            Statement::Woken(task) => self.wake(task)?,
            Statement::TaskList(name) => self.list_tasks(name)?,
            Statement::Expect(ref expectation) => self.verify(expectation)?,
        }
        Ok(())
    }

    /// Allocates a block, notes its address as this object's start, and tells the detector.
    fn alloc(&mut self, object: Object) -> Result<(), Stop> {
        let (from, size) = (object.from, object.size);
        let align = machine::alignment(from, size, object.align);
        let block = align.and_then(|align| self.machine.alloc(from, size, align));
        let start = block.ok_or_else(|| format!("no block of {size} bytes to be had"))?;
        self.machine.call_from(&object.site);
        self.subject.alloc(from, start, size, object.min_count)?;
        let start = Hidden::new(start);
        self.names.set(Object { start, ..object });
        Ok(())
    }

    /// Stores a count.
    fn set_count(&mut self, name: Name<'_>, offset: usize, count: i64) -> Result<(), Stop> {
        let slot = Slot::Word(Word {
            name,
            cpu: None,
            offset,
        });
        let place = self.names.place(slot, self.machine)?;
        // SAFETY: `place` gives words of live blocks.
        unsafe { self.machine.write(place.get(), count as usize) };
        Ok(())
    }

    /// An area that begins past the end of its object could be in another one. So the detector is told of one
    /// from the object's start to the area's end, which lies past the object's end as well.
    fn scan_area(&mut self, name: Name<'_>, offset: usize, len: usize) -> Result<(), Stop> {
        let object = self.names.get(name)?;
        let (offset, len) = match offset < object.size {
            true => (offset, len),
            false => (0, offset.saturating_add(len)),
        };
        self.subject.scan_area(object.start.get() + offset, len)?;
        Ok(())
    }

    /// The free of an object that is not live goes to the detector alone, not to an allocator.
    fn free(&mut self, name: Name<'_>) -> Result<(), Stop> {
        let object = self.names.get(name)?.clone();
        self.subject.free(object.from, object.start.get())?;
        if object.live {
            self.machine
                .free(object.from, object.start.get(), object.size);
            self.names.kill(name);
            self.tasks.forget(name);
        }
        Ok(())
    }

    fn realloc(&mut self, name: Name<'_>, size: usize) -> Result<(), Stop> {
        let old = self.names.live(name)?.clone();
        size_suits(old.from, size)?;
        self.alloc(Object {
            size,
            ..old.clone()
        })?;
        let new = self.names.live(name)?.start;
        let words = old.size.min(size) / WORD;
        match old.from {
            Allocator::Percpu => (0..self.machine.cpus()).for_each(|cpu| {
                let from = self.machine.percpu_copy(old.start.get(), cpu);
                let to = self.machine.percpu_copy(new.get(), cpu);
                self.copy(Hidden::new(from), Hidden::new(to), words);
            }),
            _ => self.copy(old.start, new, words),
        }
        self.machine.call_from(&format!("free of the old {name}"));
        self.subject.free(old.from, old.start.get())?;
        self.machine.free(old.from, old.start.get(), old.size);
        Ok(())
    }

    fn copy(&mut self, from: Hidden, to: Hidden, words: usize) {
        for offset in (0..words).map(|word| word * WORD) {
            // SAFETY: both blocks are live, and have so many words.
            let word = unsafe { self.machine.read(from.get() + offset) };
            // SAFETY: as above.
            unsafe { self.machine.write(to.get() + offset, word) };
        }
    }

    fn free_part(&mut self, name: Name<'_>, offset: usize, len: usize) -> Result<(), Stop> {
        let object = self.names.live(name)?.clone();
        let size = object.size;
        if object.from != Allocator::Pages || offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(format!("{name} has no such pages").into());
        }
        let tail_name = format!("{name}.tail");
        let behind = size - offset - len;
        if behind > 0 {
            self.names.is_free(&tail_name)?;
        }
        let start = object.start.get();
        self.subject.free_part(start + offset, len)?;
        self.machine.free_part(start, size, offset, len);
        if behind > 0 {
            self.names.set(Object {
                name: tail_name.to_string(),
                start: Hidden::new(start + offset + len),
                size: behind,
                ..object.clone()
            });
        }
        if offset == 0 {
            self.names.kill(name);
            self.tasks.forget(name);
        } else {
            self.names.set(Object {
                size: offset,
                ..object
            });
        }
        Ok(())
    }
}
