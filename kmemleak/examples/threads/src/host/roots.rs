//! The roots: writable segments of the executable and its libraries, variables of threads, and stacks.
//!
//! What is none:
//!
//! - memory of the library that has `malloc`: it leads to free blocks, and to the ends of others. Whatever else it holds is no
//!   block of Rust's (what the C library allocates for itself is not tracked, and is not scanned);
//! - variables of threads in libraries that are loaded later, which the C library allocates;
//! - the heap, stacks below their live part, pages of metadata: none of them is in a segment.
//!
//! Where the segments are is noted before the world stops: a thread may stop with the loader's lock held.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Mutex;

use kmemleak::{Root, RootCursor, RootKind};

use super::stop;
use super::thread::descriptor;

/// Bytes of a thread descriptor with pointers of the program's: its first `pthread_setspecific` values are the last of them.
const DESCRIPTOR: usize = 1536;

/// Writable segments; before them the first thread's variables, which the loader allocated apart from its stack.
struct Segments {
    ranges: [Range<usize>; 256],
    count: usize,
}

static SEGMENTS: Mutex<Segments> = Mutex::new(Segments {
    ranges: [const { 0..0 }; 256],
    count: 1,
});

/// Shows each library but the one that has `malloc`.
fn each_library(mut look: &mut dyn FnMut(&libc::dl_phdr_info, &[libc::Elf64_Phdr])) {
    type Look<'a> = &'a mut dyn FnMut(&libc::dl_phdr_info, &[libc::Elf64_Phdr]);
    unsafe extern "C" fn show(
        library: *mut libc::dl_phdr_info,
        _: usize,
        look: *mut c_void,
    ) -> c_int {
        // SAFETY: the C library's promise.
        let library = unsafe { &*library };
        // SAFETY: `look`, which `each_library` passes.
        let look = unsafe { &mut *look.cast::<Look<'_>>() };
        // SAFETY: the C library's promise.
        let headers =
            unsafe { std::slice::from_raw_parts(library.dlpi_phdr, library.dlpi_phnum.into()) };
        let malloc = (libc::malloc as *const ()).addr();
        if !headers
            .iter()
            .any(|header| place(library, header).contains(&malloc))
        {
            look(library, headers);
        }
        0
    }
    // SAFETY: the function gets what it expects.
    unsafe { libc::dl_iterate_phdr(Some(show), (&raw mut look).cast()) };
}

fn place(library: &libc::dl_phdr_info, header: &libc::Elf64_Phdr) -> Range<usize> {
    let start = (library.dlpi_addr + header.p_vaddr) as usize;
    start..start + header.p_memsz as usize
}

/// Notes where the variables of the running thread are, which is the first one.
pub(super) fn note_own_variables() {
    let descriptor = descriptor();
    let mut start = descriptor;
    each_library(&mut |library, _| {
        if !library.dlpi_tls_data.is_null() {
            start = start.min(library.dlpi_tls_data.expose_provenance());
        }
    });
    SEGMENTS.lock().expect("nobody panics under it").ranges[0] = start..descriptor + DESCRIPTOR;
}

/// Notes where the segments are.
pub(super) fn note_segments() {
    let segments = &mut *SEGMENTS.lock().expect("nobody panics under it");
    segments.count = 1;
    each_library(&mut |library, headers| {
        let writable = |header: &&libc::Elf64_Phdr| {
            header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W != 0
        };
        for header in headers.iter().filter(writable) {
            // More than there is room for ends the process.
            segments.ranges[segments.count] = place(library, header);
            segments.count += 1;
        }
    });
}

/// The next root.
pub(super) fn next(cursor: &mut RootCursor) -> Option<Root> {
    while cursor.stage < 2 {
        if let Some((kind, place)) = root(*cursor) {
            cursor.index += 1;
            return Some(Root {
                kind,
                start: place.start,
                len: place.len(),
            });
        }
        (cursor.stage, cursor.index) = (cursor.stage + 1, 0);
    }
    None
}

/// Segments, then the stacks of the threads that wait. (The detector knows the stack of the thread that checks.)
fn root(cursor: RootCursor) -> Option<(RootKind, Range<usize>)> {
    match (cursor.stage, cursor.index) {
        (0, index) => {
            let segments = SEGMENTS.lock().expect("nobody panics under it");
            let place = segments.ranges[..segments.count].get(index)?;
            Some((RootKind::Section, place.clone()))
        }
        (1, index) => stop::waiting(index).map(|(thread, live)| (RootKind::Stack(thread), live)),
        _ => None,
    }
}
