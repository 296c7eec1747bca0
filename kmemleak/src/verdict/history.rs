//! What was alive at a call site at the last marks, and what that says: whether the site climbs steadily, or took a step.
//!
//! A cache that fills takes a step, and then stands; what is forgotten again and again climbs between all marks. [`Trend`] tells
//! one from the other by a rule that needs no clock: an interval lies between two marks, however far apart they are.

/// Marks of which the bytes are kept: 8 bytes each for each call site.
pub(crate) const MARKS: usize = 8;

/// Intervals that are needed to say anything.
const LEAST_INTERVALS: usize = 3;

/// How a call site has grown over the last marks, of which eight are kept.
///
/// An interval lies between two marks, or between the last mark and now; the last one counts only if the site's bytes have
/// changed in it. At least three intervals are needed, and more bytes now than at the first of these marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// No interval has more than half of all bytes by which it rose; and from the first rise on there are at least three
    /// intervals with a rise, and not more than one in four without.
    Steady,
    /// One interval has more than half of all bytes by which it rose.
    Step,
}

impl Trend {
    /// The trend of a site with these bytes at the last marks, oldest first, and now. `None` if it is neither.
    fn of(marks: &[usize], now: usize) -> Option<Self> {
        let open = (marks.last() != Some(&now)).then_some(now);
        let points = || marks.iter().copied().chain(open);
        let changes = || {
            let pairs = points().zip(points().skip(1));
            pairs.map(|(before, after)| after as i128 - before as i128)
        };
        if changes().count() < LEAST_INTERVALS || changes().sum::<i128>() <= 0 {
            return None;
        }
        let risen: i128 = changes().filter(|&change| change > 0).sum();
        if changes().any(|change| 2 * change > risen) {
            return Some(Self::Step);
        }
        let since = || changes().skip_while(|&change| change <= 0);
        let rises = since().filter(|&change| change > 0).count();
        let steady = rises >= LEAST_INTERVALS && 4 * rises >= 3 * since().count();
        steady.then_some(Self::Steady)
    }
}

/// The bytes of a call site at the last marks, the last one at the end. A site without blocks had none.
#[derive(Clone, Copy, Default)]
pub(crate) struct History([usize; MARKS]);

impl History {
    /// Adds a mark; the oldest one goes.
    pub(crate) fn push(&mut self, bytes: usize) {
        self.0.rotate_left(1);
        self.0[MARKS - 1] = bytes;
    }

    /// The bytes at the last marks, so many of them, oldest first.
    pub(crate) fn last(&self, marks: usize) -> &[usize] {
        &self.0[MARKS - marks.min(MARKS)..]
    }

    /// What the last marks say, so many of them, of a site that has so many bytes now.
    pub(crate) fn trend(&self, marks: usize, now: usize) -> Option<Trend> {
        Trend::of(self.last(marks), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_climb_is_told_from_a_step() {
        let steady = Some(Trend::Steady);
        let step = Some(Trend::Step);
        for (marks, now, trend) in [
            // Too little is known; while nothing has changed since the last mark, that interval says nothing.
            (&[][..], 10, None),
            (&[0], 10, None),
            (&[0, 10], 20, None),
            (&[0, 10, 20], 20, None),
            (&[0, 10, 20], 30, steady),
            (&[0, 10, 20, 30], 30, steady),
            // It did not grow on the whole.
            (&[30, 30, 30, 30], 30, None),
            (&[30, 40, 50, 60], 30, None),
            (&[90, 80, 70, 60], 50, None),
            // One in four intervals may be without a rise, one in three may not.
            (&[0, 10, 10, 20, 30], 30, steady),
            (&[0, 10, 5, 20, 30], 30, steady),
            (&[0, 10, 10, 20, 20, 30], 30, None),
            // What was before the first rise does not count.
            (&[50, 50, 50, 50, 60, 70, 80, 90], 90, steady),
            (&[50, 40, 30, 30, 60, 70, 80, 90], 90, steady),
            // A step, wherever it lies; the rest may change a little.
            (&[0, 100, 100, 100], 100, step),
            (&[0, 0, 0], 100, step),
            (&[0, 1, 2, 50, 51, 52], 53, step),
            (&[0, 0, 0, 100, 90, 80], 80, step),
            // Exactly half in one interval is none; two steps are neither.
            (&[0, 20, 30, 40], 40, steady),
            (&[0, 21, 31, 41], 41, step),
            (&[0, 50, 50, 100], 100, None),
            // Sizes that are none make no overflow.
            (&[0, usize::MAX, 0], usize::MAX, None),
            (&[0, 0, 0], usize::MAX, step),
        ] {
            assert_eq!(Trend::of(marks, now), trend, "{marks:?}, now {now}");
        }
    }

    #[test]
    fn the_last_eight_are_kept() {
        let mut history = History::default();
        assert!(history.last(0).is_empty());
        (1..=3).for_each(|bytes| history.push(bytes));
        assert_eq!(history.last(3), [1, 2, 3]);
        assert_eq!(history.last(4), [0, 1, 2, 3], "nothing was there before");
        (4..=10).for_each(|bytes| history.push(bytes));
        assert_eq!(history.last(10), [3, 4, 5, 6, 7, 8, 9, 10]);
    }
}
