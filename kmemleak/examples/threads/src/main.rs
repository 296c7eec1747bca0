//! Runs one of the [`programs`], and reports at exit what that program has lost.
//!
//! Any other argument is a command for the detector, such as `selftest`. Without the feature `detector`, kmemleak is not linked,
//! so that another leak detector can be.

#[cfg(feature = "detector")]
mod detector;
#[cfg(feature = "detector")]
mod host;
#[cfg(feature = "names")]
mod names;
mod programs;

use std::hint::black_box;

use programs::{Lost, PROGRAMS};

fn main() {
    #[cfg(feature = "detector")]
    detector::start();
    #[cfg(not(feature = "detector"))]
    take_first_blocks();
    match wanted() {
        Some(program) => programs::say(run(program)),
        None => help(),
    }
}

/// Does what the argument says that is no program's name; without one, names the programs.
fn help() {
    match std::env::args().nth(1) {
        #[cfg(feature = "detector")]
        Some(command) => detector::command(&command),
        _ => PROGRAMS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

/// The program whose name is the argument. (Not inlined: no address of a freed block remains in the frame of `main`.)
#[inline(never)]
fn wanted() -> Option<fn() -> Lost> {
    let wanted = std::env::args().nth(1)?;
    let program = PROGRAMS.iter().find(|(name, _)| *name == wanted);
    program.map(|(_, program)| *program)
}

/// Runs a program, and clears what it has left on the stack and in registers: a stale pointer would hide a leak as a live one
/// does.
fn run(program: fn() -> Lost) -> Lost {
    let lost = deeper(program);
    clear_stack();
    clear_vectors();
    lost
}

/// Runs a program on a part of the stack that is cleared afterwards.
#[inline(never)]
fn deeper(program: fn() -> Lost) -> Lost {
    black_box([0_u64; 64]);
    program()
}

#[inline(never)]
fn clear_stack() {
    black_box([0_u64; 4096]);
}

/// Clears the vector registers that copies have left pointers in, by copies of zeros of all sizes. No caller expects anything
/// there, so the detector does not look; LeakSanitizer does.
fn clear_vectors() {
    let (from, mut to) = ([0_u8; 8192], [0_u8; 8192]);
    for len in (1..512).chain([1024, 2048, 8192]).map(black_box) {
        black_box(&mut to[..len]).copy_from_slice(&black_box(&from)[..len]);
    }
}

/// LeakSanitizer's allocator has the address of the first block of each size on the stack when it checks. So these are taken.
#[cfg(not(feature = "detector"))]
fn take_first_blocks() {
    static TAKEN: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    let sizes = (1..1024).chain((1024..16384).step_by(512));
    TAKEN.get_or_init(|| sizes.map(Vec::with_capacity).collect());
}
