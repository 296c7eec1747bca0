//! The crate builds with all its features where its documentation says so: with the oldest Rust that the manifest promises,
//! and for targets of 64 bits; others are refused in words. What a machine has not installed is skipped, and named.

use std::path::Path;
use std::process::{Command, Output};

#[test]
fn the_promised_rust_builds_the_crate() {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let Some(toolchain) = installed_toolchain(promised) else {
        println!(
            "skipped: no Rust {promised} is installed (rustup toolchain install {promised}.0)"
        );
        return;
    };
    let output = check(
        "oldest-rust",
        Command::new("rustup").args(["run", &toolchain, "cargo"]),
    );
    assert!(
        output.status.success(),
        "with Rust {toolchain}:\n{}",
        errors(&output)
    );
}

#[test]
fn targets_of_64_bits_are_built_without_warnings() {
    for target in ["aarch64-unknown-none", "riscv64gc-unknown-none-elf"] {
        let Some(output) = check_target(target) else {
            continue;
        };
        let errors = errors(&output);
        assert!(
            output.status.success() && !errors.contains("warning"),
            "for {target}:\n{errors}"
        );
    }
}

#[test]
fn targets_of_32_bits_are_refused_in_words() {
    for target in ["i686-unknown-linux-gnu", "thumbv7em-none-eabi"] {
        let Some(output) = check_target(target) else {
            continue;
        };
        let errors = errors(&output);
        let told = errors.contains("error: kmemleak needs a target with 64-bit addresses");
        assert!(!output.status.success() && told, "for {target}:\n{errors}");
    }
}

/// Checks for a target; `None` if its `core` is not installed.
fn check_target(target: &str) -> Option<Output> {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .expect("rustc runs");
    if !Path::new(String::from_utf8_lossy(&libraries.stdout).trim()).exists() {
        println!("skipped: no {target} is installed (rustup target add {target})");
        return None;
    }
    Some(check(
        target,
        Command::new(env!("CARGO"))
            .arg("--config")
            .arg(format!("build.target='{target}'")),
    ))
}

/// Runs `cargo check`, in a directory of its own, since cargo holds a lock on the one that this test was built in.
fn check(directory: &str, cargo: &mut Command) -> Output {
    cargo
        .args([
            "check",
            "--lib",
            "--all-features",
            "--locked",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory))
        .output()
        .expect("cargo runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The name of an installed toolchain of this version.
fn installed_toolchain(version: &str) -> Option<String> {
    let output = Command::new("rustup")
        .args(["toolchain", "list"])
        .output()
        .ok()?;
    let list = String::from_utf8_lossy(&output.stdout);
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| {
            name.strip_prefix(version)
                .is_some_and(|rest| rest.starts_with(['.', '-']))
        })
        .map(str::to_owned)
}
