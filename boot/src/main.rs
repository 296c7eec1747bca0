//! Builds the kernel and its loader and runs them under QEMU.
fn main() {}
