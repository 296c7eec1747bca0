//! Placeholder header: see platform.rs.
#![no_std]
pub mod platform;
