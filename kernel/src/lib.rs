//! The kernel.
#![no_std]
#![cfg(target_os = "none")]
