//! The detector over the emulated machine: one concept a file.

mod background;
mod clear;
mod colours;
mod commands;
mod concurrent;
mod disabled;
mod graph;
mod huge;
mod lab;
mod metadata;
mod off;
mod overlap;
mod parts;
mod percpu;
mod physical;
mod pointers;
mod regions;
mod report;
mod roots;
mod running;
mod scanned;
mod scans;
mod unknown;
mod vmalloc;
mod warnings;
