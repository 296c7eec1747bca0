//! What is drawn from a log: the heap as a graph, call stacks, and the files for other tools.

mod graph;
mod heapsnapshot;
mod made;
mod page;
mod program;
mod suspects;
mod usage;
