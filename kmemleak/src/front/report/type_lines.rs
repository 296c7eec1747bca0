//! The type of a block from what a platform writes: [`Platform::instances`], a line for each function.

use core::fmt::{self, Write};
use core::ops::ControlFlow;

use super::block_type::{BlockType, TypeSearch};
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Bytes of a function's name, with all its arguments.
const LINE: usize = 1024;

impl BlockType {
    /// Of a block that this call stack allocated, innermost return address first. `None` where that is not known for certain. May
    /// sleep: task context.
    pub(super) fn of<P: Platform>(tracker: &Tracker<P>, addresses: &[usize]) -> Option<Self> {
        let mut search = LineSearch::new();
        for &address in addresses {
            let written = tracker.platform().instances(address, &mut search);
            if written.is_err() || search.end_frame().is_err() {
                break;
            }
        }
        search.found
    }
}

/// Looks at functions as a platform writes them, a line each, innermost first.
struct LineSearch {
    search: TypeSearch,
    found: Option<BlockType>,
    line: [u8; LINE],
    /// More than there is room for, if it is too long.
    len: usize,
    /// Whether the frame has a line.
    is_named: bool,
}

impl LineSearch {
    const fn new() -> Self {
        Self {
            search: TypeSearch::new(),
            found: None,
            line: [0; LINE],
            len: 0,
            is_named: false,
        }
    }

    /// Takes the end of a function's name. An error ends the search.
    fn end_line(&mut self) -> fmt::Result {
        let len = core::mem::take(&mut self.len);
        if len == 0 {
            return Ok(());
        }
        self.is_named = true;
        let line = self.line.get(..len);
        let name = line.and_then(|line| core::str::from_utf8(line).ok());
        match name.map_or(ControlFlow::Break(None), |name| self.search.function(name)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(found) => {
                self.found = found;
                Err(fmt::Error)
            }
        }
    }

    /// Takes the end of a frame. One without a name may be anything, so it ends the search.
    fn end_frame(&mut self) -> fmt::Result {
        self.end_line()?;
        match core::mem::take(&mut self.is_named) {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

impl Write for LineSearch {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.end_line()?;
            } else {
                if let Some(place) = self.line.get_mut(self.len) {
                    *place = byte;
                }
                self.len += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::fmt::Write;
    use std::string::{String, ToString};

    use super::LineSearch;

    fn type_of(frames: &[&str]) -> Option<String> {
        let mut search = LineSearch::new();
        for frame in frames {
            let written = search.write_str(frame);
            if written.is_err() || search.end_frame().is_err() {
                break;
            }
        }
        search.found.map(|found| found.to_string())
    }

    #[test]
    fn lines_end_with_their_frame_or_before() {
        for frames in [
            &[
                "alloc::alloc::alloc",
                "alloc::boxed::Box<T>::new<kernel::X>",
            ][..],
            &["alloc::alloc::alloc\nalloc::boxed::Box<T>::new<kernel::X>"],
            &[
                "\nalloc::alloc::alloc\n",
                "alloc::boxed::Box<T>::new<kernel::X>\nkernel::f\n",
            ],
        ] {
            assert_eq!(type_of(frames).as_deref(), Some("kernel::X"), "{frames:?}");
        }
    }

    /// It may be a constructor that allocated something else.
    #[test]
    fn a_frame_without_a_name_ends_the_search() {
        let boxed = "alloc::boxed::Box<T>::new<kernel::X>";
        for nameless in ["", "\n"] {
            assert_eq!(type_of(&["alloc::alloc::alloc", nameless, boxed]), None);
        }
    }

    #[test]
    fn a_name_that_is_too_long_ends_the_search() {
        let long = std::format!("alloc::alloc::{}", "x".repeat(2000));
        let boxed = "alloc::boxed::Box<T>::new<kernel::X>";
        assert_eq!(
            type_of(&[&long[..1024], boxed]).as_deref(),
            Some("kernel::X")
        );
        assert_eq!(type_of(&[&long[..1025], boxed]), None);
    }
}
