//! Call sites: whose they are, and what is told of them when the machine ends.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hint::black_box;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::leak::KMEMLEAK;
use kernel::mm::buddy::{self, Tracking};

use crate::guest_test;
use crate::leak_support::apart;

/// Where the innermost call of the block's call stack was made.
fn innermost(block: *mut u8) -> String {
    let mut text = String::new();
    let asked = KMEMLEAK.command(&format!("dump {:x}", block.addr()), &mut text);
    asked.expect("a string takes it");
    let (_, frames) = text.split_once("  backtrace (crc ").expect("a call stack");
    let frame = frames.lines().nth(1).expect("a frame");
    frame.trim_start().into()
}

const LAYOUT: Layout = Layout::new::<[u64; 9]>();

#[inline(never)]
fn asks() -> *mut u8 {
    // SAFETY: the layout is not empty.
    black_box(unsafe { alloc::alloc::alloc(LAYOUT) })
}

#[inline(never)]
fn asks_for_zeros() -> *mut u8 {
    // SAFETY: the layout is not empty.
    black_box(unsafe { alloc::alloc::alloc_zeroed(LAYOUT) })
}

#[inline(never)]
fn asks_for_more(block: *mut u8) -> *mut u8 {
    // SAFETY: the block has that layout, and its new size is not zero.
    black_box(unsafe { alloc::alloc::realloc(block, LAYOUT, 2 * LAYOUT.size()) })
}

guest_test! {
    /// A call stack begins with the function that asked for memory, however it asked: the allocator's own functions are left out.
    fn call_stacks_begin_with_who_asks() smp [1] leaks nothing {
        let (plain, zeroed) = (asks(), asks_for_zeros());
        assert!(innermost(plain).starts_with("guest::sites::asks+0x"), "{}", innermost(plain));
        assert!(innermost(zeroed).starts_with("guest::sites::asks_for_zeros+0x"), "{}", innermost(zeroed));
        // SAFETY: the block is that long.
        let bytes = unsafe { core::slice::from_raw_parts_mut(zeroed, LAYOUT.size()) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(7);
        let longer = asks_for_more(zeroed);
        assert!(innermost(longer).starts_with("guest::sites::asks_for_more+0x"), "{}", innermost(longer));
        // SAFETY: what the block had is copied.
        let bytes = unsafe { core::slice::from_raw_parts(longer, LAYOUT.size()) };
        assert!(bytes.iter().all(|&byte| byte == 7));
        let longer_layout = Layout::from_size_align(2 * LAYOUT.size(), LAYOUT.align()).expect("a layout");
        // SAFETY: the block has that layout.
        unsafe { alloc::alloc::dealloc(plain, LAYOUT) };
        // SAFETY: the block has that layout.
        unsafe { alloc::alloc::dealloc(longer, longer_layout) };
    }
}

/// Blocks that are kept, each with a pointer to the next.
static HOARD: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Takes all there is in blocks of 2^`order` pages.
#[inline(never)]
fn hoard(order: u32) {
    while let Some(block) = buddy::alloc(order, Tracking::Tracked) {
        let next = HOARD.swap(block.as_ptr(), Ordering::AcqRel);
        // SAFETY: the block is ours, and has at least a page.
        unsafe { block.as_ptr().cast::<*mut u8>().write(next) };
    }
}

fn hoard_everything() {
    apart(|| (0..=8).rev().for_each(hoard));
}

guest_test! {
    /// A failed allocation is reported with its size.
    fn out_of_memory_is_told() smp [1, 2] fails "memory allocation of 1000000 bytes failed" {
        hoard_everything();
        black_box(Vec::<u8>::with_capacity(black_box(1_000_000)));
    }
}

guest_test! {
    /// A failed allocation reports the call sites that hold the memory. (The panic's own call stack has none of their functions.)
    fn out_of_memory_tells_the_top_sites() smp [1, 4] fails "guest::sites::hoard+0x" {
        hoard_everything();
        black_box(Vec::<u8>::with_capacity(black_box(1_000_000)));
    }
}

/// Takes a mebibyte permanently.
#[inline(never)]
fn take_a_lot() {
    black_box(Box::leak(alloc::vec![1_u8; 1 << 20].into_boxed_slice())).fill(1);
}

guest_test! {
    /// A panic reports the top call sites, also while the detector is at work and can't be asked.
    fn a_panic_of_who_asks_the_detector_tells_the_top_sites() smp [1, 2] fails "    guest::sites::take_a_lot+0x" {
        apart(take_a_lot);
        let _ = KMEMLEAK.for_each_site(kmemleak::SiteOrder::Bytes, &mut |_| panic!("as it should"));
    }
}

guest_test! {
    /// The top sites are those with the most live bytes, the most first, and are as many as asked for at most.
    fn top_sites_are_in_order() smp [1, 2] {
        let small: Vec<Box<[u8]>> = (0..4).map(|_| alloc::vec![0; 100_000].into()).collect();
        let large = black_box(alloc::vec![1_u8; 4 << 20]);
        let medium = black_box(alloc::vec![2_u8; 2 << 20]);
        let mut seen = Vec::with_capacity(8);
        let mut look = |top: usize| {
            seen.clear();
            assert!(KMEMLEAK.for_top_sites(top, &mut |site| seen.push((site.bytes, site.objects))));
            seen.clone()
        };
        assert_eq!(look(2), [(4 << 20, 1), (2 << 20, 1)]);
        let all = look(100);
        assert!(all.is_sorted_by(|one, other| one.0 >= other.0), "{all:?}");
        assert!(all.len() > 4, "{all:?}");
        drop((small, large, medium));
        KMEMLEAK.command("off", &mut String::new()).expect("a string takes it");
        assert!(!KMEMLEAK.for_top_sites(3, &mut |_| panic!("the detector is off")));
    }
}
