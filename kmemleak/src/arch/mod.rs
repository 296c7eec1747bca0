//! What depends on the architecture: instructions. All else is in the other folders, and compiles for any target.

#[cfg(target_arch = "x86_64")]
mod x86_64;
