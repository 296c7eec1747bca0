//! What reaches into chunks from before, and the runs that stand for many of them.

use core::sync::atomic::Ordering;

use super::{
    Blocked, Budget, ChunkNumber, End, LAST, LEAF, LEVELS, PageMap, Reach, TABLE_BITS, Word,
    entry_in, run, word_in,
};
use crate::atomic::AtomicU64;
use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::page::PageSource;

impl PageMap {
    /// Notes that an object reaches into these chunks, from the chunk `from` on. It covers those before `whole` wholly. Returns
    /// the chunk to go on with if the budget was spent first.
    pub(crate) fn reach(
        &self,
        Reach { first, last }: Reach,
        from: ChunkNumber,
        whole: ChunkNumber,
        budget: &mut Budget,
        meta: &MetaAlloc<'_>,
    ) -> Result<Option<ChunkNumber>, Blocked> {
        let mut chunk = from;
        while chunk <= last {
            if !budget.spend() {
                return Ok(Some(chunk));
            }
            // Where the object covers a table's range wholly: a run in place of the table, or a note for the whole table.
            let step = self.set_run(chunk, first, whole);
            if step > 0 {
                chunk += step;
                continue;
            }
            self.entry(chunk, meta)?.set_reach(chunk - first);
            chunk += 1;
        }
        Ok(None)
    }

    /// Notes a whole table's range at once, if `chunk` begins one that lies before `end` and has no table, or a clean one.
    /// Returns for how many chunks; zero if nothing was noted.
    fn set_run(&self, chunk: ChunkNumber, first: ChunkNumber, end: ChunkNumber) -> usize {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            let span = 1 << shift;
            let covered = chunk.is_multiple_of(span) && chunk + span <= end;
            match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) if shift == LAST => {
                    let noted = covered && entry_in(table, 0).cover(chunk - first);
                    return if noted { span } else { 0 };
                }
                Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                Word::Nothing if covered => {
                    let run = run(chunk - first);
                    let set = word.compare_exchange(0, run, Ordering::AcqRel, Ordering::Acquire);
                    return if set.is_ok() { span } else { 0 };
                }
                // The range of a smaller table may be covered, but the table that would hold its run is missing.
                Word::Nothing | Word::Run(_) => return 0,
            }
        }
        0
    }

    /// Takes back what [`PageMap::reach`] has noted.
    pub(crate) fn unreach(&self, reach: Reach) {
        self.unreach_from(reach, reach.first + 1, &mut Budget::unlimited());
    }

    /// Takes back what [`PageMap::reach`] has noted, from the chunk `from` on. Returns the chunk to go on with if the budget was
    /// spent first.
    pub(crate) fn unreach_from(
        &self,
        Reach { first, last }: Reach,
        from: ChunkNumber,
        budget: &mut Budget,
    ) -> Option<ChunkNumber> {
        let mut chunk = from;
        while chunk <= last {
            if !budget.spend() {
                return Some(chunk);
            }
            chunk = self.unreach_at(chunk, first);
        }
        None
    }

    /// Notes that the object in `first` does not reach into a chunk, or into the run or the table that begins there. Returns
    /// the next chunk.
    fn unreach_at(&self, chunk: ChunkNumber, first: ChunkNumber) -> ChunkNumber {
        // A table that looks clean is not skipped: in its first and last table, the object is noted in the chunks' entries.
        let (rest, end) = self.walk(chunk);
        let step = match end {
            End::Nothing => rest,
            // If another CPU has just divided the run, try again: the table then has a note for each chunk.
            End::Run(back) if back == chunk - first && !self.clear_run(chunk, back) => 0,
            End::Run(_) => rest,
            End::Table(table) => {
                let entry = entry_in(table, chunk);
                if rest == LEAF && entry.uncover(chunk - first) {
                    rest
                } else {
                    entry.clear_reach(chunk - first);
                    1
                }
            }
        };
        chunk + step
    }

    /// The word of the run that a chunk is in, and how many chunks the run stands for (as log2).
    fn run_word(&self, chunk: ChunkNumber) -> Option<(&AtomicU64, u32)> {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) if shift != LAST => {
                    word = word_in(table, chunk, shift - TABLE_BITS);
                }
                Word::Run(_) => return Some((word, shift)),
                Word::Table(_) | Word::Nothing => return None,
            }
        }
        None
    }

    /// Clears the run that a chunk is in, of an object that starts `back` chunks further down. False if there is no such run.
    fn clear_run(&self, chunk: ChunkNumber, back: usize) -> bool {
        let Some((word, shift)) = self.run_word(chunk) else {
            return false;
        };
        #[cfg(test)]
        super::tests::interrupt();
        let within = chunk & ((1 << shift) - 1);
        let (order, fail) = (Ordering::AcqRel, Ordering::Acquire);
        word.compare_exchange(run(back - within), 0, order, fail)
            .is_ok()
    }

    /// Notes that the object that starts in `first` ends in `last` from now on, no longer in `before`. It covers the chunks
    /// before `whole` wholly. A run that it still reaches into stays: see [`PageMap::divide_run`].
    pub(crate) fn unreach_behind(
        &self,
        first: ChunkNumber,
        last: ChunkNumber,
        whole: ChunkNumber,
        before: ChunkNumber,
    ) {
        let mut chunk = last + 1;
        if let Some((_, shift)) = self.run_word(last) {
            chunk = ((last >> shift) + 1) << shift;
        } else if last > first
            && whole < (last | (LEAF - 1)) + 1
            && self.uncover_behind(first, last)
        {
            chunk = (last | (LEAF - 1)) + 1;
        }
        while chunk <= before {
            chunk = self.unreach_at(chunk, first);
        }
    }

    /// If the table of the chunk `last` is covered by the object that starts in `first`: notes for each of its chunks up to
    /// `last` that the object reaches in, instead of the cover. False if the table was not covered.
    fn uncover_behind(&self, first: ChunkNumber, last: ChunkNumber) -> bool {
        let (_, End::Table(table)) = self.walk(last) else {
            return false;
        };
        let head = entry_in(table, 0);
        if !head.is_covered() {
            return false;
        }
        let begin = last & !(LEAF - 1);
        // The first entry comes last: until then it says that the object covers the table.
        for chunk in (begin..=last).rev() {
            entry_in(table, chunk).set_reach(chunk - first);
        }
        true
    }

    /// Replaces the run that a chunk is in by a table, since the object that starts in `first` covers only its beginning: the
    /// chunks up to `last`. False where there is no memory, or no such run.
    pub(crate) fn divide_run(
        &self,
        chunk: ChunkNumber,
        first: ChunkNumber,
        last: ChunkNumber,
        meta: &MetaAlloc<'_>,
    ) -> bool {
        let Some((word, shift)) = self.run_word(chunk) else {
            return false;
        };
        let (order, fail) = (Ordering::AcqRel, Ordering::Acquire);
        let begin = chunk >> shift << shift;
        let now = run(begin - first);
        if last < begin {
            return word.compare_exchange(now, 0, order, fail).is_ok();
        }
        let Ok(page) = meta.page() else {
            return false;
        };
        let table = page.start().cast();
        let end = begin + (1 << shift);
        let step = if shift == LAST {
            1
        } else {
            1 << (shift - TABLE_BITS)
        };
        for part in (begin..end.min(last + 1)).step_by(step) {
            if shift == LAST {
                entry_in(table, part).set_reach(part - first);
            } else {
                // The last part may stand for more than the object covers, too.
                word_in(table, part, shift - TABLE_BITS)
                    .store(run(part - first), Ordering::Relaxed);
            }
        }
        let bits = Hidden::new(table.expose_provenance().get()).bits();
        // If another CPU was faster, the page stays unused until all metadata is given back.
        word.compare_exchange(now, bits, order, fail).is_ok()
    }
}
