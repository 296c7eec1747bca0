//! How much metadata a detector needs.

use crate::platform::METADATA_PAGE;

/// What a detector is expected to have to do, from which it follows how much metadata it needs: for the size of a
/// [`BootstrapPool`](crate::BootstrapPool), and of what is [lent](crate::Detector::add_metadata).
///
/// The rule, in bytes: 40 KiB, and
///
/// - a page of 4096 for each 64 KiB of the memory in which blocks lie, however few: 1/16 of the heap;
/// - for each 512 bytes of it in which several blocks begin, records of 28 bytes, as many as blocks of the smallest size have room
///   there: 896 where blocks of 16 bytes are usual, 224 where they have 64 bytes; and 28 for each in which one block begins alone.
///   (Where there are fewer than two blocks for each 512 bytes, they are supposed to lie in pairs.) A quarter more for what is left
///   over between them, and 4 for each block for the queues of a check;
/// - 320 for each call stack that allocates: half of it for the stack itself, the rest while sites and groups are counted;
/// - 96 for each leak that a verdict is to list, and a mark to remember;
/// - 16 KiB for each CPU.
///
/// A block at no multiple of 8 takes 64 more, and so does each scan area.
///
/// So much is enough for tracking, checks, background scans, reports and [`sites`](crate::Detector::for_each_site). With less, some
/// blocks are not recorded, and the verdict says how many. What blocks take that come and go is used again.
///
/// ```
/// use kmemleak::{BootstrapPool, Load};
///
/// const LOAD: Load = Load {
///     objects: 4000,
///     heap_bytes: 1 << 20,
///     smallest_bytes: 32,
///     call_stacks: 200,
///     leaks: 100,
///     cpus: 1,
/// };
/// static POOL: BootstrapPool<{ LOAD.pages() }> = BootstrapPool::new();
/// # let _ = &POOL;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Blocks that are tracked at once.
    pub objects: usize,
    /// Bytes of the memory in which they lie: of the heap.
    pub heap_bytes: usize,
    /// The usual size of small blocks, in bytes; 16 if it is not known.
    pub smallest_bytes: usize,
    /// Different call stacks that allocate.
    pub call_stacks: usize,
    /// Leaks that a verdict is to list.
    pub leaks: usize,
    /// CPUs.
    pub cpus: usize,
}

/// The page map's upper tables, the first pages of call stacks and names, and of each array.
const FIXED_BYTES: usize = 10 * METADATA_PAGE;
/// What a page of the page map stands for, and a page of tables above it.
const LEAF_BYTES: usize = 64 << 10;
const TABLE_BYTES: usize = 32 << 20;
/// Records lie together for so many bytes of memory.
const CHUNK_BYTES: usize = 512;
const RECORD_BYTES: usize = 28;
const QUEUED_BYTES: usize = 4;
const CALL_STACK_BYTES: usize = 320;
const LEAK_BYTES: usize = 96;
/// Pages that a CPU cuts for itself, and its queue.
const CPU_BYTES: usize = 4 * METADATA_PAGE;

impl Load {
    /// Bytes of metadata that are enough, by the rule above.
    pub const fn bytes(self) -> usize {
        self.pages() * METADATA_PAGE
    }

    /// Pages of 4096 bytes that are enough, by the rule above.
    pub const fn pages(self) -> usize {
        let map = self.heap_bytes.div_ceil(LEAF_BYTES) + self.heap_bytes.div_ceil(TABLE_BYTES);
        let bytes = FIXED_BYTES
            .saturating_add(self.records_bytes())
            .saturating_add(self.objects.saturating_mul(QUEUED_BYTES))
            .saturating_add(self.call_stacks.saturating_mul(CALL_STACK_BYTES))
            .saturating_add(self.leaks.saturating_mul(LEAK_BYTES))
            .saturating_add(self.cpus.saturating_mul(CPU_BYTES));
        map + bytes.div_ceil(METADATA_PAGE)
    }

    const fn records_bytes(self) -> usize {
        let all = self.heap_bytes.div_ceil(CHUNK_BYTES);
        let chunks = if self.objects < all {
            self.objects
        } else {
            all
        };
        // The distance of records is a power of two, from 8 to 512.
        let mut apart = CHUNK_BYTES;
        while apart > 8 && apart > self.smallest_bytes {
            apart /= 2;
        }
        // At most as many chunks have two objects or more.
        let shared = if self.objects / 2 < all {
            self.objects / 2
        } else {
            all
        };
        let bytes = shared
            .saturating_mul(CHUNK_BYTES / apart * RECORD_BYTES)
            .saturating_add((chunks - shared).saturating_mul(RECORD_BYTES));
        bytes.saturating_add(bytes / 4)
    }
}
