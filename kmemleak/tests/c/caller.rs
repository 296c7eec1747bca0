//! A program in C, compiled against the header and linked with a detector.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kmemleak::c_api::{CResult, CSummary};

use crate::header::declared;

/// How a compiler of C must find the header and its caller: without a warning.
const STRICT: [&str; 5] = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];

#[test]
fn a_program_in_c_finds_its_leak() {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("skipped: no compiler of C is installed (cc)");
        return;
    }
    let package = package();
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--target-dir", "target"])
        .current_dir(&package));
    run(compiler("cc")
        .args(STRICT)
        .args(["caller.c", "all.c", "target/debug/libdetector.a"])
        // What Rust's standard library needs of the host.
        .args(["-lpthread", "-ldl", "-lm", "-o", "caller"])
        .current_dir(&package));
    let told = run(Command::new("./caller").current_dir(&package)).stdout;
    let told = String::from_utf8(told).expect("UTF-8");
    let (layout, report) = told.split_once("\n\n").expect("a layout, then a report");
    assert_eq!(
        layout.lines().map(str::to_owned).collect::<Vec<_>>(),
        expected_layout()
    );
    assert!(
        report.contains("   #1        1      64 B         - "),
        "{report}"
    );
    assert!(
        report.ends_with("kmemleak: 1 unreferenced object (64 bytes)\nnext: kmemleak show #1\n"),
        "{report}"
    );
}

#[test]
fn the_header_is_cpp_as_well() {
    if Command::new("c++").arg("--version").output().is_err() {
        println!("skipped: no compiler of C++ is installed (c++)");
        return;
    }
    run(compiler("c++")
        .args([
            "-std=c++11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-x",
            "c++",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/kmemleak.h")));
}

/// What `caller.c` should print of the types: numbers of results, then offsets of fields and the size of all.
fn expected_layout() -> Vec<String> {
    let results = [
        CResult::Done,
        CResult::Off,
        CResult::Stopped,
        CResult::Nested,
        CResult::NoMemory,
        CResult::NoMark,
    ];
    let fields = [
        offset_of!(CSummary, objects),
        offset_of!(CSummary, bytes),
        offset_of!(CSummary, suspects),
        offset_of!(CSummary, suspect_bytes),
        offset_of!(CSummary, unreported_objects),
        offset_of!(CSummary, unrecorded),
        offset_of!(CSummary, tracked),
        offset_of!(CSummary, took_us),
        offset_of!(CSummary, stopped_us),
    ];
    let text = |numbers: &[usize]| {
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        numbers.join(" ")
    };
    vec![
        text(&results.map(|result| result as usize)),
        text(&fields),
        text(&[size_of::<CResult>(), size_of::<CSummary>()]),
    ]
}

/// A package apart from the workspace, with the sources in C beside it.
fn package() -> PathBuf {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-caller");
    std::fs::create_dir_all(package.join("src")).expect("a directory for the package");
    let manifest = format!(
        "[package]\nname = \"detector\"\nedition = \"2024\"\n[workspace]\n[lib]\ncrate-type = [\"staticlib\"]\n\
         [dependencies]\nkmemleak = {{ path = {:?}, features = [\"c-api\", \"elf\"] }}\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let files = [
        ("Cargo.toml", manifest.as_str()),
        ("src/lib.rs", include_str!("detector.rs")),
        ("caller.c", include_str!("caller.c")),
        ("all.c", &all_functions()),
        // The versions of the workspace, which are on this machine.
        ("Cargo.lock", include_str!("../../../Cargo.lock")),
    ];
    for (name, text) in files {
        std::fs::write(package.join(name), text).expect("the package can be written to");
    }
    package
}

/// A source that links only if each function of the header is defined.
fn all_functions() -> String {
    let functions: BTreeMap<_, _> = declared();
    let names = functions
        .keys()
        .map(|name| format!("\t(void (*)(void)) {name},\n"));
    let names: String = names.collect();
    format!("#include \"kmemleak.h\"\n\nvoid (*const all[])(void) = {{\n{names}}};\n")
}

fn compiler(name: &str) -> Command {
    let mut compiler = Command::new(name);
    compiler
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
    compiler
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it can be started");
    let told = [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat();
    assert!(output.status.success(), "{command:?}:\n{told}");
    output
}
