//! Ways in which Rust code loses memory, and what hides the loss while the task that lost it waits.
//!
//! Each idiom of [`LOSSES`] is a function that returns, so nothing of it is in use any more; the addresses it worked with lie in the
//! dead part of its task's stack. Then the task waits, in each way that the kernel has ([`Wait`]). The frames in which
//! it waits lie where those of the idiom did, and are part of a root: what they leave unwritten would keep alive what was lost.
//!
//! What a task has allocated and not freed is all lost: each of its objects must be reported. The test knows no address before the
//! check; afterwards it asks for the objects of each task.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, LinkedList, VecDeque, binary_heap};
use alloc::ffi::CString;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future;
use core::hint::black_box;
use core::mem::{self, ManuallyDrop, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arrayvec::ArrayVec;
use kernel::dev::time;
use kernel::leak::KMEMLEAK;
use kernel::println;
use kernel::task::channel::{Receiver, channel};
use kernel::task::{self, JoinHandle, Mutex, Priority, State, TaskId, WaitQueue};
use kmemleak::ObjectFilter;

use crate::guest_test;
use crate::leak_support::{Secret, apart, check};

/// An idiom: what it is called, and the function that loses memory that way.
type Loss = (&'static str, fn());

/// All idioms.
const LOSSES: &[Loss] = &[
    ("a box, forgotten", || mem::forget(boxed(1))),
    ("a box made a raw pointer, which is dropped", || {
        black_box(Box::into_raw(boxed(2)));
    }),
    ("a leaked box, whose reference is dropped", || {
        black_box(Box::leak(boxed(3)));
    }),
    ("a box in `ManuallyDrop`", || {
        black_box(ManuallyDrop::new(boxed(4)));
    }),
    ("a box in `MaybeUninit`", || {
        black_box(MaybeUninit::new(boxed(5)));
    }),
    ("a pinned box, forgotten", || {
        mem::forget(black_box(Box::pin([6_u64; 9])))
    }),
    ("a boxed slice, forgotten", || {
        mem::forget(black_box(vec![7_u64; 7].into_boxed_slice()))
    }),
    ("a boxed closure that owns a box, forgotten", || {
        let owned = boxed(8);
        let closure: Box<dyn Fn() -> u64> = Box::new(move || owned[0]);
        mem::forget(black_box(closure));
    }),
    ("a boxed error, forgotten", || {
        let error: Box<dyn core::error::Error> = "no such device".into();
        mem::forget(black_box(error));
    }),
    ("a boxed iterator over a vector, forgotten", || {
        let mut numbers: Box<dyn Iterator<Item = u64>> =
            Box::new(black_box(vec![9_u64; 6]).into_iter().filter(|n| *n > 1));
        black_box(numbers.next());
        mem::forget(numbers);
    }),
    ("a boxed future that was never finished", || {
        let owned = boxed(10);
        let work: Box<dyn Future<Output = u64>> = Box::new(async move {
            future::pending::<()>().await;
            owned[0]
        });
        mem::forget(black_box(work));
    }),
    ("a chain of boxes, forgotten at its head", || {
        struct Link(#[expect(dead_code, reason = "owns")] Option<Box<Link>>);
        let chain = (0..5).fold(None, |rest, _| Some(Box::new(Link(rest))));
        mem::forget(black_box(chain));
    }),
    ("an option of a box, overwritten with `ptr::write`", || {
        let mut slot = black_box(Some(boxed(11)));
        // SAFETY: the slot is valid, and what it owned is not used any more.
        unsafe { ptr::write(&raw mut slot, None) };
        black_box(slot);
    }),
    ("a box that `mem::replace` gave back, forgotten", || {
        let mut slot = boxed(12);
        mem::forget(black_box(mem::replace(&mut slot, boxed(13))));
    }),
    (
        "a box lost between `into_raw` and `from_raw` by `?`",
        || {
            fn opens(fails: bool) -> Result<Box<[u64; 8]>, fmt::Error> {
                let raw = black_box(Box::into_raw(boxed(14)));
                if fails {
                    Err(fmt::Error)?;
                }
                // SAFETY: from the box above.
                Ok(unsafe { Box::from_raw(raw) })
            }
            black_box(opens(black_box(true))).expect_err("it fails");
        },
    ),
    ("a guard that owns a box, forgotten", || {
        struct Guard(Box<[u64; 8]>);
        impl Drop for Guard {
            fn drop(&mut self) {
                black_box(self.0[0]);
            }
        }
        mem::forget(black_box(Guard(boxed(15))));
    }),
    ("a vector, forgotten", || {
        mem::forget(black_box(vec![16_u64; 12]))
    }),
    ("a vector that has grown, leaked", || {
        let mut grown = Vec::new();
        (0..100_u64).for_each(|n| grown.push(black_box(n)));
        black_box(Vec::leak(grown));
    }),
    ("a vector of boxes, forgotten", || {
        mem::forget(black_box((0..8).map(boxed).collect::<Vec<_>>()))
    }),
    ("the elements of a vector, by `set_len(0)`", || {
        let mut boxes = black_box((0..8).map(boxed).collect::<Vec<_>>());
        // SAFETY: no elements are all initialised.
        unsafe { boxes.set_len(0) };
        drop(black_box(boxes));
    }),
    ("the last element of a vector, popped and forgotten", || {
        let mut boxes = black_box((0..8).map(boxed).collect::<Vec<_>>());
        mem::forget(boxes.pop());
        black_box(&boxes);
    }),
    ("a vector's drain, forgotten", || {
        let mut boxes = black_box((0..8).map(boxed).collect::<Vec<_>>());
        mem::forget(boxes.drain(2..));
        black_box(&boxes);
    }),
    ("a vector's iterator, forgotten half way", || {
        let mut boxes = black_box((0..8).map(boxed).collect::<Vec<_>>()).into_iter();
        boxes.by_ref().take(4).for_each(drop);
        mem::forget(boxes);
    }),
    ("boxes in an `ArrayVec`, forgotten", || {
        mem::forget(black_box((0..4).map(boxed).collect::<ArrayVec<_, 4>>()))
    }),
    ("a string, forgotten", || {
        mem::forget(black_box("eth0: no carrier on the line".to_owned()))
    }),
    ("a formatted string, leaked", || {
        black_box(String::leak(format!("queue {} of {}", black_box(3), 8)));
    }),
    ("a boxed str, made a raw pointer", || {
        black_box(Box::into_raw(
            black_box(17_u64).to_string().into_boxed_str(),
        ));
    }),
    ("a `CString`, made a raw pointer", || {
        let text = CString::new("console=ttyS0").expect("no zero in it");
        black_box(text.into_raw());
    }),
    ("an owned `Cow`, forgotten", || {
        let mut text = Cow::Borrowed("tty");
        text.to_mut().push_str(black_box("S0"));
        mem::forget(black_box(text));
    }),
    ("an `Rc` that holds itself", || {
        struct Node(RefCell<Option<Rc<Node>>>);
        let node = Rc::new(Node(RefCell::new(None)));
        *node.0.borrow_mut() = Some(node.clone());
        black_box(&node);
    }),
    ("a parent and children, all of them `Rc`s", || {
        struct Node {
            parent: RefCell<Option<Rc<Node>>>,
            children: RefCell<Vec<Rc<Node>>>,
        }
        fn node(parent: Option<&Rc<Node>>) -> Rc<Node> {
            Rc::new(Node {
                parent: RefCell::new(parent.cloned()),
                children: RefCell::default(),
            })
        }
        let root = node(None);
        for _ in 0..3 {
            root.children.borrow_mut().push(node(Some(&root)));
        }
        black_box(root.children.borrow().len() + usize::from(root.parent.borrow().is_some()));
    }),
    ("an `Rc` whose count was raised once too often", || {
        let shared = Rc::into_raw(Rc::new([18_u64; 8]));
        // SAFETY: a live `Rc`.
        unsafe { Rc::increment_strong_count(shared) };
        // SAFETY: from `into_raw`, which left us this count.
        drop(black_box(unsafe { Rc::from_raw(shared) }));
    }),
    (
        "a `Weak`, forgotten: the block stays without its value",
        || {
            let weak: Weak<_> = Rc::downgrade(&Rc::new([19_u64; 8]));
            mem::forget(black_box(weak));
        },
    ),
    ("two `Arc`s that own each other", || {
        struct End(Mutex<Option<Arc<End>>>);
        let (one, other) = (
            Arc::new(End(Mutex::new(None))),
            Arc::new(End(Mutex::new(None))),
        );
        *one.0.lock() = Some(other.clone());
        *other.0.lock() = Some(one);
    }),
    ("an `Arc`, made a raw pointer", || {
        black_box(Arc::into_raw(Arc::new([20_u64; 8])));
    }),
    ("an `Arc` of a slice, forgotten", || {
        mem::forget(black_box(Arc::<[u64]>::from(vec![21; 10])))
    }),
    ("a ring of nodes with a link in both directions", || {
        struct Node {
            next: Cell<*const Node>,
            back: Cell<*const Node>,
        }
        fn node() -> &'static Node {
            Box::leak(Box::new(Node {
                next: Cell::new(ptr::null()),
                back: Cell::new(ptr::null()),
            }))
        }
        let ring = [node(), node(), node()];
        for (at, one) in ring.iter().enumerate() {
            one.next.set(ring[(at + 1) % 3]);
            one.back.set(ring[(at + 2) % 3]);
        }
        black_box(ring);
    }),
    ("a B-tree, forgotten", || {
        mem::forget(black_box(
            (0..60).map(|n| (n, n)).collect::<BTreeMap<u64, u64>>(),
        ))
    }),
    ("what was removed from a B-tree, forgotten", || {
        let mut map: BTreeMap<u64, _> = (0..8).map(|n| (n, boxed(n))).collect();
        mem::forget(map.remove(&3));
        black_box(&map);
    }),
    ("a B-tree set's iterator, forgotten half way", || {
        let mut names =
            black_box((0..20).map(|n| format!("cpu{n}")).collect::<BTreeSet<_>>()).into_iter();
        names.by_ref().take(10).for_each(drop);
        mem::forget(names);
    }),
    ("messages in a ring, which is forgotten", || {
        let mut ring = VecDeque::with_capacity(8);
        (0..6).for_each(|n| ring.push_back(boxed(n)));
        ring.pop_front();
        ring.push_back(boxed(6));
        mem::forget(black_box(ring));
    }),
    ("a channel, each half of which holds the other", || {
        struct Channel {
            messages: Mutex<VecDeque<Box<[u64; 8]>>>,
            reply: Mutex<Option<Arc<Channel>>>,
        }
        fn channel() -> Arc<Channel> {
            Arc::new(Channel {
                messages: Mutex::new(VecDeque::new()),
                reply: Mutex::new(None),
            })
        }
        let (there, back) = (channel(), channel());
        there.messages.lock().push_back(boxed(22));
        *there.reply.lock() = Some(back.clone());
        *back.reply.lock() = Some(there);
    }),
    ("a linked list's second half, forgotten", || {
        let mut list: LinkedList<u64> = (0..6).collect();
        mem::forget(list.split_off(3));
        black_box(&list);
    }),
    ("a heap's `PeekMut`, forgotten", || {
        let mut heap: BinaryHeap<_> = (0..6).map(boxed).collect();
        if let Some(mut top) = heap.peek_mut() {
            top[1] += 1;
            // What lies behind the top is lost with it.
            mem::forget::<binary_heap::PeekMut<'_, _>>(top);
        }
        black_box(&heap);
    }),
];

#[inline(never)]
fn boxed(number: u64) -> Box<[u64; 8]> {
    black_box(Box::new([number; 8]))
}

/// How a task waits after its loss, until [`OVER`]: functions whose own frames have no room for anything stale.
const WAITS: [fn(&Waker); 6] = [
    |_| {
        while !OVER.load(Ordering::Acquire) {
            task::park();
        }
    },
    |_| {
        while !OVER.load(Ordering::Acquire) {
            task::scheduler::park_until(time::now_us() + 3_600_000_000);
        }
    },
    |_| wait_in_queue(),
    |_| drop(LOCKED.lock()),
    |waker| waker.task.wait(),
    |waker| {
        let _ = waker.receiver.receive();
    },
];

fn wait_in_queue() {
    QUEUE.wait_for(|| OVER.load(Ordering::Acquire).then_some(()));
}

static OVER: AtomicBool = AtomicBool::new(false);
static QUEUE: WaitQueue = WaitQueue::new();
static LOCKED: Mutex<()> = Mutex::new(());

/// What the tasks wait for that wait for a task or a message.
struct Waker {
    task: JoinHandle,
    receiver: Receiver<()>,
}

/// A task that loses memory in this way, and then waits in that one.
fn loser(loss: fn(), wait: fn(&Waker), waker: &Arc<Waker>) -> JoinHandle {
    let waker = waker.clone();
    let handle = spawn(move || {
        loss();
        wait(&waker);
    });
    while handle.task().state() != State::Blocked {
        task::yield_now();
    }
    handle
}

fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle {
    task::spawn("loser", Priority::Normal, work).expect("memory for a task")
}

/// How many objects a task has allocated and not freed, and how many of these are in the list, which is sorted.
fn reported(of: TaskId, unreferenced: &[Secret]) -> (usize, usize) {
    let (mut all, mut reported) = (0, 0);
    let filter = ObjectFilter {
        task: Some(of),
        ..ObjectFilter::ALL
    };
    let asked = KMEMLEAK.for_each_object(&filter, &mut |object| {
        all += 1;
        let listed = unreferenced.binary_search(&Secret::hide(object.start));
        reported += usize::from(listed.is_ok());
    });
    asked.expect("the detector is on");
    (all, reported)
}

/// For each idiom, the tasks that waited, and what was reported of their losses meanwhile.
fn waiting(wait: fn(&Waker)) -> Vec<(TaskId, (usize, usize))> {
    OVER.store(false, Ordering::Release);
    let locked = LOCKED.lock();
    let (sender, receiver) = channel().expect("memory for a channel");
    let waker = Arc::new(Waker {
        task: spawn(wait_in_queue),
        receiver,
    });
    let losers: Vec<_> = LOSSES
        .iter()
        .map(|(_, loss)| loser(*loss, wait, &waker))
        .collect();
    let mut found = check();
    found.sort_unstable();
    let ids = losers.iter().map(|loser| loser.task().id());
    let seen = ids.map(|id| (id, reported(id, &found))).collect();
    OVER.store(true, Ordering::Release);
    drop((locked, sender));
    while losers
        .iter()
        .any(|loser| loser.task().state() != State::Dead)
    {
        losers
            .iter()
            .for_each(|loser| task::scheduler::unpark(loser.task()));
        QUEUE.wake_all();
        task::yield_now();
    }
    losers.into_iter().for_each(JoinHandle::join);
    seen
}

guest_test! {
    /// What a function lost by any idiom is reported while its task waits, however it waits, and after the task has ended.
    fn no_wait_hides_a_loss() smp [1, 2] {
        let waits = WAITS.map(waiting);
        let mut found = check();
        found.sort_unstable();
        println!("| idiom | task ended | park | park_until | wait queue | mutex | join | channel |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        let missed = AtomicU32::new(0);
        for (index, (name, _)) in LOSSES.iter().enumerate() {
            let ended = reported(waits[0][index].0, &found);
            let mut row = format!("| {name} ");
            let columns = waits.iter().map(|wait| wait[index].1);
            for (all, reported) in [ended].into_iter().chain(columns) {
                assert!(all > 0, "{name}: nothing was lost");
                missed.fetch_add(u32::from(reported != all), Ordering::Relaxed);
                row += &format!("| {reported} of {all} ");
            }
            println!("{row}|");
        }
        assert_eq!(missed.into_inner(), 0, "losses that were not reported in full");
    }
}

/// Takes a box, and loses it.
#[inline(never)]
fn lose(owned: Box<[u64; 8]>) {
    mem::forget(black_box(owned));
}

guest_test! {
    /// The block of a task's closure does not keep alive what the closure has given away.
    fn a_closure_keeps_nothing_that_it_gave_away() smp [1, 2] {
        static LOSER: Mutex<Option<JoinHandle>> = Mutex::new(None);
        apart(|| {
            let owned = boxed(1);
            let loses = spawn(move || {
                lose(owned);
                wait_in_queue();
            });
            while loses.task().state() != State::Blocked {
                task::yield_now();
            }
            *LOSER.lock() = Some(loses);
        });
        assert_eq!(check().len(), 1);
        OVER.store(true, Ordering::Release);
        QUEUE.wake_all();
        let loser = LOSER.lock().take();
        loser.expect("it was started").join();
    }
}
