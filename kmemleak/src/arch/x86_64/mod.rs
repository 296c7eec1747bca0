//! x86_64.

mod tables;
