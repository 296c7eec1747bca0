//! The type of a block, from the functions that allocated it.
//!
//! `Box::<Task>::new` says what it puts into its block, `RawVec::<u32>::grow_one` of what the block is an array. The compiler
//! usually inlines such functions into the code that asked for memory, and the debug information still names them there, with
//! their generic arguments ([`Platform::instances`](crate::Platform::instances)). So the functions of a call stack are looked at from the allocator on,
//! innermost first, as far as they are [allocation machinery](super::machinery): the first one in the table below decides.
//!
//! | function | the block |
//! | --- | --- |
//! | `Box<T>::new`, `new_in`, `new_uninit` and the like | a `T`; `Arc<T>` if that is `ArcInner<T>`, `Rc<T>` likewise |
//! | `Arc<T>::allocate_for_layout` and the like, for slices | an `Arc<T>`; `Rc` likewise |
//! | `RawVec<T>`, all of its functions | an array of `T`, for `Vec`, `VecDeque`, `String` and the boxed slices made of these |
//! | `hashbrown::raw::RawTable<T>`, all of its functions | a table of `T` |
//!
//! The collections of the standard library allocate through these alone: a leaf of a `BTreeMap` is a `Box<LeafNode<K, V>>`.
//!
//! # No type rather than a wrong one
//!
//! Where one of these functions comes without arguments, the block has no type: what its caller says need not be about this block.
//! (A `Vec<Box<A>>` that is cloned allocates an `A`.) One case is certain: `RawVec` is called by the collection that owns its
//! buffer and by nobody else, so where it has no arguments those of `Vec` or `VecDeque` count, if that is the next function.

use core::fmt::{self, Display, Formatter};
use core::ops::ControlFlow;

use super::brackets::{end_of_argument, first_argument, split_arguments, split_as};
use super::machinery::is_allocation_machinery;
use super::type_name::{Paths, TypeName};
use crate::platform::{Counted, Platform};

/// Bytes of a type's name, as it stands in debug information. A longer one is no help in a report.
const ROOM: usize = 512;

/// What a function puts into the block that it allocates, made of its first generic argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// The argument.
    Value,
    /// A reference-counted box of the argument.
    Arc,
    Rc,
    /// An array of the argument.
    Elements,
    /// A hash table of the argument.
    Table,
}

/// The type of what lies in a block, as its functions have told it to a [`TypeSearch`].
///
/// It shows itself as reports do, with whole paths of all that is not the standard library's: `Arc<kernel::task::Task>`. Any context.
#[derive(Clone)]
pub struct BlockType {
    content: Content,
    argument: [u8; ROOM],
    len: usize,
}

impl BlockType {
    fn new(content: Content, argument: &str) -> Option<Self> {
        let mut bytes = [0; ROOM];
        bytes
            .get_mut(..argument.len())?
            .copy_from_slice(argument.as_bytes());
        Some(Self {
            content,
            argument: bytes,
            len: argument.len(),
        })
    }

    fn argument(&self) -> &str {
        core::str::from_utf8(&self.argument[..self.len]).unwrap_or_default()
    }

    /// How the block counts the references to it, if it does. May sleep: task context.
    pub(super) fn counted<P: Platform>(&self, platform: &P) -> Option<Counted> {
        match self.content {
            Content::Arc | Content::Rc => Some(Counted::STD),
            Content::Value => platform.counted(self.argument()),
            Content::Elements | Content::Table => None,
        }
    }

    /// The type, with the last name of each path alone.
    pub(super) fn short(&self) -> impl Display {
        WithPaths(self, Paths::Last)
    }
}

impl Display for BlockType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        WithPaths(self, Paths::Whole).fmt(f)
    }
}

struct WithPaths<'a>(&'a BlockType, Paths);

impl Display for WithPaths<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let argument = TypeName(self.0.argument(), self.1);
        match self.0.content {
            Content::Value => write!(f, "{argument}"),
            Content::Arc => write!(f, "Arc<{argument}>"),
            Content::Rc => write!(f, "Rc<{argument}>"),
            Content::Elements => write!(f, "[{argument}]"),
            Content::Table => write!(f, "RawTable<{argument}>"),
        }
    }
}

impl fmt::Debug for BlockType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "BlockType({self})")
    }
}

/// What the functions so far have said.
#[derive(Clone, Copy, Debug)]
enum SoFar<'a> {
    /// Nothing: they were machinery that is the same for all types.
    Nothing,
    /// The last one was a function of `RawVec`, without arguments.
    Buffer,
    /// This is made of that argument.
    Type(Content, &'a str),
    /// It can't be told.
    Unknown,
}

/// Finds the type of a block from the functions that allocated it.
///
/// It takes the functions of the block's call stack one by one, innermost first, those that were inlined as well, each with its
/// generic arguments, as [`Platform::instances`](crate::Platform::instances) describes them. Reports find the types of blocks so;
/// programs that name the addresses of a report later can do the same. Any context.
///
/// ```
/// use core::ops::ControlFlow;
/// use kmemleak::TypeSearch;
///
/// let mut search = TypeSearch::new();
/// assert!(search.function("__rustc::__rust_alloc").is_continue());
/// let ControlFlow::Break(Some(found)) = search.function("alloc::boxed::Box<T>::new<kernel::Node>") else {
///     panic!("a box says what is in it");
/// };
/// assert_eq!(found.to_string(), "kernel::Node");
/// ```
#[derive(Clone, Debug)]
pub struct TypeSearch {
    so_far: SoFar<'static>,
}

impl TypeSearch {
    /// A search that has seen no function yet.
    pub const fn new() -> Self {
        Self {
            so_far: SoFar::Nothing,
        }
    }

    /// Takes the next function, which called those before it. It breaks with the type, or with `None` where the type can't be told
    /// for certain, whatever comes next.
    pub fn function(&mut self, name: &str) -> ControlFlow<Option<BlockType>> {
        let (so_far, answer) = match after(self.so_far, name) {
            SoFar::Nothing => (SoFar::Nothing, ControlFlow::Continue(())),
            SoFar::Buffer => (SoFar::Buffer, ControlFlow::Continue(())),
            SoFar::Unknown => (SoFar::Unknown, ControlFlow::Break(None)),
            SoFar::Type(content, argument) => {
                let found = BlockType::new(content, argument);
                (SoFar::Unknown, ControlFlow::Break(found))
            }
        };
        self.so_far = so_far;
        answer
    }
}

impl Default for TypeSearch {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known behind the next function.
fn after<'a>(so_far: SoFar<'_>, function: &'a str) -> SoFar<'a> {
    let instance = Instance::of(function);
    if let SoFar::Buffer = so_far
        && let Some(instance) = &instance
        && matches!(instance.owner, VEC | DEQUE)
        && let Some(argument) = instance.argument
    {
        return found(Content::Elements, argument);
    }
    let Some((instance, content)) = instance.and_then(|it| Some((it, it.content()?))) else {
        let goes_on = is_allocation_machinery(function) || function.starts_with(TABLES);
        return match (so_far, goes_on) {
            (SoFar::Nothing, true) => SoFar::Nothing,
            _ => SoFar::Unknown,
        };
    };
    match (instance.argument, content) {
        (Some(argument), _) if matches!(so_far, SoFar::Nothing) => found(content, argument),
        (None, Content::Elements) if !matches!(so_far, SoFar::Unknown) => SoFar::Buffer,
        _ => SoFar::Unknown,
    }
}

const BOX: &str = "alloc::boxed::Box";
const ARC: &str = "alloc::sync::Arc";
const RC: &str = "alloc::rc::Rc";
const BUFFER: &str = "alloc::raw_vec::RawVec";
const VEC: &str = "alloc::vec::Vec";
const DEQUE: &str = "alloc::collections::vec_deque::VecDeque";
/// Where the hash tables are, of which functions without a type of their own are machinery.
const TABLES: &str = "hashbrown::raw::";
const TABLE: &str = "hashbrown::raw::RawTable";

/// What holds a value beside its counts.
const COUNTED: [(&str, Content); 3] = [
    ("alloc::sync::ArcInner", Content::Arc),
    ("alloc::rc::RcInner", Content::Rc),
    ("alloc::rc::RcBox", Content::Rc),
];
/// What a value is while it is not written yet.
const UNINIT: &str = "core::mem::maybe_uninit::MaybeUninit";

/// A function of a type, with the first of its generic arguments.
#[derive(Clone, Copy)]
struct Instance<'a> {
    /// The path of the type that it belongs to, without arguments.
    owner: &'a str,
    name: &'a str,
    argument: Option<&'a str>,
}

impl<'a> Instance<'a> {
    /// Of `path::Type<T>::function<Argument>` or `<path::Type<Argument>>::function`. `None` if the function belongs to no type, or
    /// to a trait.
    fn of(function: &'a str) -> Option<Self> {
        let (path, arguments) = split_arguments(function);
        let (owner, name) = match path.strip_prefix('<') {
            Some(inside) => {
                let end = end_of_argument(inside)?;
                let owner = &inside[..end];
                if split_as(owner).is_some() {
                    return None;
                }
                (owner, inside[end..].strip_prefix(">::")?)
            }
            None => path.rsplit_once("::")?,
        };
        let (owner, of_owner) = split_arguments(owner);
        // Behind an angle bracket a type has its own arguments, else the names of parameters.
        let of_owner = of_owner.filter(|_| path.starts_with('<'));
        Some(Self {
            owner,
            name,
            argument: arguments.or(of_owner).map(first_argument),
        })
    }

    /// What it puts into a block, if it is one of those that allocate.
    fn content(self) -> Option<Content> {
        let name = self.name.strip_prefix("try_").unwrap_or(self.name);
        match self.owner {
            BOX if name.starts_with("new") && !name.contains("slice") => Some(Content::Value),
            ARC if name.starts_with("allocate_for") => Some(Content::Arc),
            RC if name.starts_with("allocate_for") => Some(Content::Rc),
            BUFFER => Some(Content::Elements),
            TABLE => Some(Content::Table),
            _ => None,
        }
    }
}

/// The type that has this content.
fn found(content: Content, argument: &str) -> SoFar<'_> {
    let (content, argument) = match content {
        Content::Value => counted(argument).unwrap_or((Content::Value, argument)),
        other => (other, argument),
    };
    let argument = argument_of(UNINIT, argument).unwrap_or(argument);
    SoFar::Type(content, argument)
}

/// Of a value with its counts: what counts, and the value.
fn counted(name: &str) -> Option<(Content, &str)> {
    let mut kinds = COUNTED.iter();
    kinds.find_map(|(path, content)| Some((*content, argument_of(path, name)?)))
}

/// The first argument of a type, if it has this path.
fn argument_of<'a>(path: &str, name: &'a str) -> Option<&'a str> {
    match split_arguments(name) {
        (found, Some(arguments)) if found == path => Some(first_argument(arguments)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};

    use super::TypeSearch;
    use core::ops::ControlFlow;

    /// The type that a call stack says, one string for each frame.
    fn type_of(frames: &[&str]) -> Option<String> {
        let mut search = TypeSearch::new();
        for name in frames.iter().flat_map(|frame| frame.lines()) {
            if let ControlFlow::Break(found) = search.function(name) {
                return found.map(|found| found.to_string());
            }
        }
        None
    }

    const NEW: &str = "__rustc::__rust_alloc\nalloc::alloc::alloc\n<alloc::alloc::Global>::alloc_impl\n<alloc::alloc::Global as core::alloc::Allocator>::allocate\nalloc::boxed::box_new_uninit";

    #[test]
    fn the_innermost_constructor_decides() {
        for (frames, expected) in [
            (
                &["alloc::boxed::Box<T>::new<kernel::Node>\nkernel::push"][..],
                "kernel::Node",
            ),
            (
                &[
                    "alloc::boxed::Box<T>::new<alloc::sync::ArcInner<kernel::Task>>\nalloc::sync::Arc<T>::new<kernel::Task>\nkernel::spawn",
                ],
                "Arc<kernel::Task>",
            ),
            (
                &[
                    "<alloc::boxed::Box<alloc::rc::RcInner<kernel::Task>>>::new",
                    "kernel::spawn",
                ],
                "Rc<kernel::Task>",
            ),
            (
                &[
                    "alloc::boxed::Box<T>::new_uninit_in<core::mem::maybe_uninit::MaybeUninit<kernel::Page>, alloc::alloc::Global>",
                ],
                "kernel::Page",
            ),
            (
                &[
                    "alloc::boxed::Box<T,A>::try_new_uninit_in<alloc::collections::btree::node::LeafNode<u64, kernel::X>, alloc::alloc::Global>\nalloc::collections::btree::node::LeafNode<K,V>::new<u64, kernel::X, alloc::alloc::Global>",
                ],
                "LeafNode<u64, kernel::X>",
            ),
            (
                &[
                    "alloc::raw_vec::RawVecInner<A>::try_allocate_in<alloc::alloc::Global>\nalloc::raw_vec::RawVec<T,A>::with_capacity_in<(u8, kernel::X), alloc::alloc::Global>\nkernel::table",
                ],
                "[(u8, kernel::X)]",
            ),
            (
                &[
                    "alloc::sync::Arc<T>::allocate_for_layout<[u8], kernel::f::{closure_env#0}>\nkernel::f",
                ],
                "Arc<[u8]>",
            ),
            (
                &[
                    "hashbrown::raw::RawTableInner::new_uninitialized<alloc::alloc::Global>",
                    "hashbrown::raw::RawTable<T,A>::reserve_rehash<(u64, kernel::X), alloc::alloc::Global, kernel::f::{closure_env#0}>",
                ],
                "RawTable<(u64, kernel::X)>",
            ),
            // A clone of a vector of boxes allocates both; the box is the innermost.
            (
                &[
                    "alloc::boxed::Box<T>::new_uninit<kernel::A>\n<alloc::boxed::Box<T> as core::clone::Clone>::clone<kernel::A>",
                    "alloc::vec::Vec<T>::extend_with<alloc::boxed::Box<kernel::A>>",
                ],
                "kernel::A",
            ),
            // A vector's buffer, of which the function that grows it serves several types.
            (
                &[
                    "alloc::raw_vec::finish_grow<alloc::alloc::Global>",
                    "alloc::raw_vec::RawVec<T,A>::grow_one",
                    "alloc::vec::Vec<T,A>::push<kernel::X, alloc::alloc::Global>\nkernel::f",
                ],
                "[kernel::X]",
            ),
        ] {
            let mut all = std::vec![NEW];
            all.extend(frames);
            assert_eq!(type_of(&all).as_deref(), Some(expected), "{frames:?}");
            assert_eq!(type_of(frames).as_deref(), Some(expected), "{frames:?}");
        }
    }

    #[test]
    fn what_is_not_certain_is_not_said() {
        let box_of_long = std::format!("alloc::boxed::Box<T>::new<{}>", "x".repeat(600));
        for frames in [
            &[
                "kernel::frames::alloc",
                "alloc::boxed::Box<T>::new<kernel::Node>",
            ][..],
            &[
                "alloc::boxed::Box<T>::new",
                "alloc::vec::Vec<T>::push<kernel::X>",
            ],
            &["alloc::boxed::Box<T>::new\nalloc::sync::Arc<T>::new<kernel::X>"],
            &[
                "alloc::raw_vec::RawVec<T,A>::grow_one",
                "kernel::f<kernel::X>",
            ],
            &[
                "alloc::raw_vec::RawVec<T,A>::grow_one",
                "alloc::boxed::Box<T>::new<kernel::X>",
            ],
            &[
                "alloc::raw_vec::RawVec<T,A>::grow_one",
                "alloc::vec::Vec<T,A>::push",
            ],
            &[
                "hashbrown::raw::RawTable<T,A>::resize",
                "alloc::boxed::Box<T>::new<kernel::X>",
            ],
            &["<alloc::vec::Vec<T> as core::clone::Clone>::clone<kernel::X>"],
            &["0xffffffff80001234"],
            &[box_of_long.as_str()],
            &[""],
            &[],
        ] {
            assert_eq!(type_of(frames), None, "{frames:?}");
        }
    }
    #[test]
    fn a_search_that_has_ended_finds_nothing_more() {
        for ends in ["kernel::f", "alloc::boxed::Box<T>::new<kernel::A>"] {
            let mut search = TypeSearch::new();
            assert!(search.function(ends).is_break(), "{ends}");
            for next in [
                "alloc::alloc::alloc",
                "alloc::raw_vec::RawVec<T,A>::grow_one",
                "alloc::vec::Vec<T,A>::push<kernel::X, alloc::alloc::Global>",
            ] {
                let answer = search.function(next);
                assert!(
                    matches!(answer, ControlFlow::Break(None)),
                    "{next}: {answer:?}"
                );
            }
        }
    }
}
