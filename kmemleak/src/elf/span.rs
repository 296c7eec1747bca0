//! Spans of addresses, as program headers name them.
//!
//! A span is kept as its first and its last byte, so that one may end where the address space does.

/// Some addresses, one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    /// `len` bytes from `first` on, one at least, if the address space has so many.
    pub(super) fn new(first: u64, len: u64) -> Option<Self> {
        let last = first.checked_add(len.checked_sub(1)?)?;
        Some(Self { first, last })
    }

    /// Its length in bytes.
    pub(super) fn len(self) -> u64 {
        self.last - self.first + 1
    }

    fn covers(self, address: u64) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// What of it is at `address` or above.
    fn from(self, address: u64) -> Option<Self> {
        (self.last >= address).then_some(Self {
            first: self.first.max(address),
            last: self.last,
        })
    }
}

/// The lowest addresses at or above `from` that are in one of `wanted`, and in none of `unwanted`.
///
/// Both may overlap and come in any order. What one call returns and what calls from behind it return do not overlap.
pub(super) fn lowest(
    from: u64,
    wanted: impl Iterator<Item = Span> + Clone,
    unwanted: impl Iterator<Item = Span> + Clone,
) -> Option<Span> {
    let mut from = from;
    loop {
        let found = wanted
            .clone()
            .filter_map(|span| span.from(from))
            .min_by_key(|span| span.first)?;
        let over_it = unwanted
            .clone()
            .filter(|span| span.covers(found.first))
            .map(|span| span.last)
            .max();
        if let Some(last) = over_it {
            from = last.checked_add(1)?;
            continue;
        }
        let cut = unwanted
            .map(|span| span.first)
            .filter(|&first| first > found.first)
            .min();
        let last = cut.map_or(found.last, |first| found.last.min(first - 1));
        return Some(Span { last, ..found });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a walk finds: first and last bytes.
    fn walked<const W: usize, const U: usize>(
        wanted: [(u64, u64); W],
        unwanted: [(u64, u64); U],
    ) -> [(u64, u64); 8] {
        let spans = |(first, last)| Span { first, last };
        let mut found = [(0, 0); 8];
        let mut from = Some(0);
        for place in &mut found {
            let next = from.and_then(|from| {
                lowest(
                    from,
                    wanted.into_iter().map(spans),
                    unwanted.into_iter().map(spans),
                )
            });
            from = next.and_then(|span| span.last.checked_add(1));
            *place = next.map_or((0, 0), |span| (span.first, span.last));
        }
        found
    }

    fn ends<const N: usize>(expected: [(u64, u64); N]) -> [(u64, u64); 8] {
        let mut all = [(0, 0); 8];
        all[..N].copy_from_slice(&expected);
        all
    }

    #[test]
    fn spans_come_in_the_order_of_addresses_and_never_twice() {
        assert_eq!(walked([(30, 39), (10, 19)], []), ends([(10, 19), (30, 39)]));
        assert_eq!(
            walked([(10, 29), (20, 39), (22, 23)], []),
            ends([(10, 29), (30, 39)])
        );
        assert_eq!(walked([(10, 19), (10, 19)], []), ends([(10, 19)]));
    }

    #[test]
    fn what_is_unwanted_is_cut_out() {
        assert_eq!(walked([(10, 19)], [(0, 9), (20, 29)]), ends([(10, 19)]));
        assert_eq!(walked([(10, 19)], [(5, 14)]), ends([(15, 19)]));
        assert_eq!(walked([(10, 19)], [(15, 24)]), ends([(10, 14)]));
        assert_eq!(
            walked([(10, 19)], [(12, 13), (13, 15)]),
            ends([(10, 11), (16, 19)])
        );
        assert_eq!(walked([(10, 19)], [(10, 19)]), ends([]));
        assert_eq!(walked([(10, 19), (30, 39)], [(0, 34)]), ends([(35, 39)]));
    }

    #[test]
    fn a_span_may_end_with_the_address_space() {
        const END: u64 = u64::MAX;
        assert_eq!(Span::new(END, 1).map(Span::len), Some(1));
        assert_eq!(Span::new(END, 2), None);
        assert_eq!(Span::new(0, 0), None);
        assert_eq!(walked([(END - 9, END)], []), ends([(END - 9, END)]));
        assert_eq!(
            walked([(END - 9, END)], [(END - 4, END)]),
            ends([(END - 9, END - 5)])
        );
        assert_eq!(
            walked([(5, 9), (END - 9, END)], [(END - 9, END)]),
            ends([(5, 9)])
        );
    }
}
