//! A panic at each place where a lock is taken, with the lock held: the host asks for one place after the other.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use core::hint::black_box;

use kernel::leak::KMEMLEAK;
use kernel::mm::{self, percpu, slab, vmalloc};
use kernel::println;
use kernel::sync::trap;
use kernel::task::channel::channel;
use kernel::task::{self, Priority};
use kernel::{cmdline, symbols};

/// Panics at the place whose number the command line names; or says how many there are, if there are fewer.
pub fn run() -> ! {
    let place = cmdline::value("place").and_then(|number| number.parse().ok());
    trap::panic_at(place.expect("place=NUMBER"));
    take_locks();
    panic!("a lock is taken at {} places", trap::places())
}

/// Does a little of all that takes locks.
fn take_locks() {
    drop(black_box(vec![Box::new(1_u64), Box::new(2)]));
    drop(black_box(vec![0_u8; 20_000]));
    let block = vmalloc::vmalloc(8192, vmalloc::Kind::Data).expect("memory");
    vmalloc::vfree(block.as_ptr());
    vmalloc::purge();
    let handle = percpu::alloc_percpu(64, 8).expect("memory");
    percpu::free_percpu(handle);
    let (sender, receiver) = channel().expect("memory");
    let child = task::spawn("child", Priority::Normal, move || sender.send(1_u32));
    assert_eq!(receiver.receive(), Some(1));
    child.expect("memory").join();
    task::sleep_us(1000);
    println!("a line of the console");
    black_box(KMEMLEAK.check().expect("a verdict"));
    KMEMLEAK.scan_and_confirm().expect("a verdict");
    let mut answer = String::new();
    for command in ["report", "sites", "status", "stack-only"] {
        let done = KMEMLEAK.command(command, &mut answer);
        done.expect("it is a command");
    }
    println!(
        "{}",
        symbols::of_return(take_locks as *const () as usize + 1)
    );
    mm::check_invariants();
    slab::check_contents();
}
