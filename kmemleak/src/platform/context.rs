//! The running task, and where its call stack lies.

use core::fmt;
use core::ops::Range;

use crate::platform::COMM_LEN;

/// The interrupt state that [`Platform::irq_save`](crate::Platform::irq_save) found; only the platform interprets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqState(pub usize);

/// Which task allocates, on which CPU, and whether in an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The number of the running task; in an interrupt, of the interrupted task.
    pub task: u32,
    /// The number of the CPU.
    pub cpu: u32,
    /// Task or interrupt.
    pub level: Level,
}

/// What the detector needs to walk a stack by frame pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackWalk {
    /// What the frame pointer register holds, which names the innermost frame.
    pub frame_pointer: usize,
    /// Where the stack lies. All of it can be read.
    pub stack: Range<usize>,
    /// Code of the allocator's hooks. The innermost frames whose return addresses lie there are left out, so that a call
    /// stack begins with the code that allocates. An empty range leaves out none.
    pub skip: Range<usize>,
}

/// What kind of code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A task.
    Task,
    /// An interrupt handler.
    Interrupt,
}

/// The name of a task: UTF-8, cut at a character's boundary to at most [`COMM_LEN`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Comm {
    len: u8,
    bytes: [u8; COMM_LEN],
}

impl Comm {
    /// Keeps as much of `name` as fits.
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        let mut len = if name.len() < COMM_LEN {
            name.len()
        } else {
            COMM_LEN
        };
        // Never end inside a character: continuation bytes are 0b10xx_xxxx.
        while len < name.len() && name[len] & 0xc0 == 0x80 {
            len -= 1;
        }
        let mut bytes = [0; COMM_LEN];
        let mut i = 0;
        while i < len {
            bytes[i] = name[i];
            i += 1;
        }
        Self {
            len: len as u8,
            bytes,
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
