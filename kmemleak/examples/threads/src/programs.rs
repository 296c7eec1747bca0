//! Programs that lose memory, or seem to. Each is a function that says what it has lost.
//!
//! A pointer that is to be lost is nowhere else: what moves it about is not inlined, and the caller clears the stack afterwards.

use std::alloc::{Layout, alloc, dealloc};
use std::arch::asm;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, LinkedList};
use std::hint::black_box;
use std::mem::{forget, take};
use std::ptr::{NonNull, null_mut};
use std::rc::{self, Rc};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// What a program has lost.
#[derive(Clone, Copy)]
pub enum Lost {
    /// So many blocks, with so many bytes in all.
    Blocks(usize, usize),
    /// Something, of which the standard library knows how much it is.
    Something,
}

use Lost::{Blocks, Something};

const NOTHING: Lost = Blocks(0, 0);

/// Bytes before the value of an `Rc` or `Arc`.
const COUNTS: usize = 2 * size_of::<usize>();

/// Says what was lost.
pub fn say(lost: Lost) {
    match lost {
        Blocks(blocks, bytes) => println!("lost {blocks} blocks, {bytes} bytes"),
        Something => println!("lost something"),
    }
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        /// All programs, by name.
        pub const PROGRAMS: &[(&str, fn() -> Lost)] = &[$((stringify!($name), $name)),*];
    };
}

programs![
    box_forgotten,
    vec_of_boxes_forgotten,
    vec_grown_and_forgotten,
    string_moved_out_of_a_forgotten_box,
    vec_leaked_and_not_kept,
    tree_forgotten,
    page_aligned_block_forgotten,
    trait_object_forgotten,
    rc_cycle,
    rc_ring_with_a_tail,
    arc_cycle_of_two_threads,
    parent_and_child_with_a_weak_pointer,
    weak_pointer_outlives_its_value,
    list_node_unlinked,
    hash_map_of_raw_pointers_dropped,
    error_path_forgets_a_buffer,
    block_of_a_thread_that_has_ended,
    pointer_in_a_variable_of_a_thread_that_has_ended,
    thread_handle_forgotten,
    receiver_forgotten_with_messages,
    pointer_disguised_in_a_static,
    leaked_and_kept_in_a_static,
    raw_pointer_in_a_static,
    pointer_with_a_tag_in_a_static,
    interior_pointer_in_a_static,
    string_in_a_once_lock,
    channel_with_unreceived_messages,
    pointer_in_a_variable_of_the_first_thread,
    pointer_in_a_variable_of_a_running_thread,
    pointer_on_the_stack_of_a_running_thread,
    pointer_in_a_register_of_a_running_thread,
    box_captured_by_a_thread_that_is_being_born,
    name_of_a_running_thread,
    threads_that_start_threads,
    threads_that_allocate_all_the_time,
    box_on_the_stack_of_who_exits,
    freed_by_hand,
];

/// A block of 64 bytes, to which only the result points.
#[inline(never)]
fn block() -> *mut [u64; 8] {
    Box::into_raw(Box::new([1; 8]))
}

fn box_forgotten() -> Lost {
    forget(Box::new([1_u64; 8]));
    Blocks(1, 64)
}

fn vec_of_boxes_forgotten() -> Lost {
    let boxes: Vec<Box<u64>> = (0..10).map(Box::new).collect();
    let bytes = boxes.capacity() * size_of::<Box<u64>>() + 10 * size_of::<u64>();
    forget(boxes);
    Blocks(11, bytes)
}

fn vec_grown_and_forgotten() -> Lost {
    let mut numbers = Vec::new();
    (0..1000_u32).for_each(|number| numbers.push(number));
    let bytes = numbers.capacity() * size_of::<u32>();
    forget(numbers);
    Blocks(1, bytes)
}

fn string_moved_out_of_a_forgotten_box() -> Lost {
    let mut named = Box::new((7_u64, String::from("a name of its own")));
    let name = take(&mut named.1);
    forget(named);
    drop(name);
    Blocks(1, size_of::<(u64, String)>())
}

fn vec_leaked_and_not_kept() -> Lost {
    let words = vec![3_u16; 50].leak();
    black_box(words)[0] = 4;
    Blocks(1, 100)
}

fn tree_forgotten() -> Lost {
    forget(
        (0..200_u64)
            .map(|key| (key, key))
            .collect::<BTreeMap<_, _>>(),
    );
    Something
}

fn page_aligned_block_forgotten() -> Lost {
    let pages = Layout::from_size_align(8192, 4096).expect("a power of two");
    // SAFETY: the size is not zero.
    black_box(unsafe { alloc(pages) });
    Blocks(1, 8192)
}

fn trait_object_forgotten() -> Lost {
    let text = String::from("captured");
    let bytes = size_of::<String>() + text.capacity();
    let call: Box<dyn Fn() -> usize> = Box::new(move || text.len());
    assert_eq!(call(), 8);
    forget(call);
    Blocks(2, bytes)
}

/// A node that owns another one.
struct Node {
    next: RefCell<Option<Rc<Node>>>,
}

fn node(next: Option<Rc<Node>>) -> Rc<Node> {
    let next = RefCell::new(next);
    Rc::new(Node { next })
}

fn rc_cycle() -> Lost {
    let first = node(None);
    let second = node(Some(Rc::clone(&first)));
    first.next.replace(Some(second));
    Blocks(2, 2 * (COUNTS + size_of::<Node>()))
}

fn rc_ring_with_a_tail() -> Lost {
    let first = node(None);
    let ring = (0..5).fold(Rc::clone(&first), |next, _| node(Some(next)));
    first.next.replace(Some(Rc::clone(&ring)));
    // The tail leads into the ring, and is freed.
    drop(node(Some(ring)));
    Blocks(6, 6 * (COUNTS + size_of::<Node>()))
}

/// What two threads share, and one of them owns.
struct Peer {
    other: Mutex<Option<Arc<Peer>>>,
}

fn arc_cycle_of_two_threads() -> Lost {
    let peer = || {
        thread::spawn(|| {
            let other = Mutex::new(None);
            Arc::new(Peer { other })
        })
    };
    let (first, second) = (peer(), peer());
    let first = first.join().expect("it does not panic");
    let second = second.join().expect("it does not panic");
    let set = |peer: &Peer, other| *peer.other.lock().expect("nobody panics") = Some(other);
    set(&first, Arc::clone(&second));
    set(&second, Arc::clone(&first));
    Blocks(2, 2 * (COUNTS + size_of::<Peer>()))
}

/// A child that knows its parent, which owns it.
struct Child {
    parent: rc::Weak<RefCell<Vec<Child>>>,
}

fn parent_and_child_with_a_weak_pointer() -> Lost {
    let family = Rc::new(RefCell::new(Vec::new()));
    let parent = Rc::downgrade(&family);
    family.borrow_mut().push(Child { parent });
    assert!(family.borrow()[0].parent.upgrade().is_some());
    NOTHING
}

fn weak_pointer_outlives_its_value() -> Lost {
    static KEPT: AtomicPtr<u64> = AtomicPtr::new(null_mut());
    let weak = Rc::downgrade(&Rc::new(5_u64));
    KEPT.store(weak.into_raw().cast_mut(), Relaxed);
    NOTHING
}

/// A node of a list that is linked by hand.
struct Linked {
    next: Cell<*mut Linked>,
    number: u64,
}

fn list_node_unlinked() -> Lost {
    static LIST: AtomicPtr<Linked> = AtomicPtr::new(null_mut());
    for number in 0..3 {
        let next = Cell::new(LIST.load(Relaxed));
        LIST.store(Box::into_raw(Box::new(Linked { next, number })), Relaxed);
    }
    // SAFETY: all nodes are there.
    let first = unsafe { &*LIST.load(Relaxed) };
    // SAFETY: as above.
    let second = unsafe { &*first.next.get() };
    assert_eq!((first.number, second.number), (2, 1));
    first.next.set(second.next.get());
    Blocks(1, size_of::<Linked>())
}

fn hash_map_of_raw_pointers_dropped() -> Lost {
    let mut blocks = HashMap::new();
    (0..20).for_each(|key| _ = blocks.insert(key, block()));
    drop(blocks);
    Blocks(20, 20 * 64)
}

fn error_path_forgets_a_buffer() -> Lost {
    fn read(wanted: usize) -> Result<usize, &'static str> {
        let buffer = block();
        if wanted > 8 {
            return Err("more than there is");
        }
        // SAFETY: it was made from a box above.
        drop(unsafe { Box::from_raw(buffer) });
        Ok(wanted)
    }
    let done = [4, 40, 8].map(|wanted| read(wanted).is_ok());
    assert_eq!(done, [true, false, true]);
    Blocks(1, 64)
}

fn block_of_a_thread_that_has_ended() -> Lost {
    let ended = thread::spawn(|| forget(vec![1_u8; 300])).join();
    ended.expect("it does not panic");
    Blocks(1, 300)
}

thread_local! {
    static OWN: Cell<*mut [u64; 8]> = const { Cell::new(null_mut()) };
}

fn pointer_in_a_variable_of_a_thread_that_has_ended() -> Lost {
    let ended = thread::spawn(|| OWN.set(block())).join();
    ended.expect("it does not panic");
    Blocks(1, 64)
}

fn thread_handle_forgotten() -> Lost {
    let handle = thread::spawn(|| ());
    // A thread that ends still holds what its handle leads to.
    thread::sleep(Duration::from_millis(100));
    assert!(handle.is_finished());
    forget(handle);
    Something
}

fn receiver_forgotten_with_messages() -> Lost {
    let (sender, receiver) = mpsc::channel();
    (0..5_u64).for_each(|number| sender.send(Box::new(number)).expect("it is received"));
    forget(receiver);
    Something
}

fn pointer_disguised_in_a_static() -> Lost {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    KEPT.store(!block().expose_provenance(), Relaxed);
    Blocks(1, 64)
}

fn leaked_and_kept_in_a_static() -> Lost {
    static KEPT: OnceLock<&[u64]> = OnceLock::new();
    KEPT.get_or_init(|| vec![1; 30].leak());
    NOTHING
}

fn raw_pointer_in_a_static() -> Lost {
    static KEPT: AtomicPtr<[u64; 8]> = AtomicPtr::new(null_mut());
    KEPT.store(block(), Relaxed);
    NOTHING
}

fn pointer_with_a_tag_in_a_static() -> Lost {
    static KEPT: AtomicPtr<[u64; 8]> = AtomicPtr::new(null_mut());
    KEPT.store(block().map_addr(|address| address | 3), Relaxed);
    NOTHING
}

fn interior_pointer_in_a_static() -> Lost {
    static KEPT: AtomicPtr<u64> = AtomicPtr::new(null_mut());
    KEPT.store(block().cast::<u64>().wrapping_add(5), Relaxed);
    NOTHING
}

fn string_in_a_once_lock() -> Lost {
    static KEPT: OnceLock<String> = OnceLock::new();
    KEPT.get_or_init(|| "made when it is needed".repeat(3));
    NOTHING
}

fn channel_with_unreceived_messages() -> Lost {
    static KEPT: OnceLock<Mutex<Receiver<LinkedList<u64>>>> = OnceLock::new();
    let (sender, receiver) = mpsc::channel();
    (1..40).for_each(|number| sender.send((0..number).collect()).expect("it is received"));
    KEPT.get_or_init(|| Mutex::new(receiver));
    NOTHING
}

/// Starts a thread that does something and then sleeps forever.
fn thread_that_stays(work: impl FnOnce() -> NonNull<[u64; 8]> + Send + 'static) {
    let ready = Arc::new(Barrier::new(2));
    let here = Arc::clone(&ready);
    thread::spawn(move || {
        let block = work();
        here.wait();
        drop(here);
        loop {
            thread::park();
            black_box(block);
        }
    });
    ready.wait();
}

fn pointer_in_a_variable_of_the_first_thread() -> Lost {
    OWN.set(block());
    NOTHING
}

fn pointer_in_a_variable_of_a_running_thread() -> Lost {
    thread_that_stays(|| {
        OWN.set(block());
        NonNull::dangling()
    });
    NOTHING
}

fn pointer_on_the_stack_of_a_running_thread() -> Lost {
    thread_that_stays(|| NonNull::new(block()).expect("a block"));
    NOTHING
}

fn pointer_in_a_register_of_a_running_thread() -> Lost {
    static HIDDEN: AtomicUsize = AtomicUsize::new(0);
    static READY: AtomicBool = AtomicBool::new(false);
    HIDDEN.store(!block().expose_provenance(), Relaxed);
    thread::spawn(|| {
        // SAFETY: it writes to one register and to the flag; it does not end.
        unsafe {
            asm!("not {block}", "mov byte ptr [{ready}], 1", "2: pause", "jmp 2b",
                 block = in(reg) HIDDEN.load(Relaxed), ready = in(reg) READY.as_ptr(), options(noreturn))
        }
    });
    while !READY.load(Relaxed) {
        thread::yield_now();
    }
    NOTHING
}

fn box_captured_by_a_thread_that_is_being_born() -> Lost {
    let numbers = Box::new([1_u64; 100]);
    thread::spawn(move || {
        loop {
            thread::park();
            black_box(&numbers);
        }
    });
    NOTHING
}

fn name_of_a_running_thread() -> Lost {
    static READY: AtomicBool = AtomicBool::new(false);
    let parked = || {
        READY.store(true, Relaxed);
        loop {
            thread::park();
        }
    };
    let name = "named".repeat(2);
    let handle = thread::Builder::new().name(name).spawn(parked);
    drop(handle.expect("there is room for a thread"));
    while !READY.load(Relaxed) {
        thread::yield_now();
    }
    NOTHING
}

fn threads_that_start_threads() -> Lost {
    fn pass_on(numbers: Box<[u64; 20]>) {
        thread::spawn(move || pass_on(black_box(numbers)));
    }
    (0..8).for_each(|number| pass_on(Box::new([number; 20])));
    thread::sleep(Duration::from_millis(5));
    NOTHING
}

fn threads_that_allocate_all_the_time() -> Lost {
    for _ in 0..4 {
        thread::spawn(|| {
            let mut list = LinkedList::new();
            loop {
                (0..50).for_each(|number| list.push_back(vec![number; 10]));
                list.split_off(7).clear();
            }
        });
    }
    thread::sleep(Duration::from_millis(5));
    box_forgotten()
}

fn box_on_the_stack_of_who_exits() -> Lost {
    let numbers = Box::new([1_u64; 100]);
    say(NOTHING);
    if numbers[0] == 1 {
        std::process::exit(0);
    }
    NOTHING
}

fn freed_by_hand() -> Lost {
    let layout = Layout::new::<[u64; 30]>();
    // SAFETY: the size is not zero.
    let block = unsafe { alloc(layout) };
    // SAFETY: it is from there, with that layout.
    unsafe { dealloc(block, layout) };
    NOTHING
}
