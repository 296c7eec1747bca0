//! Finds memory that nothing points to any more, in kernels.
#![no_std]

mod callbacks;
mod frame_pointer;
mod platform;
pub use callbacks::*;

pub use crate::frame_pointer::frame_pointer_walk;
pub use crate::platform::*;
