//! An array in pieces of metadata, which is appended to, and whose memory is given back as a whole.
//!
//! It is to be cleared before it is dropped: otherwise its memory stays in use until all metadata is given back.
//!
//! # Invariants
//!
//! The parts from `first` on, each linked to the next, are this array's alone. The first `len` rows of each are written.

use core::iter::successors;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::metadata::hidden::Hidden;
use crate::metadata::page::NoMemory;
use crate::metadata::piece::Piece;
use crate::metadata::{Class, MetaAlloc, WORD};

const CLASS: Class = Class::LARGEST;

/// The beginning of a part. The rows lie behind it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Head {
    next: Hidden,
    len: usize,
}

/// A part of an array: valid as long as the array is.
#[derive(Clone, Copy)]
struct Part(NonNull<Head>);

impl Part {
    /// The part that lies there, if any.
    ///
    /// # Safety
    ///
    /// An array has this place, and its parts are not used when it is gone.
    unsafe fn at(place: Hidden) -> Option<Self> {
        place.pointer().map(Self)
    }

    fn head(self) -> Head {
        // SAFETY: all parts begin with their heads.
        unsafe { self.0.read() }
    }

    fn set_head(self, head: Head) {
        // SAFETY: as above.
        unsafe { self.0.write(head) };
    }

    fn rows<R>(self) -> NonNull<R> {
        // SAFETY: a part is larger than its head.
        unsafe { self.0.add(1) }.cast()
    }
}

/// The array.
pub(crate) struct PieceVec<R> {
    first: Hidden,
    last: Hidden,
    rows: PhantomData<R>,
}

impl<R: Copy> PieceVec<R> {
    /// The largest number of rows in a part.
    const PER_PART: usize = {
        assert!(align_of::<R>() <= WORD);
        (CLASS.bytes() - size_of::<Head>()) / size_of::<R>()
    };

    pub(crate) const fn new() -> Self {
        Self {
            first: Hidden::NONE,
            last: Hidden::NONE,
            rows: PhantomData,
        }
    }

    /// Appends rows, all of them or none, to one part: there must not be more than a part has room for.
    pub(crate) fn push_all(&mut self, rows: &[R], meta: &MetaAlloc<'_>) -> Result<(), NoMemory> {
        let part = self.part_with_room(rows.len(), meta)?;
        let head = part.head();
        // SAFETY: there is room for so many rows.
        let place = unsafe { part.rows::<R>().add(head.len) };
        // SAFETY: there is room for so many rows, and nothing refers to rows that are not written yet.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(rows).cast(), rows.len()) };
        let len = head.len + rows.len();
        part.set_head(Head { len, ..head });
        Ok(())
    }

    pub(crate) fn push(&mut self, row: R, meta: &MetaAlloc<'_>) -> Result<(), NoMemory> {
        self.push_all(&[row], meta)
    }

    fn part_with_room(&mut self, rows: usize, meta: &MetaAlloc<'_>) -> Result<Part, NoMemory> {
        // SAFETY: a part of this array.
        let last = unsafe { Part::at(self.last) };
        match last {
            Some(part) if Self::PER_PART - part.head().len >= rows => return Ok(part),
            _ if rows > Self::PER_PART => return Err(NoMemory),
            _ => {}
        }
        let part = Part(meta.take(CLASS)?.into_raw().cast());
        let (next, len) = (Hidden::NONE, 0);
        part.set_head(Head { next, len });
        let next = Hidden::of(part.0);
        match last {
            Some(last) => last.set_head(Head {
                next,
                ..last.head()
            }),
            None => self.first = next,
        }
        self.last = next;
        Ok(part)
    }

    /// The rows, part by part.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[R]> {
        // SAFETY: a part of this array, which is borrowed.
        let at = |place: Hidden| unsafe { Part::at(place) };
        successors(at(self.first), move |part| at(part.head().next)).map(|part| {
            let rows = NonNull::slice_from_raw_parts(part.rows(), part.head().len);
            // SAFETY: so many rows have been written; they are borrowed with the array.
            unsafe { rows.as_ref() }
        })
    }

    /// All rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> {
        self.parts().flatten()
    }

    /// Gives the memory back.
    pub(crate) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        let mut next = core::mem::replace(self, Self::new()).first;
        // SAFETY: a part of this array, which gives its parts back one after the other.
        while let Some(part) = unsafe { Part::at(next) } {
            next = part.head().next;
            // SAFETY: it came from such a piece, and the array does not use it any more.
            meta.give(unsafe { Piece::from_raw(part.0.cast(), CLASS) });
        }
    }
}
