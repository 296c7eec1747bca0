//! Names of tasks, each kept once: a record has a number of eleven bits.
//!
//! Asking for a name and looking it up at each allocation would cost more than the rest of the callback. So each CPU
//! remembers which task ran on it last, and the number of its name; a task that is renamed keeps its old name here until another
//! one has allocated on its CPU. A name that is not remembered is found by its hash, in one set of an index: the same
//! few steps however many names there are. A task whose name can't be kept is remembered as one without a name: number 0.
//!
//! # Recycling
//!
//! Kernels make tasks as long as they run, and there are numbers for two thousand names. A number is free again when no
//! record has it. Counting records would cost each allocation and each free; so it is found out by a *round* when numbers grow
//! scarce: all marks are cleared, a walk over all records marks what they have, and what is not marked then is freed. Who
//! looks for room takes a round one step further: a few records, in constant time, so that it needs no task of its own.
//! Where there are many records, who checks takes the steps one after the other ([`TaskNames::step`]).
//!
//! Meanwhile others allocate. A number may be about to enter a record behind the walk only if it stands in a *row*, as
//! what a CPU remembers, or as what it [holds](Comms::hold) while a record is in no chunk. Who writes a number to its row marks
//! it thereafter; and a round begins by marking what is in the rows.
//!
//! A copy of a record outlives it, and may outlive its name. So each copy goes with the [`Round`] in which it was made, and
//! a name that was given its number in a later one is none of its own.
//!
//! # Invariants
//!
//! - A number that a record has, or a row, is live, or is 0.
//! - The name of a live number does not change.
//! - An index entry is a hint: the number may have another name, or none.
//!
//! # Locks
//!
//! `adding`, while a name is added or numbers are freed, and round it `round`, while a step of one is taken; nobody waits
//! for the latter. Steps take the locks of chunks. A name that is known takes no lock, nor does one for which there is no
//! room.

use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomic::{AtomicU32, AtomicU64, AtomicUsize, Lock, fence};
use crate::metadata::page_source::PageSource;
use crate::platform::{COMM_LEN, Comm, METADATA_PAGE};
use crate::sizes::{COMM_ROW_PAGES as ROW_PAGES, COMM_ROWS as ROWS, COMM_WAYS as WAYS, MAX_COMMS};

const WORD: usize = size_of::<u64>();
/// Words of a name: its length, with the round in which it got its number, and its bytes.
const NAME_WORDS: usize = 1 + COMM_LEN / WORD;
/// Names of a page.
const PER_PAGE: usize = METADATA_PAGE / WORD / NAME_WORDS;
/// Pages of names.
const PAGES: usize = MAX_COMMS.div_ceil(PER_PAGE);

/// Sets of the index, which has room for twice as many names as there are: a set overflows only by ill luck, and
/// its next name is then not kept.
const SETS: usize = 2 * MAX_COMMS / WAYS;
/// Bits of a number, in an entry of the index. The others are of the name's hash.
const NUMBER_BITS: u32 = MAX_COMMS.ilog2();

/// Numbers whose states share a word.
const STATES: usize = u32::BITS as usize / 2;
/// State: the number has a name.
const LIVE: u32 = 1;
/// State: found in a record or a row, in this round.
const MARKED: u32 = 2;
/// Both for all numbers of a word.
const ALL_LIVE: u32 = u32::MAX / 3 * LIVE;
const ALL_MARKED: u32 = u32::MAX / 3 * MARKED;

/// Names beyond which rounds are begun.
const MANY: usize = MAX_COMMS / 4 * 3;
/// Steps that are passed over after a round that freed nothing.
const REST: u32 = 64;

/// The number of no name.
const NONE: u32 = 0;

/// Bytes of a row: what one CPU writes shares no cache line with what another does.
const ROW_BYTES: usize = 64;
/// Rows of a page.
const ROWS_PER_PAGE: usize = METADATA_PAGE / ROW_BYTES;

/// What a CPU has in its hands. Written by this CPU alone, in callbacks; read by who begins a round.
#[repr(C, align(64))]
struct Row {
    /// The task that ran last, and the CPU: see [`key`]; 0 is none.
    last: AtomicU64,
    /// The number of its name.
    number: AtomicU64,
    /// The number of a record that is in no chunk.
    held: AtomicU64,
}

/// The same, wherever it lies.
#[derive(Clone, Copy)]
struct RowRef<'a> {
    last: &'a AtomicU64,
    number: &'a AtomicU64,
    held: &'a AtomicU64,
}

impl<'a> RowRef<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            last: &row.last,
            number: &row.number,
            held: &row.held,
        }
    }
}

/// A task on a CPU. (Of two CPUs that may come by the same row, one looks at another's.)
#[inline(always)]
fn key(task: u32, cpu: u32) -> u64 {
    (u64::from(cpu) << 32 | u64::from(task)).wrapping_add(1)
}

/// When a copy of a record was made: a number that was given later is another name's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round(u32);

/// Where records are, for who looks for numbers that none of them has.
pub(crate) trait Records {
    /// Shows the numbers in some of the records from `from` on, in constant time. Where the next call is to go on, and `None`
    /// when all have been seen. Starts at 0. Interrupts are off.
    fn numbers(&self, from: usize, look: &mut dyn FnMut(u32)) -> Option<usize>;
}

/// How far a round has come.
struct Progress {
    /// Where the walk goes on; `None` if no round has begun.
    from: Option<usize>,
    /// Steps to be passed over.
    rest: u32,
}

/// All names.
pub(crate) struct TaskNames {
    /// What the first CPUs have in their hands. Relaxed: which numbers must be seen here when a round begins, and what of
    /// older ones, is ordered by the marks in `states`, and by the locks of chunks. (A number that is not seen any more has
    /// given way to another. Its last record entered its chunk before; the walk looks there later, or it would have
    /// locked the chunk first, and then the row's new number was not written yet.)
    rows: [Row; ROWS],
    /// Pages of rows for the CPUs beyond: addresses, inverted; 0 is none. Each publishes a zeroed page: stored with
    /// Release, under `adding`, loaded with Acquire.
    row_pages: [AtomicUsize; ROW_PAGES],
    /// Pages of names: addresses, inverted; 0 is none. Relaxed: stored under `adding`, and found by who has a live number.
    pages: [AtomicUsize; PAGES],
    /// In sets: hash and number of a name; 0 is none. Relaxed: hints, changed under `adding`.
    index: [[AtomicU32; WAYS]; SETS],
    /// States of the numbers. [`LIVE`] publishes a name: it is set with Release, and [`protect`](Self::protect) sees it
    /// with Acquire. [`MARKED`] publishes the row in which the number stands: set with Release, cleared with Acquire. The
    /// walk sets it Relaxed, as a round's steps are ordered by the round's lock; and numbers are freed under both locks.
    states: [AtomicU32; MAX_COMMS.div_ceil(STATES)],
    /// Live numbers. A guess for who has no lock: Relaxed.
    live: AtomicU32,
    /// The number of rounds that have ended. Relaxed: who copies a record loads it before; a number of the record that
    /// is freed thereafter is so by a later round, by the locks of the record's chunk.
    ended: AtomicU32,
    adding: Lock<()>,
    round: Lock<Progress>,
}

impl TaskNames {
    pub(crate) const fn new() -> Self {
        Self {
            rows: [const {
                Row {
                    last: AtomicU64::new(0),
                    number: AtomicU64::new(0),
                    held: AtomicU64::new(0),
                }
            }; ROWS],
            row_pages: [const { AtomicUsize::new(0) }; ROW_PAGES],
            pages: [const { AtomicUsize::new(0) }; PAGES],
            index: [const { [const { AtomicU32::new(0) }; WAYS] }; SETS],
            states: [const { AtomicU32::new(0) }; MAX_COMMS.div_ceil(STATES)],
            live: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            adding: Lock::new(()),
            round: Lock::new(Progress {
                from: None,
                rest: 0,
            }),
        }
    }

    /// The number of the name of the task that runs, if it is the one that this CPU remembers. It is safe from rounds
    /// until this CPU asks for another. Interrupts are off.
    #[inline(always)]
    pub(crate) fn remembered(&self, task: u32, cpu: u32) -> Option<u32> {
        let row = &self.rows[cpu as usize % ROWS];
        let (last, number) = (row.last.load(Relaxed), row.number.load(Relaxed));
        (last == key(task, cpu)).then_some(number as u32)
    }

    /// The same where another task ran last, or where the row lies in a page; 0 if the name can't be kept. Interrupts are
    /// off, and no lock is held.
    pub(crate) fn number(
        &self,
        task: u32,
        cpu: u32,
        comm: impl FnOnce() -> Comm,
        meta: &impl PageSource,
        records: &impl Records,
    ) -> u32 {
        let Some(row) = self.row(cpu, meta) else {
            return NONE;
        };
        let key = key(task, cpu);
        if row.last.load(Relaxed) == key {
            return row.number.load(Relaxed) as u32;
        }
        row.last.store(key, Relaxed);
        let name = Name::of(comm());
        let enter = |number: u32| row.number.store(u64::from(number), Relaxed);
        if let Some(number) = self.find(&name, &enter) {
            return number;
        }
        if self.is_short() {
            self.step(records);
        }
        let added = match self.is_full() {
            true => None,
            false => self.add(&name, &enter, meta),
        };
        added.unwrap_or_else(|| {
            enter(NONE);
            NONE
        })
    }

    /// The number of a name that is known. It has entered the row, and is protected.
    fn find(&self, name: &Name, enter: &impl Fn(u32)) -> Option<u32> {
        let ways = &self.index[name.set];
        ways.iter().find_map(|way| {
            let entry = way.load(Relaxed);
            let number = entry & (MAX_COMMS as u32 - 1);
            if entry >> NUMBER_BITS != name.tag || entry == 0 {
                return None;
            }
            enter(number);
            (self.protect(number) && self.has_name(number, name)).then_some(number)
        })
    }

    /// Adds a name. `None` where there is no memory, no number, or no room in its set.
    fn add(&self, name: &Name, enter: &impl Fn(u32), meta: &impl PageSource) -> Option<u32> {
        let _one_at_a_time = self.adding.lock();
        let known = self.find(name, enter);
        if known.is_some() {
            return known;
        }
        let way = self.index[name.set]
            .iter()
            .find(|way| way.load(Relaxed) == 0)?;
        let number = (1..MAX_COMMS as u32).find(|&number| !self.is_live(number))?;
        let page = &self.pages[number as usize / PER_PAGE];
        if page.load(Relaxed) == 0 {
            page.store(!meta.page()?.expose_provenance().get(), Relaxed);
        }
        let first = name.words[0] | u64::from(self.ended.load(Relaxed)) << 32;
        self.word(number, 0)?.store(first, Relaxed);
        // Release: who reads a byte of the new name in `get` sees that it is another one.
        fence(Release);
        for (index, &word) in name.words.iter().enumerate().skip(1) {
            self.word(number, index)?.store(word, Relaxed);
        }
        enter(number);
        let (state, shift) = self.state(number);
        state.fetch_or((LIVE | MARKED) << shift, Release);
        way.store(name.tag << NUMBER_BITS | number, Relaxed);
        self.live.fetch_add(1, Relaxed);
        Some(number)
    }

    /// Keeps the number of a record that is taken out of its chunk, until [`let_go`](Self::let_go): the number that the
    /// record may have when it enters another. Interrupts are off from before it is taken out.
    pub(crate) fn hold(&self, number: u32, cpu: u32, meta: &impl PageSource) -> u32 {
        let Some(row) = self.row(cpu, meta) else {
            return NONE;
        };
        row.held.store(u64::from(number), Relaxed);
        match self.protect(number) {
            true => number,
            false => NONE,
        }
    }

    /// The record is in a chunk again, or gone.
    pub(crate) fn let_go(&self, cpu: u32, meta: &impl PageSource) {
        if let Some(row) = self.row(cpu, meta) {
            row.held.store(0, Relaxed);
        }
    }

    /// Whether numbers are scarce.
    pub(crate) fn is_short(&self) -> bool {
        self.live.load(Relaxed) as usize > MANY
    }

    fn is_full(&self) -> bool {
        self.live.load(Relaxed) as usize >= MAX_COMMS - 1
    }

    /// Takes a round a step further, or begins one; true while it is not at its end. Interrupts are off, and no lock is held.
    pub(crate) fn step(&self, records: &impl Records) -> bool {
        let Some(mut progress) = self.round.try_lock() else {
            // Another takes it.
            return false;
        };
        let from = match progress.from {
            Some(from) => from,
            None if progress.rest > 0 => {
                progress.rest -= 1;
                return false;
            }
            None => {
                self.begin_round();
                0
            }
        };
        progress.from = records.numbers(from, &mut |number| self.mark(number));
        if progress.from.is_none() {
            progress.rest = match self.end_round() {
                0 => REST,
                _ => 0,
            };
        }
        progress.from.is_some()
    }

    fn begin_round(&self) {
        for state in &self.states {
            // Acquire: of a row whose number was marked before, what is there now is seen, or what came after it.
            state.fetch_and(!ALL_MARKED, Acquire);
        }
        let rows = self.rows.iter().map(RowRef::of);
        let pages = self.row_pages.iter().filter_map(row_page);
        let beyond =
            pages.flat_map(|page| (0..ROWS_PER_PAGE).map(move |index| row_in(page, index)));
        for row in rows.chain(beyond) {
            for word in [row.number, row.held] {
                self.mark(word.load(Relaxed) as u32);
            }
        }
    }

    /// Frees the numbers that are not marked. How many.
    fn end_round(&self) -> u32 {
        let _nobody_adds = self.adding.lock();
        let ended = self.ended.load(Relaxed);
        self.ended.store(ended.wrapping_add(1), Relaxed);
        let freed: u32 = self.states.iter().map(free_unmarked).sum();
        if freed > 0 {
            self.live.fetch_sub(freed, Relaxed);
            for way in self.index.as_flattened() {
                let entry = way.load(Relaxed);
                if entry != 0 && !self.is_live(entry & (MAX_COMMS as u32 - 1)) {
                    way.store(0, Relaxed);
                }
            }
        }
        freed
    }

    /// Sees to it that no round frees the number before this CPU has another in its row, where it stands already.
    /// False if it was free.
    fn protect(&self, number: u32) -> bool {
        let (state, shift) = self.state(number);
        // Acquire, for what was written before it was live. Release, for the row.
        let before = state.fetch_or(MARKED << shift, AcqRel);
        before >> shift & LIVE != 0
    }

    /// Notes that a record has it.
    fn mark(&self, number: u32) {
        let (state, shift) = self.state(number);
        if state.load(Relaxed) >> shift & MARKED == 0 {
            state.fetch_or(MARKED << shift, Relaxed);
        }
    }

    fn is_live(&self, number: u32) -> bool {
        let (state, shift) = self.state(number);
        state.load(Relaxed) >> shift & LIVE != 0
    }

    /// The word that has the state of a number, and where in it.
    fn state(&self, number: u32) -> (&AtomicU32, u32) {
        let number = number as usize % MAX_COMMS;
        (&self.states[number / STATES], (number % STATES * 2) as u32)
    }

    /// The word of a number's name; `None` where there never was one.
    fn word(&self, number: u32, index: usize) -> Option<&AtomicU64> {
        let number = number as usize % MAX_COMMS;
        let page = self.pages[number / PER_PAGE].load(Relaxed);
        (page != 0).then(|| word_in(!page, number % PER_PAGE * NAME_WORDS + index))
    }

    fn words(&self, number: u32) -> Option<[u64; NAME_WORDS]> {
        let mut words = [0; NAME_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(number, index)?.load(Relaxed);
        }
        Some(words)
    }

    fn has_name(&self, number: u32, name: &Name) -> bool {
        self.words(number).is_some_and(|mut words| {
            words[0] &= u64::from(u32::MAX);
            words == name.words
        })
    }

    /// What goes with a copy of a record. To be taken before it is made. Any context.
    pub(crate) fn now(&self) -> Round {
        Round(self.ended.load(Relaxed))
    }

    /// The name with this number, as it was when a copy of a record that has it was made. Any context.
    pub(crate) fn get(&self, number: u32, copied: Round) -> Comm {
        self.try_get(number, copied).unwrap_or(Comm::new("?"))
    }

    fn try_get(&self, number: u32, copied: Round) -> Option<Comm> {
        if number == NONE {
            return None;
        }
        let words = self.words(number)?;
        // Acquire: if one of these is of a newer name, the first word is seen to be so, too.
        fence(Acquire);
        let first = self.word(number, 0)?.load(Relaxed);
        if Round((first >> 32) as u32).is_after(copied) {
            return None;
        }
        let mut bytes = [0; COMM_LEN];
        for (part, word) in bytes.chunks_mut(WORD).zip(&words[1..]) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let len = (first as u32 as usize).min(COMM_LEN);
        core::str::from_utf8(&bytes[..len]).ok().map(Comm::new)
    }

    /// What a CPU has in its hands. `None` if there is no memory for its row, or it has none.
    fn row(&self, cpu: u32, meta: &impl PageSource) -> Option<RowRef<'_>> {
        let cpu = cpu as usize;
        if let Some(row) = self.rows.get(cpu) {
            return Some(RowRef::of(row));
        }
        let beyond = cpu - ROWS;
        let place = self.row_pages.get(beyond / ROWS_PER_PAGE)?;
        let page = match row_page(place) {
            Some(page) => page,
            None => self.add_row_page(place, meta)?,
        };
        Some(row_in(page, beyond % ROWS_PER_PAGE))
    }

    fn add_row_page(&self, place: &AtomicUsize, meta: &impl PageSource) -> Option<usize> {
        let _one_at_a_time = self.adding.lock();
        if let Some(page) = row_page(place) {
            return Some(page);
        }
        let page = meta.page()?.expose_provenance().get();
        place.store(!page, Release);
        Some(page)
    }

    /// Forgets everything; the memory is given back by its owner. Nobody else uses it meanwhile.
    pub(crate) fn empty(&self) {
        for row in &self.rows {
            row.last.store(0, Relaxed);
            row.number.store(0, Relaxed);
            row.held.store(0, Relaxed);
        }
        let pages = self.row_pages.iter().chain(&self.pages);
        pages.for_each(|page| page.store(0, Relaxed));
        let index = self.index.as_flattened();
        index.iter().for_each(|way| way.store(0, Relaxed));
        self.states.iter().for_each(|state| state.store(0, Relaxed));
        self.live.store(0, Relaxed);
        let ended = self.ended.load(Relaxed);
        self.ended.store(ended.wrapping_add(1), Relaxed);
        *self.round.lock() = Progress {
            from: None,
            rest: 0,
        };
        drop(self.adding.lock());
    }
}

impl Round {
    /// Before any has ended.
    pub(crate) const FIRST: Self = Self(0);

    /// Rounds are few: the number wraps after more than a kernel makes.
    fn is_after(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }
}

/// Frees the unmarked numbers of a word of states. How many.
fn free_unmarked(state: &AtomicU32) -> u32 {
    let mut now = state.load(Relaxed);
    loop {
        let unmarked = now & ALL_LIVE & !(now >> 1);
        match state.compare_exchange(now, now & !unmarked, Relaxed, Relaxed) {
            Ok(_) => return unmarked.count_ones(),
            Err(changed) => now = changed,
        }
    }
}

/// The address of a page of rows, if it is there.
fn row_page(place: &AtomicUsize) -> Option<usize> {
    match place.load(Acquire) {
        0 => None,
        hidden => Some(!hidden),
    }
}

fn row_in<'a>(page: usize, index: usize) -> RowRef<'a> {
    let first = index * ROW_BYTES / WORD;
    RowRef {
        last: word_in(page, first),
        number: word_in(page, first + 1),
        held: word_in(page, first + 2),
    }
}

fn word_in<'a>(page: usize, index: usize) -> &'a AtomicU64 {
    let address = page + index % (METADATA_PAGE / WORD) * WORD;
    // SAFETY: an aligned word of a page of ours, used by atomics only; it outlives its use, since all is forgotten when
    // nobody uses it.
    unsafe { AtomicU64::from_ptr(ptr::with_exposed_provenance_mut(address)) }
}

/// A name, as it is kept, and where it is to be found.
struct Name {
    words: [u64; NAME_WORDS],
    set: usize,
    tag: u32,
}

impl Name {
    fn of(comm: Comm) -> Self {
        let name = comm.as_str().as_bytes();
        let mut bytes = [0; COMM_LEN];
        bytes[..name.len()].copy_from_slice(name);
        let mut words = [0; NAME_WORDS];
        words[0] = name.len() as u64;
        for (word, part) in words[1..].iter_mut().zip(bytes.chunks(WORD)) {
            *word = u64::from_le_bytes(part.try_into().unwrap_or_default());
        }
        let hash = words.iter().fold(0_u64, |hash, word| {
            let mixed = (hash ^ word).wrapping_mul(SPREAD);
            mixed ^ mixed >> 32
        });
        Self {
            words,
            set: hash as usize % SETS,
            tag: (hash >> (32 + NUMBER_BITS)) as u32,
        }
    }
}

/// What the hash multiplies by: odd, with bits all over.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

const _: () = {
    assert!(MAX_COMMS.is_power_of_two());
    assert!(2 * MAX_COMMS >= WAYS);
};
