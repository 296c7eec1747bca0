//! The crate builds with the oldest Rust that its manifest promises, where that toolchain is installed.

use std::path::Path;
use std::process::Command;

#[test]
fn the_promised_rust_builds_the_crate() {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let Some(toolchain) = installed(promised) else {
        println!(
            "skipped: no Rust {promised} is installed (rustup toolchain install {promised}.0)"
        );
        return;
    };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oldest-rust");
    let output = Command::new("rustup")
        .args([
            "run",
            &toolchain,
            "cargo",
            "check",
            "--lib",
            "--locked",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .output()
        .expect("rustup runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "with Rust {toolchain}:\n{errors}");
}

/// The name of an installed toolchain of this version.
fn installed(version: &str) -> Option<String> {
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
