//! The stage between QEMU and the kernel.
//!
//! QEMU loads this file (`-kernel`) and the kernel's (`-initrd`) and starts this one by the PVH boot
//! protocol, in 32-bit mode. It goes to 64-bit mode, gives the kernel the memory, the mappings and the
//! stack that its `BootloaderConfig` asks for, and enters it with a `BootInfo`. The kernel can't tell it
//! from the `bootloader` crate's stages.
//!
//! On its way it says nothing: the serial line is the kernel's. If the kernel can't be started, the
//! reason goes to the serial line, and QEMU ends with failure.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod machine;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the loader runs on the bare machine only");
    std::process::exit(1);
}
