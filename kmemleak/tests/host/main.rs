//! The detector over the emulated machine: one concept a file.

mod background;
mod clear;
mod colours;
mod commands;
mod concurrent;
mod lab;
mod metadata;
mod off;
mod overlap;
mod percpu;
mod pointers;
mod report;
mod roots;
mod running;
mod scanned;
mod unknown;
mod warnings;
