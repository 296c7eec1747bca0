//! Commands that look at the kernel, and those that end it.

use core::fmt::Write;

use arrayvec::ArrayString;

use x86_64::instructions::port::Port;

use crate::arch::{interrupts, percpu};
use crate::dev::{apic, time};
use crate::edited;
use crate::leak::CommandError;
use crate::mm;
use crate::task::scheduler;

/// Whether a command was done.
pub type Answered = Result<(), CommandError>;

pub fn ps(_: &str, out: &mut dyn Write) -> Answered {
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

pub fn mem(what: &str, out: &mut dyn Write) -> Answered {
    match what {
        "" => Ok(write!(out, "{}", mm::stats())?),
        "check" => check_memory(out),
        _ => {
            writeln!(
                out,
                "mem: unexpected argument `{what}`: expected check or nothing"
            )?;
            Err(CommandError::NotUnderstood)
        }
    }
}

/// Looks for overwritten memory. What there is is told where it is found.
fn check_memory(out: &mut dyn Write) -> Answered {
    let before = mm::poison::count();
    let Some(objects) = mm::slab::check_contents() else {
        writeln!(
            out,
            "mem check: nothing to look at without the boot parameter kmemleak.poison=on"
        )?;
        return Err(CommandError::NotDone);
    };
    let found = mm::poison::count() - before;
    Ok(writeln!(
        out,
        "mem check: {objects} objects of slabs, {found} places overwritten"
    )?)
}

pub fn slabs(name: &str, out: &mut dyn Write) -> Answered {
    let mut any = name.is_empty();
    each_cache_name(&mut |cache| any |= cache == name);
    if !any {
        write!(out, "slabs: no cache `{name}`")?;
        if let Some(nearest) = line_editor::nearest(name, &mut each_cache_name) {
            write!(out, "; did you mean `{}`?", nearest.word())?;
        }
        writeln!(out)?;
        return Err(CommandError::NotDone);
    }
    writeln!(
        out,
        "{:<16}  {:>6}  {:>8}  {:>8}  {:>6}",
        "name", "size", "in use", "total", "slabs"
    )?;
    mm::slab::for_each_cache(&mut |cache| {
        if !name.is_empty() && cache.name() != name {
            return Ok(());
        }
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
    })?;
    Ok(())
}

/// The names of all caches that have been used.
pub fn each_cache_name(take: &mut dyn FnMut(&str)) {
    let told = mm::slab::for_each_cache::<core::convert::Infallible>(&mut |cache| {
        take(cache.name());
        Ok(())
    });
    let Ok(()) = told;
}

/// The numbers of all tasks.
pub fn each_task_number(take: &mut dyn FnMut(&str)) {
    let mut next = 0;
    while let Some(id) = scheduler::find_task(next, |task| task.id()) {
        let mut number = ArrayString::<20>::new();
        // A number has at most that many digits.
        let _ = write!(number, "{id}");
        take(&number);
        next = id + 1;
    }
}

pub fn list_history(_: &str, out: &mut dyn Write) -> Answered {
    let mut index = 0;
    while let Some(line) = edited::remembered(index) {
        index += 1;
        writeln!(out, "{index:>4}  {line}")?;
    }
    Ok(())
}

pub fn cpus(_: &str, out: &mut dyn Write) -> Answered {
    for cpu in 0..percpu::running() {
        writeln!(out, "cpu {cpu}: apic id {}", apic::apic_id(cpu))?;
    }
    writeln!(
        out,
        "up {}.{:03} s",
        time::now_us() / 1_000_000,
        time::now_us() / 1000 % 1000
    )?;
    Ok(())
}

pub fn panic(_: &str, _: &mut dyn Write) -> Answered {
    panic!("the shell's command `panic`");
}

pub fn exit(_: &str, _: &mut dyn Write) -> Answered {
    super::ending::end()
}

pub fn reboot(_: &str, _: &mut dyn Write) -> Answered {
    // The chipset's reset register, then the keyboard controller's reset line: a PC has one or both.
    // SAFETY: the machine starts again.
    unsafe { Port::<u8>::new(0xcf9).write(0x06) };
    // SAFETY: as above.
    unsafe { Port::<u8>::new(0x64).write(0xfe) };
    interrupts::halt_forever()
}
