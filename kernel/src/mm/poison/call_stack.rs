//! Call stacks that an allocator keeps beside its blocks, to say who allocated and who freed one.
//!
//! The leak detector has call stacks, too, each once, and a handle would take four bytes here instead of fifty. But it is not told of
//! all caches, knows nothing while it is off, forgets who freed unless it is told not to, and may not be asked under its own locks,
//! where memory is freed as well. What looks for broken memory must need nothing that may be broken with it. So the frames lie
//! here, in the slab. Code lies in the top 2 GiB of the address space, so the low half of a return address is enough, and no
//! scan takes it for an address.
//!
//! How far the running stack reaches, and what functions are called, is known above the allocators only: [`init`] is told whom to ask.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;

use crate::arch::percpu::{cpu_id, task_or_zero};
use crate::arch::{backtrace, memory};
use crate::dev::time;

/// Frames that are kept of a call stack.
const FRAMES: usize = 10;

/// Frames of the allocators, which are left out.
const OWN_FRAMES: usize = 6;

/// Where the image lies: the high half of the addresses of its code.
const IMAGE: usize = 0xffff_ffff_0000_0000;

/// What the allocators ask of the layers above them.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// Where the running task's stack lies; `None` before there are tasks. Any context.
    pub stack: fn() -> Option<Range<usize>>,
    /// Writes the name of the place from which a call returns to this address. Any context: takes no memory and no lock.
    pub name: fn(usize, &mut fmt::Formatter<'_>) -> fmt::Result,
}

static OUTSIDE: Once<Outside> = Once::new();

/// Says whom to ask. Before that, names are numbers, and the running stack is taken to be the page that the stack pointer is in.
pub fn init(outside: Outside) {
    OUTSIDE.call_once(|| outside);
}

/// Who did something to a block, and when. Its fields may be read while another CPU writes them: then they are of two calls.
pub(in crate::mm) struct CallStack {
    frames: [AtomicU32; FRAMES],
    task: AtomicU32,
    cpu: AtomicU32,
    /// Low half of the time in milliseconds, plus one; zero if nothing was recorded.
    when: AtomicU32,
}

impl CallStack {
    pub(in crate::mm) const fn new() -> Self {
        Self {
            frames: [const { AtomicU32::new(0) }; FRAMES],
            task: AtomicU32::new(0),
            cpu: AtomicU32::new(0),
            when: AtomicU32::new(0),
        }
    }

    /// Records who runs this, without the frames of the allocators. Any context but an NMI.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    pub(in crate::mm) fn record(&self) {
        let mut found = [0; FRAMES + OWN_FRAMES];
        // SAFETY: the stack in use, which is mapped.
        let count = unsafe { backtrace::walk(backtrace::frame_pointer(), stack(), &mut found) };
        let hooks = memory::hooks();
        let mut callers = found[..count].iter().skip_while(|&&at| hooks.contains(at));
        for frame in &self.frames {
            let at = callers.next().copied().unwrap_or(0);
            frame.store(at as u32, Ordering::Relaxed);
        }
        self.task.store(task_or_zero(), Ordering::Relaxed);
        self.cpu.store(cpu_id(), Ordering::Relaxed);
        self.when.store(now_ms().max(1), Ordering::Relaxed);
    }

    /// Whether there is something to show.
    pub(in crate::mm) fn is_recorded(&self) -> bool {
        self.when.load(Ordering::Relaxed) != 0
    }
}

fn now_ms() -> u32 {
    (time::now_us() / 1000) as u32
}

fn stack() -> Range<usize> {
    let known = OUTSIDE.get().and_then(|outside| (outside.stack)());
    let page = backtrace::stack_pointer() & !0xfff;
    known.unwrap_or(page..page + 0x1000)
}

impl fmt::Display for CallStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "task {}, cpu {}, {} ms ago:",
            self.task.load(Ordering::Relaxed),
            self.cpu.load(Ordering::Relaxed),
            now_ms().wrapping_sub(self.when.load(Ordering::Relaxed))
        )?;
        let frames = self
            .frames
            .iter()
            .map(|frame| frame.load(Ordering::Relaxed));
        for low in frames.take_while(|&low| low != 0) {
            writeln!(f, "    {}", Name(IMAGE | low as usize))?;
        }
        Ok(())
    }
}

/// Where a call returns to.
struct Name(usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match OUTSIDE.get() {
            Some(outside) => (outside.name)(self.0, f),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}
