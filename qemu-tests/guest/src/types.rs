//! Which types blocks have: none has a wrong one, and nearly all have one.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, LinkedList, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;

use kernel::leak::KMEMLEAK;

use crate::guest_test;
use crate::storm;

/// Two types of equal code, so that the compiler would take functions of one for those of the other.
#[derive(Clone)]
struct Sheep([u64; 3]);
#[derive(Clone)]
struct Goat([u64; 3]);

trait Animal {
    fn legs(&self) -> u64;
}

impl Animal for Sheep {
    fn legs(&self) -> u64 {
        self.0[1]
    }
}

impl Animal for Goat {
    fn legs(&self) -> u64 {
        self.0[0]
    }
}

/// The type of the block that a pointer leads to.
fn type_at(block: *const u8) -> String {
    let mut answer = String::new();
    let asked = KMEMLEAK.command(&format!("dump {:x}", black_box(block).addr()), &mut answer);
    asked.expect("a block");
    let line = answer.lines().find_map(|line| line.strip_prefix("  type "));
    line.unwrap_or("none").into()
}

/// What `make` allocates, by the pointer that `of` gives, has this type.
#[inline(never)]
fn expect<T>(name: &str, make: impl FnOnce() -> T, of: impl FnOnce(&T) -> *const u8) {
    let value = black_box(make());
    assert_eq!(type_at(of(&value)), name);
}

/// Grows a vector by code that is not inlined.
#[inline(never)]
fn pushed<T: Clone>(value: T) -> Vec<T> {
    let mut all = Vec::new();
    for _ in 0..black_box(9) {
        all.push(value.clone());
    }
    all
}

#[inline(never)]
fn collected<T>(make: impl FnMut(u64) -> T) -> Vec<T> {
    (0..black_box(5_u64)).map(make).collect()
}

guest_test! {
    /// The constructors of the standard library, each with two types of equal code.
    fn constructors() smp [1] {
        expect("guest::types::Sheep", || Box::new(Sheep([1; 3])), |it| (&raw const **it).cast());
        expect("guest::types::Goat", || Box::new(Goat([1; 3])), |it| (&raw const **it).cast());
        expect("Arc<guest::types::Sheep>", || Arc::new(Sheep([1; 3])), |it| Arc::as_ptr(it).cast());
        expect("Arc<guest::types::Goat>", || Arc::new(Goat([1; 3])), |it| Arc::as_ptr(it).cast());
        expect("Rc<guest::types::Goat>", || Rc::new(Goat([1; 3])), |it| Rc::as_ptr(it).cast());
        expect("guest::types::Goat", || -> Box<dyn Animal> { Box::new(Goat([4; 3])) }, |it| {
            assert_eq!(it.legs(), 4);
            (&raw const **it).cast()
        });
        expect("guest::types::Sheep", || -> Box<dyn Animal> { Box::new(Sheep([4; 3])) }, |it| {
            assert_eq!(it.legs(), 4);
            (&raw const **it).cast()
        });
        expect("[guest::types::Sheep]", || Vec::<Sheep>::with_capacity(7), |it| it.as_ptr().cast());
        expect("[guest::types::Goat]", || Vec::<Goat>::with_capacity(7), |it| it.as_ptr().cast());
        expect("[guest::types::Sheep]", || pushed(Sheep([1; 3])), |it| it.as_ptr().cast());
        expect("[guest::types::Goat]", || pushed(Goat([1; 3])), |it| it.as_ptr().cast());
        expect("[u64]", || pushed(1_u64), |it| it.as_ptr().cast());
        expect("[usize]", || pushed(1_usize), |it| it.as_ptr().cast());
        expect("[guest::types::Goat]", || collected(|n| Goat([n; 3])), |it| it.as_ptr().cast());
        expect("[Box<guest::types::Goat>]", || collected(|n| Box::new(Goat([n; 3]))), |it| it.as_ptr().cast());
        expect("guest::types::Goat", || collected(|n| Box::new(Goat([n; 3]))), |it| (&raw const *it[3]).cast());
        expect("[guest::types::Sheep]", || pushed(Sheep([1; 3])).into_boxed_slice(), |it| it.as_ptr().cast());
        expect("Arc<[u16]>", || Arc::<[u16]>::from(&[1, 2, 3][..]), |it| Arc::as_ptr(it).cast());
        expect("Arc<[u8]>", || Arc::<str>::from("text"), |it| Arc::as_ptr(it).cast());
        expect("[u8]", || format!("{}", black_box(17)), |it| it.as_ptr());
        expect("[guest::types::Goat]", || VecDeque::from(pushed(Goat([1; 3]))), |it| it.as_slices().0.as_ptr().cast());
        expect("LeafNode<u32, guest::types::Goat>", || BTreeMap::from([(1_u32, Goat([1; 3]))]), |it| {
            (&raw const it[&1]).cast()
        });
        expect("Node<guest::types::Sheep>", || LinkedList::from([Sheep([1; 3])]), |it| {
            (it.front().expect("one") as *const Sheep).cast()
        });
    }
}

guest_test! {
    /// A clone of a vector of boxes allocates both.
    fn clones() smp [1] {
        let all = collected(|n| Box::new(Sheep([n; 3])));
        expect("[Box<guest::types::Sheep>]", || all.clone(), |it| it.as_ptr().cast());
        expect("guest::types::Sheep", || all.clone(), |it| (&raw const *it[2]).cast());
    }
}

/// How many objects there are, and how many of them have a type.
fn typed() -> (usize, usize) {
    let mut answer = String::new();
    KMEMLEAK.command("types", &mut answer).expect("memory");
    let last = answer.lines().next_back().expect("a sum");
    let (typed, rest) = last
        .split_once("; ")
        .and_then(|(_, rest)| rest.split_once(" of "))
        .expect("two numbers");
    let objects = rest.split(' ').next().expect("a number");
    (
        objects.parse().expect("a number"),
        typed.parse().expect("a number"),
    )
}

guest_test! {
    /// In a storm at least 95 in 100 of the objects have a type.
    fn of_a_storm() smp [1, 2, 4] {
        // On a busy host a storm may be over before it is looked at. The kernel's own dozen blocks have no type, stacks above all.
        const ENOUGH: usize = 1000;
        let (mut objects, mut with_type) = (0, 0);
        for seed in 0x5851_f42d_4c95_7f2d.. {
            let handles = storm::start(seed);
            while !storm::is_over() {
                let (all, typed) = typed();
                (objects, with_type) = (objects + all, with_type + typed);
                storm::let_the_world_go_on();
            }
            storm::end(handles);
            if objects >= ENOUGH {
                break;
            }
        }
        kernel::println!("{with_type} of {objects} objects had a type");
        assert!(with_type * 100 >= objects * 95, "{with_type} of {objects}");
    }
}
