//! What a run's platform fails at, by its seed.
//!
//! Of five seeds the last two have failures. They are decided by numbers of their own, so that a seed without them is what it would be if
//! there were none.

use std::ops::Range;

use crate::oracle::random::Random;

/// What fails.
#[derive(Clone, Debug)]
pub struct Failures {
    /// Requests for metadata that are not answered, as they are counted from the first one on.
    metadata: Range<u64>,
    requests: u64,
    /// Of so many pieces of frozen memory one can't be read.
    images: Option<usize>,
    /// Of so many checkpoints one asks to end.
    pub(crate) ends: Option<usize>,
    /// Blocks are unmapped for a while.
    dark: bool,
    random: Random,
}

impl Failures {
    /// Those of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut failures = Self {
            metadata: 0..0,
            requests: 0,
            images: None,
            ends: None,
            dark: false,
            random: Random::new(!seed),
        };
        if seed % 5 < 3 {
            return failures;
        }
        let random = &mut failures.random;
        if random.below(3) > 0 {
            let most = [8, 40, 200][random.below(3)];
            let first = random.below(most) as u64;
            let count = [1, 1, 10, u64::MAX][random.below(4)];
            failures.metadata = first..first.saturating_add(count);
        }
        failures.images = [None, Some(5), Some(40), Some(300)][random.below(4)];
        failures.ends = [None, None, Some(10), Some(50)][random.below(4)];
        failures.dark = random.below(2) == 0;
        failures
    }

    /// Whether this checkpoint asks to end.
    pub(super) fn end_here(&mut self) -> bool {
        self.ends
            .is_some_and(|one_in| self.random.below(one_in) == 0)
    }

    /// Whether blocks are unmapped for a while.
    pub(crate) fn unmap(&self) -> bool {
        self.dark
    }

    /// Whether this piece of frozen memory is lost.
    pub(super) fn lose_image(&mut self) -> bool {
        self.images
            .is_some_and(|one_in| self.random.below(one_in) == 0)
    }

    /// Whether this request for metadata is refused.
    pub(super) fn refuse_page(&mut self) -> bool {
        self.requests += 1;
        self.metadata.contains(&(self.requests - 1))
    }

    /// From here on requests for metadata are counted anew.
    pub(super) fn begin_again(&mut self) {
        self.requests = 0;
    }
}
