//! Tests that boot the kernel under QEMU.
