//! Text in metadata: a panic has no allocator to ask.

use core::fmt::{self, Formatter};

use crate::metadata::{Class, MetaAlloc, Piece, Pieces, WORD};

/// Text in pieces of metadata. The first word of a piece is its bytes, the second
/// leads to the next one.
pub(super) struct StoredText {
    pieces: Pieces,
    /// Bytes that found no room.
    lost: usize,
}

const CLASS: Class = Class::LARGEST;
const HEAD: usize = 2;
const BYTES: usize = (CLASS.words() - HEAD) * WORD;

impl StoredText {
    pub(super) const fn new() -> Self {
        Self {
            pieces: Pieces::new(CLASS),
            lost: 0,
        }
    }

    pub(super) fn push(&mut self, text: &str, meta: &MetaAlloc<'_>) {
        for character in text.chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            // No character is parted, so that each piece is text.
            let room = |piece: Piece| BYTES - piece.get(0) as usize;
            let last = self.pieces.last();
            let last = last.filter(|&piece| room(piece) >= bytes.len());
            let Some(piece) = last.or_else(|| self.pieces.append(meta)) else {
                self.lost += bytes.len();
                continue;
            };
            for &byte in bytes {
                let at = piece.get(0) as usize;
                piece.set(0, at as u64 + 1);
                let (word, shift) = (HEAD + at / WORD, 8 * (at % WORD));
                let others = piece.get(word) & !(0xff << shift);
                piece.set(word, others | u64::from(byte) << shift);
            }
        }
    }

    pub(super) fn write_to(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for piece in self.pieces.each() {
            let len = piece.get(0) as usize;
            let mut bytes = [0; BYTES];
            for (at, byte) in bytes.iter_mut().enumerate().take(len) {
                *byte = (piece.get(HEAD + at / WORD) >> (8 * (at % WORD))) as u8;
            }
            f.write_str(core::str::from_utf8(&bytes[..len]).unwrap_or("?"))?;
        }
        if self.lost > 0 {
            write!(f, "\nkmemleak: no memory for {} bytes more", self.lost)?;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        self.pieces.clear(meta);
        self.lost = 0;
    }
}
