//! What a fuzzer feeds to the detector, to the kernel's parts that run on a host, and to the host tool.
//!
//! Each module has a function `run` that takes any bytes and panics if something is wrong: not only where the code under test
//! panics, but where an oracle says otherwise. The programs in `targets/` hand them to LLVM's libFuzzer:
//!
//! ```text
//! cargo +nightly fuzz run --features libfuzzer callbacks -- -detect_leaks=0 -max_total_time=600
//! ```
//!
//! An input that failed is put into `corpus/`, beside small ones that reach what a fuzzer would need hours to find. `cargo test` runs
//! all of them, without a fuzzer.
//!
//! | module | what is fed | what judges |
//! | --- | --- | --- |
//! | [`callbacks`] | allocations, frees, stores, checks | the model of `kmemleak/tests/model` |
//! | [`commands`] | commands and boot parameters | the format of answers; that nothing is lost |
//! | [`patterns`] | patterns of suppressions, and names | a matcher that tries everything |
//! | [`scripts`] | leak scripts | that errors name their line |
//! | [`editor`] | keys | a model of the line, and a terminal emulator |
//! | [`images`] | kernels' files | that roots and segments do not overlap |
//! | [`loading`] | the firmware's tables | that memory is handed out once |
//! | [`logs`] | serial logs | that what is made of them is JSON and XML |

pub mod callbacks;
pub mod commands;
pub mod editor;
pub mod images;
pub mod loading;
pub mod logs;
pub mod patterns;
pub mod scripts;

mod random;

/// Models, as the tests have them that they were written for.
macro_rules! borrowed {
    ($($name:ident $path:literal)*) => {$(
        #[path = $path]
        #[allow(dead_code, missing_docs, reason = "those tests use the rest")]
        mod $name;
    )*};
}

// Of the detector; of a terminal and of the line that is typed there.
borrowed! {
    history "../../kmemleak/tests/model/history.rs"
    model "../../kmemleak/tests/model/model.rs"
    replay "../../kmemleak/tests/model/replay.rs"
    desk "../../kernel/line-editor/tests/editor/desk.rs"
    line "../../kernel/line-editor/tests/editor/line.rs"
    session "../../kernel/line-editor/tests/editor/session.rs"
}
