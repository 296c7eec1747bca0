//! The test kernel: the kernel with one test in place of the shell.
//!
//! The command line says what to do:
//!
//! - `list` prints the tests, a line each, for the harness, and ends with success.
//! - `test=NAME` runs that test and ends with success if it returns. Whatever ends the machine
//!   otherwise ends the test: a panic or an exception does so with failure.
//! - `scripts` runs the leak scripts that QEMU has been handed, and prints what became of each.
//! - `fixture=NAME` misbehaves in a way that the harness must tell from a failing test.
//!
//! A test is a [`guest_test!`] in any module here; nothing else needs to know of it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod confined;
#[cfg(target_os = "none")]
mod counts;
#[cfg(target_os = "none")]
mod cpu_tables;
#[cfg(target_os = "none")]
mod end_pointers;
#[cfg(target_os = "none")]
mod ends;
#[cfg(target_os = "none")]
mod firmware;
#[cfg(target_os = "none")]
mod fixtures;
#[cfg(target_os = "none")]
mod frees;
mod frozen;
#[cfg(target_os = "none")]
mod held;
#[cfg(target_os = "none")]
mod idioms;
#[cfg(target_os = "none")]
mod image;
#[cfg(target_os = "none")]
mod leak_support;
#[cfg(target_os = "none")]
mod mappings;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod names;
#[cfg(target_os = "none")]
mod no_memory;
#[cfg(target_os = "none")]
mod pager;
#[cfg(target_os = "none")]
mod poison;
#[cfg(target_os = "none")]
mod protection;
#[cfg(target_os = "none")]
mod registry;
#[cfg(target_os = "none")]
mod roots;
#[cfg(target_os = "none")]
mod scopes;
#[cfg(target_os = "none")]
mod script_machine;
#[cfg(target_os = "none")]
mod scripts;
#[cfg(target_os = "none")]
mod sites;
#[cfg(target_os = "none")]
mod soak;
#[cfg(target_os = "none")]
mod stopping;
#[cfg(target_os = "none")]
mod storm;
#[cfg(target_os = "none")]
mod tasks;
#[cfg(target_os = "none")]
mod types;
#[cfg(target_os = "none")]
mod waiting;

#[cfg(target_os = "none")]
bootloader_api::entry_point!(main, config = &kernel::BOOT_CONFIG);

#[cfg(target_os = "none")]
fn main(boot_info: &'static mut bootloader_api::BootInfo) -> ! {
    kernel::start(boot_info, registry::run)
}

/// On the host there is nothing to run; the test kernel is built for the bare target.
#[cfg(not(target_os = "none"))]
fn main() {}
