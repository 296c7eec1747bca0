//! A walk over the page tables, and over all that they map, which looks for what must not be there.
//!
//! | rule | else |
//! | --- | --- |
//! | nothing is mapped in the lower half, and nothing is a user's | a null pointer may be followed |
//! | no page is writable and executable; only the image's code is executable | data may be run |
//! | no writable page shows a page table, or the image's code or constants | a stray write may change them |
//! | the window shows memory, each frame at its address, and the firmware's tables read-only | a stray read may reach a device |
//! | a page below each stack, and around each block of vmalloc, is not mapped | an overflow writes over a neighbour |
//!
//! The kernel makes it once all CPUs run, and ends if a rule is broken.

use core::fmt;

use x86_64::structures::paging::PageTableFlags;

use super::frame::{self, Owner};
use super::paging::{self, Found, Mapping};
use super::{PAGE, vmalloc};
use crate::arch::percpu;
use crate::arch::{gdt, memory};

/// What must not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A page of the lower half.
    LowerHalf,
    /// A user's page.
    UsersPage,
    /// A page that is writable and executable.
    WritableCode,
    /// An executable page that is not of the image's code.
    StrayCode,
    /// A writable page that shows a page table.
    WritableTable,
    /// A writable page that shows the image's code or constants.
    WritableImage,
    /// A page of the window that shows no memory, and is no table of the firmware's.
    NoMemory,
    /// A page of the window that shows the memory of another address.
    WrongFrame,
    /// A page next to a stack or a block of vmalloc, which is to be a guard page.
    NoGuard,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LowerHalf => "a page in the lower half of the address space",
            Self::UsersPage => "a page that user code may use",
            Self::WritableCode => "a page that is writable and executable",
            Self::StrayCode => "an executable page outside the kernel's code",
            Self::WritableTable => "a writable page that shows a page table",
            Self::WritableImage => "a writable page that shows the kernel's code or constants",
            Self::NoMemory => "a page of the window that shows no memory",
            Self::WrongFrame => "a page of the window that shows the memory of another address",
            Self::NoGuard => "a page that should be a guard page",
        })
    }
}

/// A page that must not be mapped as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub flaw: Flaw,
    /// The page's address.
    pub page: usize,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is mapped at {:#018x}", self.flaw, self.page)
    }
}

/// Looks for the first rule that is broken. `boot_stack` is where the stack begins on which the kernel has started. Task context;
/// exact while nobody maps or unmaps.
pub fn check(boot_stack: usize) -> Result<(), Broken> {
    paging::walk(&mut |found| match found {
        Found::Table(_) => Ok(()),
        Found::Mapped(mapping) => judge(&mapping).map_or(Ok(()), Err),
    })?;
    let stacks = (0..percpu::running()).flat_map(gdt::exception_stacks);
    let mut guards = stacks
        .map(|stack| stack.start)
        .chain([boot_stack])
        .map(|start| start - PAGE);
    let flaw = Flaw::NoGuard;
    match guards
        .find(|&page| paging::is_mapped(page))
        .or_else(vmalloc::missing_guard)
    {
        Some(page) => Err(Broken { flaw, page }),
        None => Ok(()),
    }
}

fn judge(mapping: &Mapping) -> Option<Broken> {
    let has = |flag| mapping.flags.contains(flag);
    let (start, is_writable) = (mapping.start, has(PageTableFlags::WRITABLE));
    let is_code = !has(PageTableFlags::NO_EXECUTE);
    let in_window = memory::window(0)..memory::window(frame::END);
    let shown = memory::window(mapping.physical);
    let rules = [
        (Flaw::LowerHalf, start >> 63 == 0),
        (Flaw::UsersPage, has(PageTableFlags::USER_ACCESSIBLE)),
        (Flaw::WritableCode, is_writable && is_code),
        (Flaw::StrayCode, is_code && !memory::text().contains(start)),
        (
            Flaw::WrongFrame,
            in_window.contains(&start) && start != shown,
        ),
    ];
    let broken = rules.into_iter().find(|&(_, is_broken)| is_broken);
    match broken {
        Some((flaw, _)) => Some(Broken { flaw, page: start }),
        None if is_writable => judge_frames(mapping),
        None => None,
    }
}

/// Looks at the frames that a writable mapping shows.
fn judge_frames(mapping: &Mapping) -> Option<Broken> {
    (0..mapping.len).step_by(PAGE).find_map(|offset| {
        let page = mapping.start + offset;
        let in_window = memory::window(mapping.physical + offset as u64);
        let flaw = match frame::frame_of(in_window).map(|frame| frame.owner()) {
            Some(Owner::PageTable) => Flaw::WritableTable,
            Some(Owner::Image) => Flaw::WritableImage,
            _ if page == in_window && !frame::are_memory(page, page + PAGE) => Flaw::NoMemory,
            _ => return None,
        };
        Some(Broken { flaw, page })
    })
}
