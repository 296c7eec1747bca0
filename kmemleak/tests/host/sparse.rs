//! A platform whose memory is a map of words: blocks may lie anywhere, and nothing real is behind an address.
//!
//! The emulated machine has memory of the host, so its addresses are the host's. Here a test names the addresses: the upper
//! half, the hole that is no address, the last page, 256 MiB beside another. Words that were never written are
//! zero; every address that the detector reads is kept, and so a read of what is no block and no root is seen. The detector is held
//! to what is said of [`Platform::read_frozen`].

use std::collections::{BTreeSet, HashMap};
use std::ops::{ControlFlow, Range, RangeInclusive};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::lab::{answer, pool};
use kmemleak::{
    AllocOptions, Comm, Context, Detector, ForeignWords, How, ImageLost, IrqState, Level,
    MAX_FRAMES, METADATA_PAGE, Platform, Root, RootCursor, RootKind, StopError, StoppedCpu, Words,
};

/// Where a kernel's blocks lie.
pub const BLOCKS: usize = 0xffff_8880_0010_0000;
/// Where its sections do: a root of one page.
pub const ROOT: usize = 0xffff_ffff_8000_0000;
const ROOT_BYTES: usize = 4096;
const WORD: usize = size_of::<usize>();
/// Frozen memory is asked for in a page, and so many words of it at once.
const PAGE: usize = 4096;
const AT_ONCE: usize = 64;

/// The platform. All of it may be changed while the detector runs.
pub struct Sparse {
    words: Mutex<HashMap<usize, usize>>,
    pub roots: Mutex<Vec<Root>>,
    reads: Mutex<BTreeSet<usize>>,
    pub now_us: AtomicU64,
    pub cpus: AtomicU32,
    /// How far apart the copies of a per-CPU block lie; the handle is the first.
    pub copy_distance: AtomicUsize,
    /// Where blocks may lie.
    pub block_addresses: Mutex<RangeInclusive<usize>>,
    /// How far above its physical address memory is mapped.
    pub physical_offset: AtomicUsize,
    call_stack: Mutex<Vec<usize>>,
    /// Where the pages of metadata lie that it has given.
    pages: Mutex<Vec<usize>>,
    /// And those that it got back: they are poisoned, and kept.
    returned: Mutex<Vec<usize>>,
    preemption: Mutex<Option<Preemption>>,
    /// What it does not vouch for.
    unreadable: Mutex<Vec<Range<usize>>>,
    /// Whether the world can't be stopped.
    pub never_stops: AtomicBool,
    /// Whether stacks may be unmapped while a scan goes on.
    pub stacks_go: AtomicBool,
    /// How often interrupts went off since others were let run last, and the most of that.
    windows: AtomicUsize,
    pub most_windows: AtomicUsize,
    /// How many pages more there are.
    budget: AtomicUsize,
}

/// What another task does when this one is about to turn interrupts off, and how often that happens before.
struct Preemption {
    after: usize,
    task: Box<dyn FnOnce() + Send>,
}

/// What a page holds that was given back.
const POISON: u8 = 0x5a;

#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "the detector's")] [u8; METADATA_PAGE]);

impl Sparse {
    pub fn new() -> Self {
        let root = Root {
            kind: RootKind::Section,
            start: ROOT,
            len: ROOT_BYTES,
        };
        Self {
            words: Mutex::default(),
            roots: Mutex::new(vec![root]),
            reads: Mutex::default(),
            now_us: AtomicU64::new(1),
            cpus: AtomicU32::new(2),
            copy_distance: AtomicUsize::new(4096),
            block_addresses: Mutex::new(0..=usize::MAX),
            physical_offset: AtomicUsize::new(0),
            call_stack: Mutex::default(),
            pages: Mutex::default(),
            returned: Mutex::default(),
            preemption: Mutex::default(),
            unreadable: Mutex::default(),
            never_stops: AtomicBool::new(false),
            stacks_go: AtomicBool::new(false),
            windows: AtomicUsize::new(0),
            most_windows: AtomicUsize::new(0),
            budget: AtomicUsize::new(usize::MAX),
        }
    }

    pub fn write(&self, address: usize, word: usize) {
        lock(&self.words).insert(address, word);
    }

    /// Nobody vouches for these bytes from now on.
    pub fn make_unreadable(&self, bytes: Range<usize>) {
        lock(&self.unreadable).push(bytes);
    }

    /// Callbacks come from here, from now on.
    pub fn call_from(&self, frames: &[usize]) {
        *lock(&self.call_stack) = frames.to_vec();
    }

    /// There are so many pages more of metadata.
    pub fn set_metadata_budget(&self, pages: usize) {
        self.budget.store(pages, Ordering::Relaxed);
    }

    /// Lets another task run right before interrupts go off, when that has happened `after` times.
    pub fn preempt(&self, after: usize, task: impl FnOnce() + Send + 'static) {
        let task = Box::new(task);
        *lock(&self.preemption) = Some(Preemption { after, task });
    }

    /// Whether that is still to come; it won't any more.
    pub fn take_preemption(&self) -> bool {
        lock(&self.preemption).take().is_some()
    }

    fn be_preempted(&self) {
        let mut preemption = lock(&self.preemption);
        if let Some(next) = &mut *preemption
            && next.after > 0
        {
            next.after -= 1;
            return;
        }
        let now = preemption.take();
        drop(preemption);
        if let Some(now) = now {
            (now.task)();
        }
    }

    /// Words of pages that were written to after they had been given back.
    pub fn words_written_too_late(&self) -> usize {
        let returned = lock(&self.returned);
        let words = returned
            .iter()
            .flat_map(|page| (*page..page + METADATA_PAGE).step_by(WORD));
        let written = words.filter(|&word| {
            let word = std::ptr::with_exposed_provenance::<[u8; WORD]>(word);
            // SAFETY: in a page that is kept.
            let now = unsafe { word.read_volatile() };
            now != [POISON; WORD]
        });
        written.count()
    }

    /// The addresses that have been read, since this was last asked, outside the first root and these
    /// blocks: a start and a length each.
    pub fn foreign_reads(&self, known: &[(usize, usize)]) -> Vec<usize> {
        let known = |address: &usize| {
            (ROOT..ROOT + ROOT_BYTES).contains(address)
                || known
                    .iter()
                    .any(|(start, len)| address.wrapping_sub(*start) < *len)
        };
        let reads = std::mem::take(&mut *lock(&self.reads));
        reads
            .into_iter()
            .filter(|address| !known(address))
            .collect()
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        let pages = std::mem::take(&mut *lock(&self.pages));
        let returned = std::mem::take(&mut *lock(&self.returned));
        for page in pages.into_iter().chain(returned) {
            let page = std::ptr::with_exposed_provenance_mut::<Page>(page);
            // SAFETY: a box's, given back once; the detector goes with its platform.
            drop(unsafe { Box::from_raw(page) });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics under it")
}

// SAFETY: roots and blocks are read by a map, which knows no memory but its map; metadata pages are boxes that live as
// long as the platform. There are no interrupts, and one thread.
unsafe impl Platform for Sparse {
    fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    fn irq_save(&self) -> IrqState {
        let windows = self.windows.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_windows.fetch_max(windows, Ordering::Relaxed);
        self.be_preempted();
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        let root = lock(&self.roots).get(cursor.index).copied();
        cursor.index += 1;
        root
    }

    fn context(&self) -> Context {
        Context {
            task: 1,
            cpu: 0,
            level: Level::Task,
        }
    }

    fn comm(&self) -> Comm {
        Comm::new("sparse")
    }

    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let call_stack = lock(&self.call_stack);
        let len = call_stack.len().min(MAX_FRAMES);
        frames[..len].copy_from_slice(&call_stack[..len]);
        len
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        let take = |budget: usize| budget.checked_sub(1);
        let (order, fail) = (Ordering::Relaxed, Ordering::Relaxed);
        self.budget.fetch_update(order, fail, take).ok()?;
        let page = NonNull::from(Box::leak(Box::new(Page([0; METADATA_PAGE]))));
        lock(&self.pages).push(page.expose_provenance().get());
        Some(page.cast())
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        // SAFETY: a page that was given, and is nobody else's.
        unsafe { page.as_ptr().write_bytes(POISON, METADATA_PAGE) };
        let page = page.addr().get();
        lock(&self.pages).retain(|&given| given != page);
        lock(&self.returned).push(page);
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        if self.never_stops.load(Ordering::Relaxed) {
            return Err(StopError::Unsupported);
        }
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        Ok(())
    }

    fn freeze(&self, at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
        self.stop_world(at_stop)?;
        Ok(0)
    }

    unsafe fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        let len = size_of_val(words);
        assert!(address.is_multiple_of(WORD) && (1..=AT_ONCE).contains(&words.len()));
        assert_eq!(address / PAGE, (address + (len - 1)) / PAGE, "in one page");
        assert!(self.readable(address, len), "{address:#x} is not readable");
        for (index, word) in words.iter_mut().enumerate() {
            // Nobody writes while memory is frozen, so this is what it held.
            // SAFETY: as the caller promises.
            *word = unsafe { self.read(address + index * WORD) };
        }
        Ok(())
    }

    fn cpus(&self) -> u32 {
        self.cpus.load(Ordering::Relaxed)
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        let distance = self.copy_distance.load(Ordering::Relaxed);
        handle.wrapping_add(distance.wrapping_mul(cpu as usize))
    }

    fn block_addresses(&self) -> RangeInclusive<usize> {
        lock(&self.block_addresses).clone()
    }

    fn phys_to_virt(&self, start: usize, _len: usize) -> Option<usize> {
        Some(start.wrapping_add(self.physical_offset.load(Ordering::Relaxed)))
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        let end = start.saturating_add(len);
        let meets = |other: &Range<usize>| start < other.end && other.start < end;
        !lock(&self.unreadable).iter().any(meets)
    }

    fn stays_readable(&self, _: usize, _: usize) -> bool {
        !self.stacks_go.load(Ordering::Relaxed)
    }

    fn relax(&self) -> ControlFlow<()> {
        self.windows.store(0, Ordering::Relaxed);
        ControlFlow::Continue(())
    }

    fn words(&self) -> Words<'_> {
        Words::Foreign(self)
    }
}

// SAFETY: it looks into a map.
unsafe impl ForeignWords for Sparse {
    unsafe fn read(&self, address: usize) -> usize {
        lock(&self.reads).insert(address);
        lock(&self.words).get(&address).copied().unwrap_or(0)
    }
}

/// A detector over such memory, and what most tests do with it.
#[derive(Clone)]
pub struct SparseLab {
    pub detector: Arc<Detector<Sparse>>,
}

impl SparseLab {
    pub fn new() -> Self {
        Self {
            detector: Arc::new(Detector::new(Sparse::new()).with_pool(pool::<16>())),
        }
    }

    pub fn platform(&self) -> &Sparse {
        self.detector.platform()
    }

    /// A block was handed out.
    pub fn alloc(&self, start: usize, size: usize) {
        self.detector.alloc(start, size, AllocOptions::new());
    }

    /// Word `index` of the root is this.
    pub fn hold(&self, index: usize, word: usize) {
        self.platform().write(ROOT + index * WORD, word);
    }

    /// What a check finds, by address.
    pub fn leaks(&self) -> Vec<usize> {
        self.platform().now_us.fetch_add(1, Ordering::Relaxed);
        self.detector.check().expect("the detector is on");
        self.listed()
    }

    /// What a check of frozen memory finds, by address.
    pub fn leaks_when_frozen(&self) -> Vec<usize> {
        self.platform().now_us.fetch_add(1, Ordering::Relaxed);
        let summary = self.detector.check_frozen().expect("the detector is on");
        assert_eq!(summary.how, How::Frozen);
        self.listed()
    }

    /// A pass while other code runs, long after the one before.
    pub fn scan(&self) -> Vec<usize> {
        self.platform()
            .now_us
            .fetch_add(10_000_000, Ordering::Relaxed);
        self.detector.scan().expect("the detector is on");
        self.listed()
    }

    /// What the last one found, and is still there, by address.
    pub fn listed(&self) -> Vec<usize> {
        let mut starts = Vec::new();
        self.detector
            .for_each_unreferenced(&mut |object| starts.push(object.start))
            .expect("asked from outside");
        starts.sort_unstable();
        starts
    }

    /// The warnings since the last time.
    pub fn warnings(&self) -> String {
        let mut text = String::new();
        self.detector.drain_warnings(&mut text);
        text
    }

    /// The answer to a command.
    pub fn say(&self, line: &str) -> String {
        answer(&self.detector, line)
    }

    /// What the status says under this title.
    pub fn status(&self, title: &str) -> String {
        let status = self.say("status");
        let line = status.lines().find_map(|line| line.strip_prefix(title));
        line.unwrap_or_else(|| panic!("no {title} in {status}"))
            .trim()
            .into()
    }

    /// How many objects are tracked, and how many bytes they have.
    pub fn tracked(&self) -> (usize, usize) {
        let tracking = self.detector.tracking();
        (tracking.objects, tracking.bytes)
    }
}
