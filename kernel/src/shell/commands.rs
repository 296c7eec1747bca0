//! Commands that look at the kernel, and those that end it.

use core::fmt::{self, Write};

use x86_64::instructions::port::Port;

use crate::arch::{interrupts, percpu};
use crate::dev::{apic, time};
use crate::mm;
use crate::task::scheduler;

pub fn ps(_: &str, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:>5}  {:<16}  {:<8}  {:>3}  {:<8}",
        "pid", "name", "state", "cpu", "priority"
    )?;
    let mut next = 0;
    loop {
        let task = scheduler::find_task(next, |task| {
            (
                task.id(),
                task.comm(),
                task.state(),
                task.cpu(),
                task.priority(),
            )
        });
        let Some((id, comm, state, cpu, priority)) = task else {
            return Ok(());
        };
        let priority = match priority {
            crate::task::Priority::Normal => "normal",
            crate::task::Priority::Low => "low",
        };
        writeln!(
            out,
            "{id:>5}  {:<16}  {state:<8}  {cpu:>3}  {priority}",
            comm.as_str()
        )?;
        next = id + 1;
    }
}

pub fn mem(_: &str, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{}", mm::stats())
}

pub fn slabs(_: &str, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:<16}  {:>6}  {:>8}  {:>8}  {:>6}",
        "name", "size", "in use", "total", "slabs"
    )?;
    mm::slab::for_each_cache(&mut |cache| {
        let stats = cache.stats();
        writeln!(
            out,
            "{:<16}  {:>6}  {:>8}  {:>8}  {:>6}",
            cache.name(),
            stats.object_size,
            stats.in_use,
            stats.total,
            stats.slabs
        )
    })
}

pub fn cpus(_: &str, out: &mut dyn Write) -> fmt::Result {
    for cpu in 0..percpu::running() {
        writeln!(out, "cpu {cpu}: apic id {}", apic::apic_id(cpu))?;
    }
    writeln!(
        out,
        "up {}.{:03} s",
        time::now_us() / 1_000_000,
        time::now_us() / 1000 % 1000
    )
}

pub fn panic(_: &str, _: &mut dyn Write) -> fmt::Result {
    panic!("asked to, by the shell");
}

pub fn exit(_: &str, _: &mut dyn Write) -> fmt::Result {
    super::end()
}

pub fn reboot(_: &str, _: &mut dyn Write) -> fmt::Result {
    // The chipset's reset register, then the keyboard controller's reset line: a PC has one or both.
    // SAFETY: the machine starts again.
    unsafe { Port::<u8>::new(0xcf9).write(0x06) };
    // SAFETY: as above.
    unsafe { Port::<u8>::new(0x64).write(0xfe) };
    interrupts::halt_forever()
}
