//! The detector's lock-free protocols, run by loom: in all orders in which their loads and stores may be seen.
//!
//! What runs is the detector's own source, compiled once more: its `crate::atomic` is here one of loom's atomics
//! ([`atomic`]), its sizes are small ones (`sizes`). So model and source can't come apart.
//!
//! - [`depot`](models::depot): CPUs that store call stacks at once, lose races, and hand room back.
//! - [`names`](models::names): CPUs that look names of tasks up while numbers are freed and given again.
//! - [`marker`](models::marker): blocks that are freed, and others that are allocated, while the marker is at work.
//!
//! A model that holds proves little if it holds for wrong code as well. So [`weakening`] finds each `Acquire` and
//! `Release` in what ran and takes it away, one at a time: some model must then fail. An ordering that can go without any
//! model failing is one too many, or one that no model looks at; either is an error of the tests here.
//!
//! # Bounds
//!
//! A search looks at all executions with so many preemptions at most (see [`search`]), which is what keeps it within
//! seconds. Loom knows no out-of-thin-air values and takes `SeqCst` accesses for `AcqRel` ones, fences apart.

// As a test of its own (which only lints ask for) it would need the sources' unit tests, which are not for loom.
#![cfg(not(test))]

pub mod atomic;
pub mod models;
pub mod search;
pub mod weakening;

mod sizes;

/// What the sources ask of the platform.
mod platform {
    pub(crate) use kmemleak::{COMM_LEN, Comm, MAX_FRAMES, StackWalk};

    /// As small as the longest entry allows: each word of it is an object of loom's.
    pub(crate) const METADATA_PAGE: usize = 256;

    pub(crate) mod arch {
        pub(crate) const FRAME_POINTER_ABOVE: usize = 0;
    }
}

/// Folders of the detector, with the files of each that the models use.
macro_rules! borrowed {
    ($($folder:ident at $path:literal: $($name:ident)*;)*) => {$(
        #[path = $path]
        mod $folder {$(
            #[allow(dead_code, reason = "the models use a part of it")]
            #[allow(clippy::modulo_one, reason = "some tables have one row here")]
            pub(crate) mod $name;
        )*}
    )*};
}

borrowed! {
    metadata at "../../src/metadata": hidden page;
    stacks at "../../src/stacks": crc depot frame_walk task_names;
    objects at "../../src/objects": hazard word_lock;
    tracker at "../../src/tracker": mode_word;
}
