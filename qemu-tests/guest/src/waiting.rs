//! Which tasks can never run again: none while all goes well, and those that were made to wait for ever.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::hint::black_box;
use core::ops::Range;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};

use kernel::leak::KMEMLEAK;
use kernel::leak::tasks::{NamesTasks, name_futures};
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::channel::{self, Receiver, Sender};
use kernel::task::{self, JoinHandle, Mutex, Priority, State, WaitQueue};
use kmemleak::{Comm, TaskState, TaskSummary, Wait, WaitsOn};

use crate::guest_test;
use crate::leak_support::{apart, check};
use crate::storm;

/// What is known of a lost task: its number, name, what it waits for, and the bytes that only it retains.
type Lost = (u32, Comm, &'static str, usize);

/// The lost tasks. Asked in a task that ends: nothing of the answer stays on this stack.
fn lost() -> (Vec<Lost>, TaskSummary) {
    static ANSWER: SpinLock<Option<(Vec<Lost>, TaskSummary)>> = SpinLock::new(None);
    apart(|| {
        let mut lost = Vec::new();
        let summary = KMEMLEAK.for_each_lost_task(&mut |one| {
            lost.push((one.task, one.comm, one.what, one.bytes));
        });
        let summary = summary.expect("the world can be stopped");
        assert!(summary.complete && summary.doubt.is_none());
        *ANSWER.lock() = Some((lost, summary));
    });
    ANSWER.lock().take().expect("just asked")
}

/// Tasks that play in a round, in memory that they alone hold.
struct Table {
    score: Mutex<u64>,
    door: WaitQueue,
    is_open: AtomicBool,
}

/// Passes numbers on, each of which it has changed under a lock that lies in the heap.
fn pass_on(from: &Receiver<Box<u64>>, to: &Sender<Box<u64>>, table: &Table) {
    while let Some(mut ball) = from.receive() {
        let mut score = table.score.lock();
        task::yield_now();
        *score += *ball;
        *ball += 1;
        drop(score);
        to.send(ball);
    }
    table.is_open.store(true, Ordering::Release);
    table.door.wake_all();
}

/// A game: tasks that wait for each other's messages, for a lock, for a door and for each other's end. All of it is in the heap, and in
/// the hands of tasks that wait most of the time.
fn game(balls: u64) {
    let table = Arc::new(Table {
        score: Mutex::new(0),
        door: WaitQueue::new(),
        is_open: AtomicBool::new(false),
    });
    let (serve, first) = channel::channel().expect("memory");
    let (back, second) = channel::channel().expect("memory");
    let (there, table_there) = (back, table.clone());
    let player = task::spawn("player", Priority::Normal, move || {
        pass_on(&first, &there, &table_there);
    });
    let table_here = table.clone();
    let guest = task::spawn("guest", Priority::Normal, move || {
        let open = || table_here.is_open.load(Ordering::Acquire).then_some(());
        table_here.door.wait_for(open);
    });
    for ball in 0..balls {
        serve.send(Box::new(ball));
        assert_eq!(*second.receive().expect("a player"), ball + 1);
    }
    drop(serve);
    assert!(second.receive().is_none(), "the player has left");
    guest.expect("memory").join();
    player.expect("memory").join();
    assert_eq!(*table.score.lock(), (0..balls).sum::<u64>());
}

guest_test! {
    /// While tasks block and wake all the time, on what lies in the heap as well as in statics, none ever counts as lost.
    fn no_task_of_a_storm_is_lost() smp [1, 2, 4] {
        /// Games that have been played.
        static PLAYED: AtomicUsize = AtomicUsize::new(0);
        const TABLES: usize = 12;
        const GAMES: usize = TABLES * 60;
        let handles = storm::start(0x51ab_73c1_9e37_79b9);
        let play = |_| task::spawn("game", Priority::Normal, || {
            for _ in 0..GAMES / TABLES {
                game(5);
                PLAYED.fetch_add(1, Ordering::AcqRel);
            }
        }).expect("memory");
        let games: Vec<JoinHandle> = (0..TABLES).map(play).collect();
        let (mut asked, mut most_waiting) = (0, 0);
        while !storm::is_over() || PLAYED.load(Ordering::Acquire) < GAMES {
            let (lost, summary) = lost();
            assert_eq!(lost, []);
            asked += 1;
            most_waiting = most_waiting.max(summary.waiting);
            // However slow the host: most of the time the world goes on.
            storm::let_the_world_go_on();
            let next = (PLAYED.load(Ordering::Acquire) + TABLES / 4).min(GAMES);
            while PLAYED.load(Ordering::Acquire) < next {
                task::yield_now();
            }
        }
        games.into_iter().for_each(JoinHandle::join);
        storm::end(handles);
        kernel::println!("asked {asked} times, {most_waiting} tasks waited at once");
        assert!(asked > 20 && most_waiting > TABLES, "it was no storm");
        assert_eq!(lost().0, []);
    }
}

/// A task that has begun to wait.
fn waits(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle {
    let waits = task::spawn(name, Priority::Normal, work).expect("memory");
    while waits.task().state() != State::Blocked {
        task::yield_now();
    }
    waits
}

guest_test! {
    /// A task is lost with the last pointer to what it waits for, and with it who waits for its end; both go on when the object can be
    /// reached again.
    fn a_task_is_lost_with_what_it_waits_for() smp [1, 2] {
        static SHARED: SpinLock<Option<Arc<Table>>> = SpinLock::new(None);
        static NUMBERS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        apart(|| {
            let table = Arc::new(Table {
                score: Mutex::new(0),
                door: WaitQueue::new(),
                is_open: AtomicBool::new(false),
            });
            *SHARED.lock() = Some(table.clone());
            let buffer = alloc::vec![7_u8; 3000];
            let waiter = waits("waiter", move || {
                let open = || table.is_open.load(Ordering::Acquire).then_some(());
                table.door.wait_for(open);
                drop(black_box(buffer));
            });
            NUMBERS[0].store(waiter.task().id() as usize, Ordering::Relaxed);
            let joins = waits("joins", move || waiter.join());
            NUMBERS[1].store(joins.task().id() as usize, Ordering::Relaxed);
        });
        let [waiter, joins] = [0, 1].map(|at: usize| NUMBERS[at].load(Ordering::Relaxed) as u32);
        assert_eq!(lost().0, []);
        // The world loses it; this test keeps it where the detector sees nothing.
        static KEPT: AtomicUsize = AtomicUsize::new(0);
        apart(|| {
            let table = SHARED.lock().take().expect("put there");
            KEPT.store(!Arc::into_raw(table).expose_provenance(), Ordering::Relaxed);
        });
        let (found, summary) = lost();
        let numbers: Vec<_> = found.iter().map(|&(task, comm, what, _)| (task, comm, what)).collect();
        assert_eq!(numbers, [
            (waiter, Comm::new("waiter"), "wait queue"),
            (joins, Comm::new("joins"), "task"),
        ]);
        let bytes = found[0].3;
        assert!(bytes >= task::STACK_LEN + 3000, "{bytes}");
        assert!(summary.bytes >= bytes + task::STACK_LEN);
        assert_eq!(check(), [], "a check takes their stacks for roots");
        apart(|| {
            let kept = core::ptr::with_exposed_provenance(!KEPT.swap(0, Ordering::Relaxed));
            // SAFETY: made by `into_raw` above, and taken back once.
            *SHARED.lock() = Some(unsafe { Arc::from_raw(kept) });
        });
        assert_eq!(lost().0, []);
        apart(|| {
            let table = SHARED.lock().take().expect("put there");
            table.is_open.store(true, Ordering::Release);
            table.door.wake_all();
        });
        task::sleep_us(20_000);
        assert_eq!(lost().1.lost, 0);
        assert_eq!(check(), []);
    }
}

guest_test! {
    /// What lies on the stack of the task that waits for it: lost, unless somebody else points there.
    fn what_lies_on_its_own_stack_can_be_reached_by_others_only() smp [1, 2] {
        static DOOR: AtomicUsize = AtomicUsize::new(0);
        static VISIBLE: AtomicUsize = AtomicUsize::new(0);
        apart(|| {
            waits("on its stack", || {
                let door = WaitQueue::new();
                DOOR.store(!(&raw const door).expose_provenance(), Ordering::Release);
                door.wait_for(|| black_box(false).then_some(()));
            });
        });
        let (found, _) = lost();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].1, Comm::new("on its stack"));
        apart(|| VISIBLE.store(!DOOR.load(Ordering::Acquire), Ordering::Release));
        assert_eq!(lost().0, []);
        VISIBLE.store(0, Ordering::Release);
        assert_eq!(lost().1.lost, 1);
    }
}

guest_test! {
    /// A task that a waker has taken out of its queue waits for nobody any more, though it is still blocked: whoever is about to wake it
    /// need not reach the queue.
    fn a_task_that_was_taken_out_of_its_queue_is_not_lost() smp [1, 2] {
        static QUEUE: AtomicUsize = AtomicUsize::new(0);
        apart(|| {
            let queue = Arc::new(WaitQueue::new());
            QUEUE.store(!Arc::as_ptr(&queue).expose_provenance(), Ordering::Release);
            waits("taken", move || {
                let mut asked = 0;
                // From the second time on it is in the queue when it is asked. It blocks by itself, so that it stays blocked.
                queue.wait_for(|| {
                    asked += 1;
                    if asked == 1 {
                        return None::<()>;
                    }
                    loop {
                        task::park();
                    }
                });
            });
        });
        let (found, _) = lost();
        assert_eq!(found.len(), 1, "{found:?}");
        apart(|| {
            let queue: *const WaitQueue =
                core::ptr::with_exposed_provenance(!QUEUE.load(Ordering::Acquire));
            // SAFETY: the task that waits there has it, and never ends.
            unsafe { &*queue }.wake_one();
            task::sleep_us(20_000);
        });
        assert_eq!(lost().0, []);
    }
}

guest_test! {
    /// Tasks that sleep, and those that wait for input, wait for nobody: they are no roots for lack of a wake-up.
    fn sleepers_and_readers_are_not_lost() smp [1, 2] {
        apart(|| {
            let kept = alloc::vec![1_u8; 100];
            waits("sleeper", move || {
                task::sleep_us(60_000_000);
                drop(black_box(kept));
            });
        });
        assert_eq!(lost().0, []);
    }
}

/// A future with what its executor keeps of it.
struct FutureTask {
    number: u32,
    future: SpinLock<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// It is in the queue, or is being polled.
    is_ready: AtomicBool,
}

impl Wake for FutureTask {
    fn wake(self: Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            let mut ready = READY.lock();
            let place = ready.iter_mut().find(|place| place.is_none());
            *place.expect("room for all") = Some(self);
        }
    }
}

/// The numbers of futures begin here.
const FUTURES: u32 = 0x2000_0000;

/// The executor's list of all its tasks: it owns them, and wakes none.
static ALL: SpinLock<Vec<Arc<FutureTask>>, LocalIrqDisabled> = SpinLock::new(Vec::new());
/// Those that are ready. A place that is taken is overwritten: a queue in the heap would keep a stale pointer.
static READY: SpinLock<[Option<Arc<FutureTask>>; 8]> = SpinLock::new([const { None }; 8]);

/// A small executor.
struct Executor;

impl NamesTasks for Executor {
    fn task(&self, number: usize) -> Option<TaskState> {
        let all = ALL.lock();
        let task = all.get(number)?;
        let block = Arc::as_ptr(task).addr();
        let wait = Wait {
            on: WaitsOn::Address(block),
            what: "waker",
            since_us: 0,
        };
        Some(TaskState {
            task: FUTURES + task.number,
            comm: Comm::new("future"),
            block: Some(block),
            frame_pointer: None,
            wait: (!task.is_ready.load(Ordering::Acquire)).then_some(wait),
        })
    }

    fn list(&self, number: usize) -> Option<Range<usize>> {
        let all = ALL.lock();
        let buffer = all.as_ptr().addr();
        (number == 0).then(|| buffer..buffer + all.capacity() * size_of::<usize>())
    }
}

impl Executor {
    /// Takes a future on. Its first turn is the next one.
    fn spawn(number: u32, future: impl Future<Output = ()> + Send + 'static) {
        let task = Arc::new(FutureTask {
            number,
            future: SpinLock::new(Some(Box::pin(future))),
            is_ready: AtomicBool::new(false),
        });
        ALL.lock().push(task.clone());
        task.wake();
    }

    /// Polls all that are ready.
    fn run() {
        loop {
            let Some(task) = READY.lock().iter_mut().find_map(Option::take) else {
                return;
            };
            task.is_ready.store(false, Ordering::Release);
            let waker = Waker::from(task.clone());
            let mut future = task.future.lock().take();
            let polled = future.as_mut().map(|future| {
                let mut context = Context::from_waker(&waker);
                future.as_mut().poll(&mut context)
            });
            match polled {
                Some(Poll::Pending) => *task.future.lock() = future,
                _ => ALL.lock().retain(|other| !Arc::ptr_eq(other, &task)),
            }
        }
    }
}

/// What futures wait for.
struct Gate {
    is_open: AtomicBool,
    waker: SpinLock<Option<Waker>>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            is_open: AtomicBool::new(false),
            waker: SpinLock::new(None),
        })
    }

    async fn pass(&self) {
        poll_fn(|context| match self.is_open.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => {
                *self.waker.lock() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

guest_test! {
    /// A future is lost when nobody but itself holds its waker, though its executor owns it.
    fn a_future_is_lost_with_its_waker() smp [1, 2] {
        static GATE: SpinLock<Option<Arc<Gate>>> = SpinLock::new(None);
        name_futures(Some(&Executor));
        apart(|| {
            let (held, forgotten) = (Gate::new(), Gate::new());
            *GATE.lock() = Some(held.clone());
            Executor::spawn(1, async move { held.pass().await });
            let buffer = alloc::vec![3_u8; 2000];
            // The gate has the waker, and only the future has the gate.
            Executor::spawn(2, async move {
                forgotten.pass().await;
                drop(black_box(buffer));
            });
            Executor::run();
        });
        let (found, summary) = lost();
        let numbers: Vec<_> = found.iter().map(|&(task, comm, what, _)| (task, comm, what)).collect();
        assert_eq!(numbers, [(FUTURES + 2, Comm::new("future"), "waker")]);
        assert!((2000..8000).contains(&found[0].3), "{found:?}");
        assert!(summary.waiting >= 2);
        assert_eq!(check(), [], "its executor owns it");
        apart(|| {
            if let Some(gate) = GATE.lock().take() {
                gate.open();
            }
            Executor::run();
        });
        assert_eq!(ALL.lock().len(), 1);
        apart(|| ALL.lock().clear());
        name_futures(None);
        assert_eq!(lost().0, []);
    }
}
