//! Text in metadata: a panic has no allocator to ask.

use core::fmt::{self, Formatter};

use crate::metadata::MetaAlloc;
use crate::metadata::piece_vec::PieceVec;

/// Text in parts; no character is divided between two parts: so each part is text.
pub(super) struct StoredText {
    bytes: PieceVec<u8>,
    /// Bytes that found no room.
    lost: usize,
}

impl StoredText {
    pub(super) const fn new() -> Self {
        Self {
            bytes: PieceVec::new(),
            lost: 0,
        }
    }

    pub(super) fn push(&mut self, text: &str, meta: &MetaAlloc<'_>) {
        for character in text.chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            if self.bytes.push_all(bytes, meta).is_err() {
                self.lost += bytes.len();
            }
        }
    }

    pub(super) fn write_to(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for part in self.bytes.parts() {
            f.write_str(core::str::from_utf8(part).unwrap_or("?"))?;
        }
        if self.lost > 0 {
            write!(f, "\nkmemleak: no memory for {} bytes more", self.lost)?;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        self.bytes.clear(meta);
        self.lost = 0;
    }
}
