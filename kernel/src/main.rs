//! The kernel's binary: its first task becomes the shell.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
bootloader_api::entry_point!(main, config = &kernel::BOOT_CONFIG);

#[cfg(target_os = "none")]
fn main(boot_info: &'static mut bootloader_api::BootInfo) -> ! {
    kernel::start(boot_info, kernel::shell::run)
}

/// On the host there is nothing to run; the kernel is built for the bare target.
#[cfg(not(target_os = "none"))]
fn main() {}
