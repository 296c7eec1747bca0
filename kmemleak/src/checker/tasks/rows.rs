//! What is kept of a lost task.

use crate::platform::MAX_FRAMES;

/// What is known of a lost task beyond its row.
#[derive(Clone, Copy)]
pub(super) struct LostRow {
    /// The number of its row.
    pub(super) row: u32,
    pub(super) frames: u32,
    pub(super) addresses: [usize; MAX_FRAMES],
    /// The bytes of the object that it waits for.
    pub(super) object_bytes: usize,
    pub(super) objects: usize,
    pub(super) bytes: usize,
}
