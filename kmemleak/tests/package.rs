//! What `cargo package` makes could be published as it is: no file is missing or too many, and from the packaged files alone the
//! crate builds with each of its features, as do a crate that depends on it and the kernel of its README.
//!
//! No network is needed: dependencies are those of the workspace. `tar` unpacks the package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const CRATE: &str = concat!("kmemleak-", env!("CARGO_PKG_VERSION"));

/// Files of a package that lie beside `src`.
const BESIDE_SOURCES: [&str; 9] = [
    // Made by cargo.
    ".cargo_vcs_info.json",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    // Ours.
    "FORMATS.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "include/kmemleak.h",
];

#[test]
fn the_packaged_crate_is_complete_and_builds() {
    let workspace = unpacked();
    let package = workspace.join(CRATE);
    let (packaged, expected) = (files(&package), expected_files());
    let unexpected: Vec<_> = packaged.difference(&expected).collect();
    let missing: Vec<_> = expected.difference(&packaged).collect();
    assert!(
        unexpected.is_empty() && missing.is_empty(),
        "unexpected: {unexpected:?}, missing: {missing:?}"
    );
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let ours = read(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(licence),
        );
        assert_eq!(read(&package.join(licence)), ours, "{licence}");
    }
    let metadata = metadata(&package);
    for text in [
        "description",
        "license",
        "readme",
        "documentation",
        "rust_version",
    ] {
        assert!(metadata[text].is_string(), "{text}: {}", metadata[text]);
    }
    for list in ["keywords", "categories"] {
        // As many as crates.io takes.
        let len = metadata[list].as_array().map_or(0, Vec::len);
        assert!((1..=5).contains(&len), "{list}: {}", metadata[list]);
    }
    add_users(&workspace, &package);
    build(&workspace, "user", &["--no-default-features"]);
    let features = metadata["features"].as_object().expect("features");
    for feature in features.keys().map(|name| format!("kmemleak/{name}")) {
        build(
            &workspace,
            "user",
            &["--no-default-features", "--features", &feature],
        );
    }
    build(&workspace, "kernel", &[]);
}

/// Packages the crate, and unpacks it into a workspace of its own.
fn unpacked() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    run(Command::new(env!("CARGO"))
        .args([
            "package",
            "--package",
            "kmemleak",
            "--no-verify",
            "--offline",
            "--allow-dirty",
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let workspace = target.join("unpacked");
    if workspace.join(CRATE).exists() {
        std::fs::remove_dir_all(workspace.join(CRATE)).expect("the last one can be removed");
    }
    std::fs::create_dir_all(&workspace).expect("a directory for the package");
    run(Command::new("tar")
        .arg("-xzf")
        .arg(target.join("package").join(format!("{CRATE}.crate")))
        .arg("-C")
        .arg(&workspace));
    workspace
}

/// All sources, and what is known to lie beside them.
fn expected_files() -> BTreeSet<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = files(&here.join("src"))
        .into_iter()
        .map(|name| format!("src/{name}"));
    let expected = sources.chain(BESIDE_SOURCES.map(str::to_owned));
    expected
        .inspect(|name| {
            let is_source =
                name.ends_with(".rs") || (name.starts_with("src/guide/") && name.ends_with(".md"));
            assert!(
                is_source || !name.starts_with("src/"),
                "{name} is no source"
            );
        })
        .collect()
}

/// The names of all files below a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_string_lossy();
                found.insert(name.into_owned());
            }
        }
    }
    found
}

/// What the packaged manifest says.
fn metadata(package: &Path) -> Value {
    // Cargo looks for a workspace in all folders above, and there is that of the repository.
    let manifest = package.parent().expect("the workspace").join("Cargo.toml");
    write(
        &manifest,
        &format!("[workspace]\nresolver = \"3\"\nmembers = [\"{CRATE}\"]\n"),
    );
    let output = run(Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(package));
    let mut all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    all["packages"][0].take()
}

/// Adds two crates to the workspace: one that names the detector alone, and the kernel of the README.
fn add_users(workspace: &Path, package: &Path) {
    let manifest = |name: &str, dependencies: &str| {
        format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n\n[dependencies]\n\
             kmemleak = {{ path = \"../{CRATE}\", default-features = false{dependencies}\n"
        )
    };
    let members =
        format!("[workspace]\nresolver = \"3\"\nmembers = [\"{CRATE}\", \"user\", \"kernel\"]\n");
    write(&workspace.join("Cargo.toml"), &members);
    // The versions that are on this machine.
    write(
        &workspace.join("Cargo.lock"),
        include_str!("../../Cargo.lock"),
    );
    write(&workspace.join("user/Cargo.toml"), &manifest("user", " }"));
    write(&workspace.join("user/src/lib.rs"), USER);
    let dependencies = ", features = [\"elf\"] }\n\
        linked_list_allocator = { version = \"0.10.6\", default-features = false, features = [\"use_spin\", \"const_mut_refs\"] }";
    write(
        &workspace.join("kernel/Cargo.toml"),
        &manifest("kernel", dependencies),
    );
    let readme = read(&package.join("README.md"));
    let code = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let code = code.expect("the README has an example");
    write(&workspace.join("kernel/src/leaks.rs"), code);
    write(&workspace.join("kernel/src/lib.rs"), KERNEL);
}

const USER: &str = "#![no_std]
pub fn leaks<P: kmemleak::Platform>(detector: &kmemleak::Detector<P>) -> Option<usize> {
    detector.check().ok().map(|verdict| verdict.objects)
}
";

/// What the README's kernel has besides.
const KERNEL: &str = "#![no_std]
mod leaks;

mod clock {
    pub fn now_us() -> u64 {
        0
    }
}

mod interrupts {
    pub fn disable() -> usize {
        0
    }
    pub fn restore(_: usize) {}
}

mod stack {
    pub fn bounds() -> core::ops::Range<usize> {
        0..0
    }
}
";

fn build(workspace: &Path, package: &str, features: &[&str]) {
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--package", package])
        .args(features)
        .current_dir(workspace));
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{errors}");
    output
}

#[track_caller]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
