//! What was overwritten, on the console.
//!
//! ```text
//! size-64: write past the end of a block: 0xffff888001c3e4a0
//!   1 byte overwritten at 0xffff888001c3e4dd (offset +61) of a block of 61 bytes; found when it was freed
//!   hex dump (from 0xffff888001c3e4c0 on):
//!     5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a  ZZZZZZZZZZZZZZZZ
//!     5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 00 bb bb  ZZZZZZZZZZZZZ...
//!   allocated last from task 4, cpu 0, 12 ms ago:
//!     kernel::shell::leak::push+0x4c/0x90
//!   freed last from task 4, cpu 0, 0 ms ago:
//!     ...
//! ```

use core::fmt::{self, Display, Formatter};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{CallStack, byte_at};
use crate::{print, println};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often memory was found overwritten that was not the writer's. Any context.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// What was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mm) enum Damage {
    /// The red zone before a block.
    BeforeStart,
    /// The red zone behind a block.
    PastEnd,
    /// Free memory.
    AfterFree,
}

impl Display for Damage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeStart => "write before the start of a block",
            Self::PastEnd => "write past the end of a block",
            Self::AfterFree => "write to a freed block",
        })
    }
}

/// When it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mm) enum Found {
    /// The block was freed.
    Freed,
    /// The block left the quarantine.
    LetGo,
    /// The block was about to be handed out.
    HandedOut,
    /// Somebody asked.
    Checked,
}

impl Display for Found {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Freed => "when it was freed",
            Self::LetGo => "when it left the quarantine",
            Self::HandedOut => "when it was to be handed out again",
            Self::Checked => "by a check",
        })
    }
}

/// Memory that was overwritten.
pub(in crate::mm) struct Report {
    /// Whose the block is.
    pub(in crate::mm) allocator: &'static str,
    /// What is wrong.
    pub(in crate::mm) damage: Damage,
    /// When it was noticed.
    pub(in crate::mm) found: Found,
    /// The block, as long as its user asked for.
    pub(in crate::mm) block: Range<usize>,
    /// What was overwritten: from the first byte to the last.
    pub(in crate::mm) changed: Range<usize>,
    /// Memory round it that can be shown.
    pub(in crate::mm) around: Range<usize>,
}

/// Bytes of a dump in a line.
const LINE: usize = 16;

/// Lines of a dump.
const LINES: usize = 4;

impl Report {
    /// Counts and prints it. Any context but an NMI.
    ///
    /// # Safety
    ///
    /// All that is [`around`](Self::around) can be read.
    #[cold]
    pub(in crate::mm) unsafe fn tell(&self) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let Self { block, changed, .. } = self;
        println!("{}: {}: {:#018x}", self.allocator, self.damage, block.start);
        println!(
            "  {} overwritten at {:#018x} (offset {:+}) of a block of {}; found {}",
            Bytes(changed.len()),
            changed.start,
            changed.start.wrapping_sub(block.start) as isize,
            Bytes(block.len()),
            self.found
        );
        // SAFETY: the caller's promise.
        unsafe { self.dump() };
    }

    /// Prints the bytes from the line before the first one that was overwritten.
    ///
    /// # Safety
    ///
    /// All that is around can be read.
    unsafe fn dump(&self) {
        let line = |address: usize| address & !(LINE - 1);
        let start = (line(self.changed.start) - LINE).max(self.around.start);
        let end = (line(start) + LINES * LINE).min(self.around.end);
        println!("  hex dump (from {start:#018x} on):");
        for line in (start..end).step_by(LINE) {
            let mut bytes = [0; LINE];
            let count = LINE.min(end - line);
            for (byte, at) in bytes.iter_mut().zip(line..line + count) {
                // SAFETY: the caller's promise.
                *byte = unsafe { byte_at(at) };
            }
            println!("    {}", Dump(&bytes[..count]));
        }
    }
}

/// Prints who allocated and who freed a block, as far as it is known. Any context but an NMI.
pub(in crate::mm) fn tell_history(allocated: &CallStack, freed: &CallStack) {
    for (what, stack) in [("allocated last", allocated), ("freed last", freed)] {
        if stack.is_recorded() {
            print!("  {what} from {stack}");
        }
    }
}

/// Prints who asked for a free that was refused: who runs this. Any context but an NMI.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
pub(in crate::mm) fn tell_refused_free() {
    let now = CallStack::new();
    now.record();
    print!("  refused free from {now}");
}

/// So many bytes, as words.
struct Bytes(usize);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// A line of a dump.
struct Dump<'b>(&'b [u8]);

impl Display for Dump<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x} "))?;
        (self.0.len()..LINE).try_for_each(|_| f.write_str("   "))?;
        f.write_str(" ")?;
        self.0.iter().try_for_each(|&byte| {
            let shown = match byte {
                b' '..=b'~' => char::from(byte),
                _ => '.',
            };
            write!(f, "{shown}")
        })
    }
}
