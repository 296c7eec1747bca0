//! Heaps in arrays, and sorting in place: without recursion, and without memory. (Heapsort, Williams 1964.)

/// Places in which something lies that can be ordered.
pub(crate) trait Places {
    /// Whether what lies in one place comes after what lies in the other.
    fn is_after(&self, one: usize, other: usize) -> bool;

    /// Exchanges what lies in two places.
    fn exchange(&mut self, one: usize, other: usize);
}

/// Makes the first `len` places a heap, whose root comes after all others, when only `root` may come before a place below it.
pub(crate) fn sift_down(places: &mut impl Places, mut root: usize, len: usize) {
    loop {
        let left = 2 * root + 1;
        if left >= len {
            return;
        }
        let right = left + 1;
        let last = match right < len && places.is_after(right, left) {
            true => right,
            false => left,
        };
        if !places.is_after(last, root) {
            return;
        }
        places.exchange(last, root);
        root = last;
    }
}

/// Makes the places up to `leaf` a heap, when those before it are one.
pub(crate) fn sift_up(places: &mut impl Places, mut leaf: usize) {
    while leaf > 0 {
        let above = (leaf - 1) / 2;
        if !places.is_after(leaf, above) {
            return;
        }
        places.exchange(leaf, above);
        leaf = above;
    }
}

/// Sorts the first `len` places, which are a heap.
pub(crate) fn sort_heap(places: &mut impl Places, len: usize) {
    for end in (1..len).rev() {
        places.exchange(0, end);
        sift_down(places, 0, end);
    }
}

/// Sorts the first `len` places.
pub(crate) fn heapsort(places: &mut impl Places, len: usize) {
    for root in (0..len / 2).rev() {
        sift_down(places, root, len);
    }
    sort_heap(places, len);
}
