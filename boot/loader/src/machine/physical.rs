//! Reading and writing physical memory, of which the loader has the lowest 4 GiB mapped where it is.

use core::ptr;
use core::slice;

use loader::PAGE;
use loader::error::LoadError;

/// Bytes of physical memory that the loader has mapped.
const MAPPED: u64 = 4 << 30;

/// The `len` bytes of physical memory at `start`.
///
/// # Safety
///
/// It is memory that nobody writes to while the loader runs.
pub unsafe fn bytes(start: u64, len: u64) -> Result<&'static [u8], LoadError> {
    if start == 0 || start.checked_add(len).is_none_or(|end| end > MAPPED) {
        return Err(LoadError::OutOfReach(start));
    }
    let start = ptr::with_exposed_provenance(start as usize);
    // SAFETY: mapped, not null; the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(start, len as usize) })
}

/// The `N` bytes of physical memory at `start`.
///
/// # Safety
///
/// See [`bytes`].
pub unsafe fn array<const N: usize>(start: u64) -> Result<&'static [u8; N], LoadError> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(start, N as u64) }?;
    bytes.first_chunk().ok_or(LoadError::OutOfReach(start))
}

/// The frame at the physical address `frame`, cleared.
///
/// # Safety
///
/// The frame belongs to the caller, from now on alone.
pub unsafe fn clear_frame(frame: u64) -> &'static mut [u8; PAGE as usize] {
    let frame: *mut [u8; PAGE as usize] = ptr::with_exposed_provenance_mut(frame as usize);
    // SAFETY: frames are taken from memory that the loader has mapped; it is the caller's.
    unsafe { frame.write_bytes(0, 1) };
    // SAFETY: it is the caller's alone, and holds bytes.
    unsafe { &mut *frame }
}
