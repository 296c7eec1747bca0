//! Everything that may be wrong with what the loader is given.

use core::fmt::{self, Display, Formatter};

use crate::image::ImageError;

/// Why the kernel can't be started.
#[derive(Debug)]
pub enum LoadError {
    /// The start information does not begin with the magic number, but with this one.
    NoStartInfo(u32),
    /// QEMU was given no kernel.
    NoModule,
    /// Physical memory that the loader must read, but which lies above what it has mapped.
    OutOfReach(u64),
    /// More memory regions than the loader has room for.
    TooManyRegions,
    /// All usable memory is taken.
    OutOfMemory,
    /// The kernel's file is at fault.
    Image(ImageError),
    /// A mapping the kernel asked for cannot be had.
    Mapping {
        /// What was to be mapped.
        what: &'static str,
        /// Where, if the kernel named an address.
        address: Option<u64>,
        /// What is wrong with that.
        reason: &'static str,
    },
}

impl From<ImageError> for LoadError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl Display for LoadError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStartInfo(magic) => {
                write!(f, "not started by the PVH protocol (magic {magic:#x})")
            }
            Self::NoModule => write!(f, "no kernel given (QEMU's -initrd names its file)"),
            Self::OutOfReach(address) => write!(f, "physical address {address:#x} is out of reach"),
            Self::TooManyRegions => write!(f, "the memory map has too many regions"),
            Self::OutOfMemory => write!(f, "out of memory"),
            Self::Image(error) => write!(f, "kernel: {error}"),
            Self::Mapping {
                what,
                address: Some(address),
                reason,
            } => {
                write!(f, "cannot map {what} at {address:#x}: {reason}")
            }
            Self::Mapping {
                what,
                address: None,
                reason,
            } => write!(f, "cannot map {what}: {reason}"),
        }
    }
}
