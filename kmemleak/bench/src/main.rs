//! Measures the leak detector on the host, over the emulated machine.
//!
//! ```text
//! cargo run -q --release -p kmemleak-bench -- check   --objects N --fill random|zero|dense --cpus C --repeat R
//! cargo run -q --release -p kmemleak-bench -- scan    --objects N --fill random|zero|dense --repeat R
//! cargo run -q --release -p kmemleak-bench -- confirm --objects N --fill random|zero|dense --cpus C --repeat R
//! cargo run -q --release -p kmemleak-bench -- graph   --objects N --shape wide|chain|tree|comb --cpus C --repeat R [--no-queues]
//! cargo run -q --release -p kmemleak-bench -- pairs   --live N --threads T --frames F --repeat R
//! cargo run -q --release -p kmemleak-bench -- latency --live N --repeat R
//! cargo run -q --release -p kmemleak-bench -- memory  --objects N [--size S,... --stride T,...]
//! cargo run -q --release -p kmemleak-bench -- depot   --stacks N --repeat R
//! cargo run -q --release -p kmemleak-bench -- names   --tasks N --repeat R
//! cargo run -q --release -p kmemleak-bench -- misses  --lost N
//! cargo run -q --release -p kmemleak-bench -- count
//! cargo run -q --release -p kmemleak-bench -- compare OLD.json
//! ```
//!
//! Each prints one JSON object a line. Times depend on the machine and on its neighbours: compare figures of one
//! hour, medians of several repetitions. Instruction counts don't, and valgrind gives them for the same binary.
//! What is timed is in functions of its own that are never inlined, for valgrind to start and stop counting at:
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*check_once*'    kmemleak-bench check --objects 10000 --repeat 1
//! valgrind --tool=callgrind --toggle-collect='*hot_tracked*'   kmemleak-bench pairs --repeat 1
//! valgrind --tool=callgrind --toggle-collect='*in_the_stop*'   kmemleak-bench confirm --objects 10000 --repeat 1
//! ```
//!
//! and so `hot_untracked`, `batch_tracked`, `batch_untracked`, `depot_tracked`, `depot_untracked`, `names_tracked` and
//! `names_untracked`, for 200 000 pairs each, and `scan_once`.
//!
//! | module | what |
//! | --- | --- |
//! | `workload` | KLW-1: the objects, how they point at each other, what is leaked |
//! | `world` | the workload laid out in a machine's memory, with a detector that is told of it |
//! | `platform` | the emulated machine with what a benchmark needs otherwise |
//! | `clock` | a cheap clock |
//! | `plain` | the allocator under the pairs |
//! | `chain` | the call stack under the pairs |
//! | `check`, `scan`, `confirm`, `graph`, `pairs`, `latency`, `memory`, `depot`, `names`, `misses` | one subcommand each |
//! | `counts` | `count` and `compare`: instruction counts of these |

mod chain;
mod check;
mod clock;
mod confirm;
mod counts;
mod depot;
mod graph;
mod latency;
mod memory;
mod misses;
mod names;
mod pairs;
mod plain;
mod platform;
mod scan;
mod workload;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::TypedValueParser;
use clap::{Parser, Subcommand};

use crate::graph::{Queues, Shape};
use crate::workload::{Fill, MAX_OBJECTS, MIN_OBJECTS};

/// Measures the leak detector on the workload that other leak detectors are measured on
#[derive(Debug, Parser)]
#[command(name = "kmemleak-bench")]
struct Options {
    #[command(subcommand)]
    what: What,
}

/// Threads and frames are counted in one digit or two.
const MAX_THREADS: i64 = 64;

#[derive(Debug, Subcommand)]
enum What {
    /// Time of one exact check
    Check {
        /// Objects
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = objects())]
        objects: u32,
        /// What the words hold that are no pointers of the graph
        #[arg(long, value_enum, default_value_t)]
        fill: Fill,
        /// CPUs of the machine: they mark together
        #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
        cpus: u32,
        /// Checks to time
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// Time of one pass of the background scan
    Scan {
        /// Objects
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = objects())]
        objects: u32,
        /// What the words hold that are no pointers of the graph
        #[arg(long, value_enum, default_value_t)]
        fill: Fill,
        /// Passes to time
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// Time of the stop in which a background scan confirms its suspects
    Confirm {
        /// Objects
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = objects())]
        objects: u32,
        /// What the words hold that are no pointers of the graph
        #[arg(long, value_enum, default_value_t)]
        fill: Fill,
        /// CPUs of the machine: they share the work
        #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
        cpus: u32,
        /// Scans to time
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// Time of one exact check of a graph in which many objects are found before any of them is scanned
    Graph {
        /// Objects
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = objects())]
        objects: u32,
        /// How they point to each other
        #[arg(long, value_enum, default_value_t)]
        shape: Shape,
        /// CPUs of the machine: they mark together
        #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
        cpus: u32,
        /// Checks to time
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
        /// There is no memory for the queues of a check
        #[arg(long)]
        no_queues: bool,
    },
    /// Time of a pair of alloc and free of 64 bytes, tracked and not
    Pairs {
        /// Objects that are tracked beside
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = objects())]
        live: u32,
        /// Threads that do it at once, each on a CPU of its own
        #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
        threads: u32,
        /// Functions that lead to the pair
        #[arg(long, value_name = "F", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
        frames: u32,
        /// Rounds, each of them tracked and not
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// How long single pairs take beside a scan that goes on, and without one
    Latency {
        /// Objects that are tracked beside
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = objects())]
        live: u32,
        /// Rounds, each of them with a scan and without
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// Memory that the detector takes
    Memory {
        /// Objects
        #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = objects())]
        objects: u32,
        /// Instead of the workload's objects: objects of this size; several with commas
        #[arg(long, value_name = "S", requires = "stride", value_delimiter = ',', value_parser = bytes())]
        size: Vec<usize>,
        /// How many bytes apart they lie; as many as sizes
        #[arg(long, value_name = "T", requires = "size", value_delimiter = ',', value_parser = bytes())]
        stride: Vec<usize>,
    },
    /// Time of a pair whose call stack is one of many
    Depot {
        /// Different call stacks
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(depot::MAX_STACKS)))]
        stacks: u32,
        /// Rounds, each of them tracked and not
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// Time of a pair when tasks take turns, and many names of tasks are in use
    Names {
        /// Tasks beside, each of which has a name and a block
        #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(..=names::MAX_TASKS))]
        tasks: u32,
        /// Rounds, each of them tracked and not
        #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
    /// How many leaks a check misses, and by which words: not a time
    Misses {
        /// Blocks that are lost
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
        lost: u32,
    },
    /// Instruction counts of those above that are times, by valgrind
    Count,
    /// How instruction counts have changed; fails if one has grown by more than 3 %
    Compare {
        /// What `count` has written
        #[arg(value_name = "OLD.json")]
        old: PathBuf,
    },
}

fn objects() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(MIN_OBJECTS)..=i64::from(MAX_OBJECTS))
}

fn bytes() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64)
        .range(1..=4096)
        .map(|bytes| bytes as usize)
}

fn main() -> ExitCode {
    let done = match Options::parse().what {
        What::Check {
            objects,
            fill,
            cpus,
            repeat,
        } => check::run(objects, fill, cpus, repeat),
        What::Scan {
            objects,
            fill,
            repeat,
        } => scan::run(objects, fill, repeat),
        What::Confirm {
            objects,
            fill,
            cpus,
            repeat,
        } => confirm::run(objects, fill, cpus, repeat),
        What::Graph {
            objects,
            shape,
            cpus,
            repeat,
            no_queues,
        } => {
            let queues = match no_queues {
                true => Queues::Refused,
                false => Queues::Granted,
            };
            graph::run(objects as usize, shape, queues, cpus, repeat)
        }
        What::Pairs {
            live,
            threads,
            frames,
            repeat,
        } => pairs::run(live, threads, frames, repeat),
        What::Latency { live, repeat } => latency::run(live, repeat),
        What::Memory {
            objects,
            size,
            stride,
        } => match size.is_empty() {
            true => memory::run(objects),
            false => memory::run_slots(objects, &size, &stride),
        },
        What::Depot { stacks, repeat } => depot::run(stacks, repeat),
        What::Names { tasks, repeat } => names::run(tasks, repeat),
        What::Misses { lost } => misses::run(lost as usize),
        What::Count => counts::count(),
        What::Compare { old } => counts::compare(&old),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("kmemleak-bench: {wrong}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "chekc",
            "check --objects 0",
            "check --objects many",
            "check --fill full",
            "check --cpus 0",
            "check --repeat 0",
            "graph --shape round",
            "pairs --threads 0",
            "pairs --frames 0",
            "latency --fill zero",
            "memory --repeat 2",
            "memory --size 40",
            "memory --size 0 --stride 64",
            "depot --stacks 0",
            "names --tasks -1",
            "misses --lost 0",
        ] {
            let words = ["kmemleak-bench"]
                .into_iter()
                .chain(line.split_whitespace());
            assert!(Options::try_parse_from(words).is_err(), "{line}");
        }
    }
}
