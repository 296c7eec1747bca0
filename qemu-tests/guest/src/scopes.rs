//! Scopes: tests that fail if what they ran lost memory.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::hint::black_box;

use kernel::leak::KMEMLEAK;
use kmemleak::assert_no_leaks;

use crate::guest_test;
use crate::leak_support::{apart, check, plant, uproot};

/// Loses a block of so many bytes.
#[inline(never)]
fn lose(bytes: usize) {
    let block: Vec<u8> = Vec::with_capacity(black_box(bytes));
    black_box(block.leak().as_ptr());
}

guest_test! {
    /// What leaks in a scope ends the test, with the report.
    fn a_leak_is_told() smp [1, 2] fails "guest::scopes::lose+0x" {
        assert_no_leaks!(KMEMLEAK, apart(|| lose(100)));
    }
}

guest_test! {
    /// What was lost before is not the scope's, what is still in use is no leak, and a scope inside is on its own.
    fn only_what_leaks_inside_counts() smp [1, 2, 4] {
        let before = plant(|_| ());
        let value = assert_no_leaks!(KMEMLEAK, {
            let kept = Box::new([1_u64; 30]);
            assert_no_leaks!(KMEMLEAK, apart(|| drop(black_box(Box::new([2_u64; 30])))));
            kept
        });
        assert_eq!(value[29], 1);
        let outer = KMEMLEAK.scope();
        let lost = plant(|_| ());
        assert_no_leaks!(KMEMLEAK, ());
        let Err(leaked) = outer.finish() else {
            panic!("nothing is said to have leaked");
        };
        assert_eq!((leaked.objects(), leaked.bytes()), (1, 64));
        let text = leaked.to_string();
        assert!(text.starts_with("unreferenced object 0x"), "{text}");
        assert!(text.ends_with("kmemleak: 1 object (64 bytes) leaked"), "{text}");
        drop((text, leaked));
        assert_eq!(check().len(), 2);
        [before, lost].into_iter().for_each(|block| {
            // SAFETY: planted above, and given back once.
            unsafe { uproot(block) }
        });
    }
}
