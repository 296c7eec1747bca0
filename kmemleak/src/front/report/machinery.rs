//! Which functions are allocation machinery: the code between an allocator and the code that asked it for memory.
//!
//! A call stack that begins with `alloc::raw_vec::finish_grow` says nothing. So functions are recognised by their names, as
//! `rustc-demangle` writes them, with or without hashes:
//!
//! - the standard library (`core`, `alloc`, `std`, and `hashbrown`, which its hash tables are made of and which kernels use without `std`),
//!   and what the compiler makes of an allocation (`__rust_alloc` and others);
//! - this crate, with its names for C;
//! - `GlobalAlloc` and `Allocator`, implemented by any type.
//!
//! `<Type as Trait>::function` is someone else's if either of the two is: a kernel implements its own traits for `Vec`, and `Clone`
//! for its own types. A call through `FnOnce` and its like is not machinery: the compiler may have made it and the closure one
//! function, and then the closure has no other name.

use super::brackets::{end_of_argument, split_as};

/// How names begin that the compiler gives to calls of the global allocator.
const COMPILER: [&str; 5] = [
    "__rust_alloc",
    "__rust_realloc",
    "__rust_dealloc",
    "__rg_",
    "__rdl_",
];
/// Crates whose functions are machinery.
const LIBRARIES: [&str; 6] = ["core", "alloc", "std", "hashbrown", "__rustc", "kmemleak"];
/// Where the traits of closures are.
const CALLS: &str = "core::ops::function::";
/// Where the traits of allocators are.
const ALLOCATORS: &str = "core::alloc::";

/// Whether a function is a part of the allocation machinery, by its demangled name: of the standard library, of what the compiler
/// makes of an allocation, of this crate, or of an implementation of `GlobalAlloc`.
///
/// Reports leave such functions out at the inner end of a call stack, so that it begins with the code that asked for memory. Programs
/// that read reports can do the same. Any context.
///
/// ```
/// use kmemleak::is_allocation_machinery;
///
/// assert!(is_allocation_machinery("<alloc::vec::Vec<T,A>>::push"));
/// assert!(!is_allocation_machinery("kernel::net::open"));
/// ```
pub fn is_allocation_machinery(function: &str) -> bool {
    let Some(inside) = function.strip_prefix('<') else {
        return is_plain(function);
    };
    // Without its end it can't be told who wrote it.
    let Some(end) = end_of_argument(inside) else {
        return false;
    };
    let Some((implementor, interface)) = split_as(&inside[..end]) else {
        return is_library_type(&inside[..end]);
    };
    interface.starts_with(ALLOCATORS)
        || is_library(interface) && !interface.starts_with(CALLS) && is_library_type(implementor)
}

/// Of a name without a type in front.
fn is_plain(function: &str) -> bool {
    if !function.contains("::") {
        let is_own = function.starts_with("kmemleak_");
        return is_own || COMPILER.iter().any(|name| function.starts_with(name));
    }
    is_library(function) && !function.starts_with(CALLS)
}

/// Whether a path begins in a crate of the machinery.
fn is_library(path: &str) -> bool {
    crate_of(path).is_some_and(|name| LIBRARIES.contains(&name))
}

/// Whether a type is the machinery's or nobody's: a parameter, a number, a slice of anything.
fn is_library_type(written: &str) -> bool {
    const SIGILS: [&str; 8] = ["&", "*", "(", "mut ", "const ", "dyn ", "'_ ", "["];
    let mut path = written;
    let mut is_slice = false;
    while let Some(sigil) = SIGILS.iter().find(|sigil| path.starts_with(**sigil)) {
        path = &path[sigil.len()..];
        is_slice |= *sigil == "[";
    }
    is_slice || crate_of(path).is_none_or(|name| LIBRARIES.contains(&name))
}

/// The crate in which a path begins; `None` if it has one word only. Its hash is left out.
fn crate_of(path: &str) -> Option<&str> {
    let is_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let end = path.find(|letter| !is_of_word(letter))?;
    let (name, mut rest) = path.split_at(end);
    if let Some(hash) = rest.strip_prefix('[') {
        rest = hash.split_once(']')?.1;
    }
    rest.starts_with("::").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::is_allocation_machinery;

    #[test]
    fn what_lies_between_allocator_and_caller() {
        for name in [
            "__rust_alloc",
            "__rust_alloc_zeroed",
            "__rust_realloc",
            "__rg_alloc",
            "__rdl_alloc",
            "__rustc::__rust_alloc",
            "__rustc[5dcfd0d8e3fa7d3e]::__rust_alloc",
            "alloc::raw_vec::finish_grow",
            "alloc[5dcf]::raw_vec::finish_grow::<alloc::alloc::Global>",
            "alloc::slice::<impl [T]>::into_vec",
            "alloc::sync::Arc<T>::new",
            "core::iter::traits::iterator::Iterator::collect",
            "std::collections::hash::map::HashMap<K,V,S>::insert",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
            "<hashbrown::map::HashMap<K,V,S,A>>::insert",
            "<alloc::raw_vec::RawVec<T,A>>::grow_one",
            "alloc::raw_vec::RawVecInner<A>::reserve::do_reserve_and_handle",
            "<alloc::vec::Vec<T,A> as alloc::vec::spec_extend::SpecExtend<T,I>>::spec_extend",
            "<alloc::vec::Vec<kernel::Frame>>::push",
            "<alloc::boxed::Box<dyn kernel::Driver> as core::clone::Clone>::clone",
            "<T as alloc::slice::hack::ConvertVec>::to_vec",
            "<[kernel::Frame] as alloc::slice::hack::ConvertVec>::to_vec",
            "<[kernel::Frame]>::to_vec",
            "<&mut W as core::fmt::Write>::write_str",
            "<core::iter::Map<I,fn(u8) -> kernel::X> as core::iter::Iterator>::fold",
            "kmemleak::front::detector::callbacks::<impl kmemleak::Detector<P>>::alloc",
            "<kmemleak::front::tracked::Tracked<A,P> as core::alloc::global::GlobalAlloc>::alloc",
            "<kernel::mm::Heap as core::alloc::global::GlobalAlloc>::alloc",
            "kmemleak_alloc",
        ] {
            assert!(is_allocation_machinery(name), "{name}");
        }
    }

    #[test]
    fn what_others_wrote() {
        for name in [
            "kernel::net::open",
            "kernel::alloc::frames",
            "allocator::alloc",
            "alloc_frames",
            "alloc",
            "core_affinity::pin",
            "hashbrown_pool::Pool::grow",
            "kmemleak_emulated::machine::Machine::slab",
            "kernel::net::open::{{closure}}",
            "<kernel::Frame as core::clone::Clone>::clone",
            "<kernel::Frame>::new",
            "<dyn kernel::Driver>::probe",
            "<alloc::vec::Vec<T> as kernel::net::Packet>::send",
            "<T as kernel::net::Packet>::send",
            "<&kernel::Frame as core::iter::IntoIterator>::into_iter",
            "core::ops::function::FnOnce::call_once",
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            "<kernel::start::{closure#0} as core::ops::function::FnOnce<()>>::call_once",
            "<alloc::vec::Vec<T,A> as alloc::vec::spec_ext",
            "<",
            "",
            "0xffffffff80001234",
            "äöü::ß",
        ] {
            assert!(!is_allocation_machinery(name), "{name}");
        }
    }
}
