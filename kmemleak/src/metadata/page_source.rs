//! Where what grows page by page takes its pages from: all that the depot and the task names know of metadata.

use core::ptr::NonNull;

/// A giver of pages.
///
/// # Safety
///
/// What [`page`](Self::page) gives is [`METADATA_PAGE`](crate::platform::METADATA_PAGE) bytes, aligned to that, zeroed,
/// writable, and nobody else's until its user gives it back.
pub(crate) unsafe trait PageSource {
    /// A page, or `None` if there is none now. Any context.
    fn page(&self) -> Option<NonNull<u8>>;
}
