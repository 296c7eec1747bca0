//! The machine: its memory, its parts, and what a test does to it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use kmemleak::{Root, RootKind};

use crate::allocators::{Allocator, Allocators};
use crate::builder::Builder;
use crate::call_stack::{CallStacks, Labels};
use crate::checkpoints::Checkpoints;
use crate::clock::Time;
use crate::cpus::{Cpus, Running, Stop};
use crate::image::Image;
use crate::memory::{self, Memory, PAGE, WORD};
use crate::metadata::Metadata;
use crate::place::{Place, WORDS};
use crate::tasks::Tasks;

/// Regions that can be registered. They lie outside all sections.
pub const REGIONS: usize = 4;
/// The number of the parked task.
pub const PARKED_TASK: u32 = 7;

impl Builder {
    /// The machine.
    pub fn build(self) -> Arc<Machine> {
        let words = || Memory::new(WORDS * WORD, PAGE);
        Arc::new(Machine {
            data: words(),
            bss: words(),
            percpu: (0..self.cpus).map(|_| words()).collect(),
            frames: words(),
            stack: Memory::new(2 * WORDS * WORD, PAGE),
            registers: words(),
            regions: (0..REGIONS).map(|_| words()).collect(),
            registered: Mutex::new(Vec::new()),
            unreadable: Mutex::new(Vec::new()),
            allocators: Mutex::new(Allocators::new(self.cpus)),
            time: Time::new(self.clock),
            call_stacks: self.call_stacks,
            labels: Labels::new(),
            given: Mutex::new(Vec::new()),
            cpus: Cpus::new(self.cpus),
            metadata: Metadata::new(),
            image: Image::new(),
            tasks: Tasks::default(),
            asked_to_stop: AtomicBool::new(false),
            checkpoints: Checkpoints::default(),
            at_relax: Mutex::new(None),
            at_stop: Mutex::new(None),
            at_name: Mutex::new(None),
            relaxed: AtomicUsize::new(0),
        })
    }
}

type AtRelax = Box<dyn FnMut(&Machine) + Send>;
type AtName = Box<dyn FnMut() + Send>;

/// An emulated machine. The detector sees it through [`Emulated`](crate::Emulated).
pub struct Machine {
    data: Memory,
    bss: Memory,
    percpu: Vec<Memory>,
    frames: Memory,
    /// First the dead words, then the live ones: stacks grow down.
    stack: Memory,
    registers: Memory,
    regions: Vec<Memory>,
    /// Starts and lengths of registered ranges.
    registered: Mutex<Vec<(usize, usize)>>,
    unreadable: Mutex<Vec<(usize, usize)>>,
    allocators: Mutex<Allocators>,
    pub(crate) time: Time,
    pub(crate) call_stacks: CallStacks,
    pub(crate) labels: Labels,
    pub(crate) given: Mutex<Vec<usize>>,
    pub(crate) cpus: Cpus,
    pub(crate) metadata: Metadata,
    /// Its memory while it is frozen.
    pub image: Image,
    /// What it says of its tasks.
    pub tasks: Tasks,
    pub(crate) asked_to_stop: AtomicBool,
    /// The checkpoints of checks and questions.
    pub checkpoints: Checkpoints,
    at_relax: Mutex<Option<AtRelax>>,
    at_stop: Mutex<Option<AtRelax>>,
    at_name: Mutex<Option<AtName>>,
    relaxed: AtomicUsize,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Machine {
    /// Two CPUs, a clock that stands still, and call stacks that are given.
    pub fn new() -> Arc<Self> {
        Self::builder().build()
    }

    /// A machine to be changed before it is built.
    pub fn builder() -> Builder {
        Builder::NEW
    }

    // Memory.

    /// Where a place lies.
    pub fn address(&self, place: Place) -> usize {
        let (start, word) = match place {
            Place::Data(word) => (self.data.start(), word),
            Place::Bss(word) => (self.bss.start(), word),
            Place::PerCpu(cpu, word) => (self.percpu[cpu as usize].start(), word),
            Place::Page(frame) => (self.frames.start(), frame),
            Place::Dead(word) => (self.stack.start(), word),
            Place::Stack(word) => (self.stack.start() + WORDS * WORD, word),
            Place::Register(word) => (self.registers.start(), word),
            Place::Region(region, word) => (self.regions[region].start(), word),
        };
        assert!(word < WORDS, "{place:?} is out of bounds");
        start + word * WORD
    }

    /// The place whose word the byte at `address` belongs to; `None` where there is none, as in blocks.
    pub fn place_at(&self, address: usize) -> Option<Place> {
        let word_of = |start: usize| {
            let word = address.checked_sub(start)? / WORD;
            (word < WORDS).then_some(word)
        };
        let in_percpu = || {
            (0..)
                .zip(&self.percpu)
                .find_map(|(cpu, area)| Some(Place::PerCpu(cpu, word_of(area.start())?)))
        };
        let in_region = || {
            (0..)
                .zip(&self.regions)
                .find_map(|(region, words)| Some(Place::Region(region, word_of(words.start())?)))
        };
        let numbered: [fn(usize) -> Place; 6] = [
            Place::Data,
            Place::Bss,
            Place::Page,
            Place::Stack,
            Place::Dead,
            Place::Register,
        ];
        numbered
            .iter()
            .find_map(|place| word_of(self.address(place(0))).map(place))
            .or_else(in_percpu)
            .or_else(in_region)
    }

    /// Stores a word at a place.
    pub fn store(&self, place: Place, word: usize) {
        self.write(self.address(place), word);
    }

    /// The word at a place.
    pub fn load(&self, place: Place) -> usize {
        self.read(self.address(place))
    }

    /// Writes a word of the machine's memory: of a place, a block that is or was allocated, or an arena. Panics if there is none
    /// at that address.
    pub fn write(&self, address: usize, word: usize) {
        self.assert_word(address);
        // SAFETY: a word of the machine's memory, which stays mapped as long as the machine is there.
        unsafe { self.write_unchecked(address, word) };
    }

    /// Reads a word of the machine's memory, of those that [`write`](Self::write) writes. Panics as [`write`](Self::write) does.
    pub fn read(&self, address: usize) -> usize {
        self.assert_word(address);
        // SAFETY: as above.
        unsafe { self.read_unchecked(address) }
    }

    /// Writes a word without a look at its address, for benchmarks.
    ///
    /// # Safety
    ///
    /// [`write`](Self::write) would not panic.
    #[inline]
    pub unsafe fn write_unchecked(&self, address: usize, word: usize) {
        // SAFETY: the caller's promise.
        unsafe { memory::write(address, word) };
    }

    /// Reads a word without a look at its address, for benchmarks.
    ///
    /// # Safety
    ///
    /// [`read`](Self::read) would not panic.
    #[inline]
    pub unsafe fn read_unchecked(&self, address: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { memory::read(address) }
    }

    /// What lies at the places.
    fn places(&self) -> impl Iterator<Item = &Memory> {
        let single = [
            &self.data,
            &self.bss,
            &self.frames,
            &self.stack,
            &self.registers,
        ];
        single.into_iter().chain(&self.percpu).chain(&self.regions)
    }

    pub(crate) fn each_memory(&self, look: &mut dyn FnMut(&Memory)) {
        self.places().for_each(&mut *look);
        self.allocators().memory().iter().for_each(look);
    }

    fn assert_word(&self, address: usize) {
        let own = self.places().any(|memory| memory.has_word(address));
        assert!(
            own || self.allocators().has_word(address),
            "{address:#x} is no word of the machine's memory"
        );
    }

    // Allocators.

    fn allocators(&self) -> MutexGuard<'_, Allocators> {
        // Freeing what is no block panics, as tests do on purpose; the lists are consistent then.
        self.allocators
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A block of any kind; `None` where there is none of that size and alignment (a power of two), or no memory of the host's.
    pub fn try_alloc(&self, from: Allocator, size: usize, align: usize) -> Option<usize> {
        self.allocators().alloc(from, size, align)
    }

    /// A block, or a panic where there is none.
    fn known_to_fit(&self, from: Allocator, size: usize, align: usize) -> usize {
        let block = self.try_alloc(from, size, align);
        block.unwrap_or_else(|| panic!("no block of {size} bytes aligned to {align} by {from:?}"))
    }

    /// A block of up to 8192 bytes, aligned to 8.
    pub fn slab(&self, size: usize) -> usize {
        self.slab_aligned(size, WORD)
    }

    /// A block with this alignment.
    pub fn slab_aligned(&self, size: usize, align: usize) -> usize {
        self.known_to_fit(Allocator::Slab, size, align)
    }

    /// A power of two of pages, aligned to their size.
    pub fn pages(&self, bytes: usize) -> usize {
        self.known_to_fit(Allocator::Pages, bytes, PAGE)
    }

    /// Whole pages, with a page behind them that is nobody's.
    pub fn vmalloc(&self, bytes: usize) -> usize {
        self.known_to_fit(Allocator::Vmalloc, bytes, PAGE)
    }

    /// A block of which each CPU has a copy. The handle is an address that holds no copy.
    pub fn percpu(&self, size: usize) -> usize {
        self.percpu_aligned(size, WORD)
    }

    /// A per-CPU block; the handle and all copies have an alignment of up to a page.
    pub fn percpu_aligned(&self, size: usize, align: usize) -> usize {
        self.known_to_fit(Allocator::PerCpu, size, align)
    }

    /// Where CPU `cpu`'s copy of a per-CPU block lies; `None` once the block is freed.
    pub fn percpu_copy(&self, handle: usize, cpu: u32) -> Option<usize> {
        self.allocators().percpu_copy(handle, cpu)
    }

    /// Takes back a block of any kind. Panics where none starts.
    pub fn free(&self, start: usize) {
        self.allocators().free(start);
    }

    /// Takes back whole pages of a block of pages; what lies before and behind them become blocks of their own.
    pub fn free_part(&self, start: usize, offset: usize, len: usize) {
        self.allocators().free_part(start, offset, len);
    }

    /// Zeroed memory that belongs to no allocator, for a test to place blocks in as it likes. Aligned to its
    /// size, up to 2 MiB: offsets into it mean the same in each run.
    pub fn arena(&self, bytes: usize) -> usize {
        self.allocators().arena(bytes)
    }

    // Roots.

    /// Makes a range a root. It is memory of the machine, or the detector's own.
    pub fn add_root(&self, start: usize, len: usize) {
        let mut registered = self.registered.lock().expect("nobody panics under it");
        registered.push((start, len));
    }

    /// Makes a range a root no longer; returns whether it was one.
    pub fn remove_root(&self, start: usize) -> bool {
        let mut registered = self.registered.lock().expect("nobody panics under it");
        let before = registered.len();
        registered.retain(|&(one, _)| one != start);
        registered.len() < before
    }

    /// The root with this number, in the order of the walk.
    pub(crate) fn root(&self, number: usize) -> Option<Root> {
        let cpus = self.percpu.len();
        let words = |kind, memory: &Memory| Root {
            kind,
            start: memory.start(),
            len: WORDS * WORD,
        };
        Some(match number {
            0 => words(RootKind::Section, &self.data),
            1 => words(RootKind::Section, &self.bss),
            2 => words(RootKind::Frames(0), &self.frames),
            3 => Root {
                kind: RootKind::Stack(PARKED_TASK),
                start: self.address(Place::Stack(0)),
                len: WORDS * WORD,
            },
            // A task that waits has saved them, and they are its own.
            4 if self.tasks.waits(PARKED_TASK) => {
                words(RootKind::Stack(PARKED_TASK), &self.registers)
            }
            4 => words(RootKind::Registers(0), &self.registers),
            _ if number < 5 + cpus => {
                let cpu = number - 5;
                words(RootKind::PerCpu(cpu as u32), &self.percpu[cpu])
            }
            _ => {
                let registered = self.registered.lock().expect("nobody panics under it");
                let number = number - 5 - cpus;
                match registered.get(number) {
                    Some(&(start, len)) => Root {
                        kind: RootKind::Region,
                        start,
                        len,
                    },
                    None => self.tasks.stack(number - registered.len())?,
                }
            }
        })
    }

    /// Makes a range unreadable, as if a kernel had unmapped it; the detector is told so when it asks.
    pub fn make_unreadable(&self, start: usize, len: usize) {
        let mut unreadable = self.unreadable.lock().expect("nobody panics under it");
        unreadable.push((start, len));
    }

    pub(crate) fn readable(&self, start: usize, len: usize) -> bool {
        // The host maps nothing in the first page.
        start >= PAGE
            && self
                .unreadable
                .lock()
                .expect("nobody panics under it")
                .iter()
                // By distances: the end of a range may be that of the address space.
                .all(|&(from, bytes)| {
                    start.wrapping_sub(from) >= bytes && from.wrapping_sub(start) >= len
                })
    }

    // Time, call stacks, CPUs.

    /// Lets time pass.
    pub fn advance_us(&self, us: u64) {
        self.time.advance_us(us);
    }

    /// What the call stacks are until this is called again: labels, innermost first.
    pub fn call_from(&self, labels: &[&str]) {
        let frames = labels.iter().map(|label| self.labels.intern(label));
        let frames = frames.collect();
        *self.given.lock().expect("nobody panics under it") = frames;
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> u32 {
        self.cpus.count()
    }

    /// The right to run while the world is not stopped. A thread that changes the graph beside checks has it
    /// while it does, and lets go of it between two changes.
    pub fn running(&self) -> Running<'_> {
        self.cpus.running()
    }

    /// Sets how requests to stop the world are answered.
    pub fn set_stop(&self, stop: Stop) {
        self.cpus.set_stop(stop);
    }

    /// Asks a pass that runs beside other code to give up.
    pub fn ask_to_stop(&self) {
        self.asked_to_stop.store(true, Ordering::Relaxed);
    }

    /// Takes back the request to give up.
    pub fn ask_no_more(&self) {
        self.asked_to_stop.store(false, Ordering::Relaxed);
    }

    /// Calls `action` whenever the detector lets others run, between two steps of a pass while other code runs:
    /// so a test changes the graph at a place of its choice. It is not called while it runs. (It is given the machine,
    /// for one that held it would keep it permanently.)
    pub fn at_relax(&self, action: impl FnMut(&Machine) + Send + 'static) {
        *self.at_relax.lock().expect("nobody panics under it") = Some(Box::new(action));
    }

    /// Calls `action` as late as possible before the world is stopped, whenever the detector asks for that.
    pub fn at_stop(&self, action: impl FnMut(&Machine) + Send + 'static) {
        *self.at_stop.lock().expect("nobody panics under it") = Some(Box::new(action));
    }

    /// Calls `action` whenever the detector has a function or a root named: so a test asks it something from there. It is
    /// not called while it runs.
    pub fn at_name(&self, action: impl FnMut() + Send + 'static) {
        *self.at_name.lock().expect("nobody panics under it") = Some(Box::new(action));
    }

    pub(crate) fn name(&self) {
        let taken = self.at_name.lock().expect("nobody panics under it").take();
        if let Some(mut action) = taken {
            action();
            *self.at_name.lock().expect("nobody panics under it") = Some(action);
        }
    }

    /// How often the detector has let others run, on all threads together.
    pub fn relaxed(&self) -> usize {
        self.relaxed.load(Ordering::Relaxed)
    }

    pub(crate) fn relax(&self) {
        self.relaxed.fetch_add(1, Ordering::Relaxed);
        if !self.act(&self.at_relax) {
            std::thread::yield_now();
        }
    }

    pub(crate) fn before_stop(&self) {
        self.act(&self.at_stop);
    }

    /// Does what was asked for at a moment like this. False if nothing was.
    fn act(&self, place: &Mutex<Option<AtRelax>>) -> bool {
        let taken = place.lock().expect("nobody panics under it").take();
        let Some(mut action) = taken else {
            return false;
        };
        action(self);
        // Unless the action set another one in its place.
        let mut place = place.lock().expect("nobody panics under it");
        place.get_or_insert(action);
        true
    }

    // Metadata.

    /// Lets the detector have so many pages of metadata more: 0 refuses each, `usize::MAX` none.
    pub fn set_metadata_budget(&self, pages: usize) {
        self.metadata.set_budget(pages);
    }

    /// Pages of metadata that the detector holds.
    pub fn metadata_pages(&self) -> usize {
        self.metadata.pages()
    }

    /// How often the detector was refused a page of metadata.
    pub fn metadata_refused(&self) -> usize {
        self.metadata.refused()
    }
}

#[cfg(test)]
mod tests;
