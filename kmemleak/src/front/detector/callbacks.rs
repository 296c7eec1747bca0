//! What allocators tell of their blocks.

use super::Detector;
use crate::platform::{CpuTables, Platform, Reading};
use crate::tracker::AllocOptions;

impl<P: Platform> Detector<P> {
    /// A block was handed out: `size` bytes at `start`. Any context.
    ///
    /// The block is read only if [`Platform::readable`] vouches for it: the caller's word is not enough, except for that of a
    /// [`Tracked`](crate::Tracked).
    ///
    /// If it overlaps blocks that are known, those were freed without a callback: they are forgotten, and counted. The block is
    /// white until a reference is found, unless `options` or a disabled scope say otherwise.
    #[inline(always)]
    pub fn alloc(&self, start: usize, size: usize, options: AllocOptions) {
        self.tracker.alloc(start, size, options);
    }

    /// The block at `start` is given back. Its address must be the one it was handed out with. Any context.
    ///
    /// When this returns, the detector does not read the block any more.
    #[inline(always)]
    pub fn free(&self, start: usize) {
        self.tracker.free(start);
    }

    /// An allocator was told to free `address` and has refused: no block begins there that it has handed out, or the block must
    /// be freed in another way. The detector's records do not change. A warning names the call stacks of the caller and of the
    /// allocation of the block in which the address lies, or last lay. Any context.
    pub fn refused_free(&self, address: usize) {
        self.tracker.refused_free(address);
    }

    /// The bytes from `start` on, `len` of them, are given back, of the block in which `start` lies. The parts before and after
    /// them become blocks of their own, with the age, the colour and the call stack of the whole, and its scan areas cut to the
    /// parts: a part that none of them reaches into is not scanned. Any context.
    ///
    /// Where there is no memory for metadata, the rest of a block that loses an end stays known, and so does the part before a
    /// hole in its middle.
    pub fn free_part(&self, start: usize, len: usize) {
        self.tracker.free_part(start, len);
    }

    /// A per-CPU block was handed out: `size` bytes for each CPU, where [`Platform::percpu_copy`] says. A
    /// pointer to any copy, or the handle, keeps it alive; all copies are scanned; its size counts once. Any context.
    #[inline(always)]
    pub fn alloc_percpu(&self, handle: usize, size: usize) {
        self.tracker.alloc_percpu(handle, size);
    }

    /// The per-CPU block with this handle is given back. Any context.
    #[inline(always)]
    pub fn free_percpu(&self, handle: usize) {
        self.tracker.free(handle);
    }

    /// The per-CPU block with this handle is neither scanned nor reported: it becomes black. Any context.
    pub fn ignore_percpu(&self, handle: usize) {
        self.tracker.ignore(handle);
    }

    /// A block of virtually contiguous memory was handed out, `size` bytes at `start`, and the object at `area`
    /// describes it and points to it: so it needs two references. Any context.
    ///
    /// Pointers to `area` beyond as many as that needs itself ([`AllocOptions::min_count`]) count for the block: if it needs one,
    /// all but one. That is so wherever `area` lies and whatever keeps it alive, except that a black one passes nothing on. If
    /// the block is an area itself, the pointers that it does not need count for its own block.
    ///
    /// For kernels whose bookkeeping is scanned; if it is not, [`alloc`](Self::alloc) is enough.
    pub fn vmalloc(&self, start: usize, size: usize, area: usize) {
        self.tracker.vmalloc(start, size, area);
    }

    /// A block of physical memory was handed out, `size` bytes at physical address `start`: it is scanned where
    /// [`Platform::phys_to_virt`] says it is mapped, and is never reported (gray). Any context.
    pub fn alloc_phys(&self, start: usize, size: usize) {
        self.tracker.alloc_phys(start, size);
    }

    /// Gives back a part of a block of physical memory, as [`free_part`](Self::free_part) does of other blocks. Any context.
    pub fn free_part_phys(&self, start: usize, len: usize) {
        self.tracker.free_part(start, len);
    }

    /// The block of physical memory at `start` is not scanned any more: it becomes black. Any context.
    pub fn ignore_phys(&self, start: usize) {
        self.tracker.ignore(start);
    }

    /// The block at `start` is no leak, even if nothing points to it: it becomes gray, and is scanned. Any context.
    pub fn not_leak(&self, start: usize) {
        self.tracker.not_leak(start);
    }

    /// The block at `start` is neither scanned nor reported: it becomes black. Any context.
    pub fn ignore(&self, start: usize) {
        self.tracker.ignore(start);
    }

    /// The block at `start` is reported when it is lost, but holds no pointers: it is not scanned. Its colour stays.
    /// Any context.
    pub fn no_scan(&self, start: usize) {
        self.tracker.no_scan(start);
    }

    /// Of the block in which `start` lies, only these `len` bytes and areas that were named before are scanned. An area that goes
    /// past the block's end is refused with a warning. Where there is no memory for the area, all of the block is scanned. Any
    /// context.
    pub fn scan_area(&self, start: usize, len: usize) {
        self.tracker.scan_area(start, len);
    }

    /// From now on, scans read the block in which `start` lies as `reading` says. Without this call a block is read as
    /// [`Reading::Words`]. Any context.
    ///
    /// Only the [scan areas](Self::scan_area) of the block are read, if it has any. The parts that
    /// [`free_part`](Self::free_part) leaves keep the reading, and so does a block that a [`Tracked`](crate::Tracked) resizes.
    /// If code copies the contents to a new block, it must call this for the new one. The call is refused with a warning if the
    /// block is too large for [`Reading::Bytes`]. Where there is no memory to record the reading, the block is read as before,
    /// and verdicts are incomplete.
    ///
    /// ```
    /// # use kmemleak::{Detector, Platform, Reading};
    /// # fn f<P: Platform>(kmemleak: &Detector<P>, page_table: usize, header: usize) {
    /// kmemleak.read_as(page_table, Reading::PAGE_TABLE);
    /// kmemleak.read_as(header, Reading::Bytes); // a packed structure
    /// # }
    /// ```
    pub fn read_as(&self, start: usize, reading: Reading) {
        self.tracker.read_as(start, reading);
    }

    /// The block at `start` is unreachable for a while, such as a node that moves from one list to another: the background scan
    /// treats it as referenced once more, even if it has reported it. Any context.
    pub fn transient_leak(&self, start: usize) {
        self.tracker.transient_leak(start);
    }

    /// The block in which `start` lies now belongs to the caller: its call stack is the present one. For
    /// blocks that were allocated ahead of their use. Any context.
    pub fn update_trace(&self, start: usize) {
        self.tracker.update_trace(start);
    }

    /// `len` bytes at `start` are a root from now on. Any context. False where there is no memory to record it, and where the
    /// range can't be memory: it reaches into the first page, or does not lie in one half of the address space. If a region
    /// could not be recorded for lack of memory, what it points to may seem to be lost, so verdicts are incomplete.
    ///
    /// Regions may overlap, touch, and lie in other roots or in tracked objects: each word of them is read once a pass, even if
    /// several cover it. A region that is added several times at one start, even with different lengths, must be removed as
    /// often; until then, all that the remaining ones cover is a root. Its memory must stay readable ([`Platform::readable`]).
    pub fn region_add(&self, start: usize, len: usize) -> bool {
        self.tracker.region_add(start, len, Reading::Words)
    }

    /// `len` bytes at `start` are a root from now on, as by [`region_add`](Self::region_add), but scans read them as `reading`
    /// says. The region may lie in another root, such as a section: these bytes are then read only as `reading` says. Where
    /// regions with other readings than [`Reading::Words`] overlap, the last one that was added counts.
    /// [`region_remove`](Self::region_remove) removes it. Any context.
    ///
    /// False where [`region_add`](Self::region_add) is, and, with a warning, if the region is too large for [`Reading::Bytes`].
    pub fn region_add_as(&self, start: usize, len: usize, reading: Reading) -> bool {
        self.tracker.region_add(start, len, reading)
    }

    /// `len` bytes at `start` are a root from now on, as by [`region_add_as`](Self::region_add_as), and the caller vouches that
    /// they can be read: [`Platform::readable`] is not asked. It is for kernels whose blocks all come from a
    /// [`Tracked`](crate::Tracked), and whose platform therefore vouches for nothing: any other region makes the detector ask
    /// the platform about all blocks as well. Any context.
    ///
    /// # Safety
    ///
    /// The bytes are memory that can be read, without effects, until [`region_remove`](Self::region_remove) has returned.
    pub unsafe fn region_add_vouched(&self, start: usize, len: usize, reading: Reading) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.tracker.region_add_vouched(start, len, reading) }
    }

    /// Removes the region that was added last of those with this start. It waits while a scan reads there, for one page at most.
    /// When it returns, no scan reads this memory any more, unless another root covers it. So a kernel may add the stack of each
    /// task as a region before the task runs, and remove it before the stack is unmapped. Any context.
    pub fn region_remove(&self, start: usize) {
        self.tracker.region_remove(start);
    }

    /// From now on, the blocks that only an x86_64 CPU's own registers and tables point to are in use: its descriptor tables,
    /// its task state segment, what their descriptors and gates point to, and its interrupt stacks. Each check reads the tables
    /// anew, so later changes of a stack pointer count. Each CPU adds its tables once it has loaded them. A kernel that loads
    /// other tables adds those, and [removes](Self::cpu_tables_remove) the earlier ones before it frees them. Any context. False
    /// where there is no memory to record all of it; verdicts are incomplete then.
    ///
    /// ```no_run
    /// # use kmemleak::{Detector, Platform};
    /// # #[cfg(all(feature = "x86_64", target_arch = "x86_64", not(miri)))]
    /// # fn loaded<P: Platform>(kmemleak: &Detector<P>) {
    /// // After lgdt, ltr and lidt, on each CPU.
    /// // SAFETY: these tables stay where they are.
    /// unsafe { kmemleak.cpu_tables_add(&kmemleak::CpuTables::loaded()) };
    /// # }
    /// ```
    ///
    /// # Safety
    ///
    /// All that `tables` names is memory that can be read, to the end of each table, until
    /// [`cpu_tables_remove`](Self::cpu_tables_remove) has returned. If a limit is larger than the table, the memory behind the
    /// table is read as well.
    pub unsafe fn cpu_tables_add(&self, tables: &CpuTables) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.tracker.cpu_tables_add(tables) }
    }

    /// Undoes a [`cpu_tables_add`](Self::cpu_tables_add) of these tables: they no longer keep blocks alive. Any context.
    pub fn cpu_tables_remove(&self, tables: &CpuTables) {
        self.tracker.cpu_tables_remove(tables);
    }

    /// `len` bytes at `start` are in no root from now on, though the platform or a region may name them: for example memory in
    /// which an allocator keeps its own state, among variables that are roots. Tracked objects that lie there are treated like
    /// other objects. A range that is excluded again must be [included](Self::include) as often. Any context. False where there
    /// is no memory to note it.
    pub fn exclude(&self, start: usize, len: usize) -> bool {
        self.tracker.exclude(start, len)
    }

    /// Removes the last [`exclude`](Self::exclude) of those that name this start; false if there is none. Any context.
    pub fn include(&self, start: usize) -> bool {
        self.tracker.include(start)
    }

    /// From here on, what the running task allocates is no leak (gray), until [`disabled_end`](Self::disabled_end) was called as
    /// often as this. Task context.
    pub fn disabled_begin(&self) {
        self.tracker.disabled_begin();
    }

    /// Ends the last [`disabled_begin`](Self::disabled_begin). Task context.
    pub fn disabled_end(&self) {
        self.tracker.disabled_end();
    }

    /// Clears a variable whose pointer must not keep a block alive, such as a slot of an allocator's cache that was emptied.
    ///
    /// # Safety
    ///
    /// The variable can be written to, and no other code writes to it.
    pub unsafe fn erase(&self, variable: *mut usize) {
        // SAFETY: the caller's promise.
        unsafe { variable.write_volatile(0) };
    }
}
