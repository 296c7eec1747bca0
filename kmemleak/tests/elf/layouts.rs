//! Small executables for the bare target, in the layouts that linkers have. They are kernels as far as layout goes, but run as
//! processes of the host: `small.rs` asks it for nothing but to end.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

const TARGET: &str = "x86_64-unknown-none";

/// What `small.rs` ends with where its variables are in roots that can be read, and where no header is loaded.
const RIGHT: i32 = 0;
const NOT_LOADED: i32 = 2;

const WITH_HEADERS: &str = "
ENTRY(_start)
SECTIONS {
    . = 0x40000000 + SIZEOF_HEADERS;
    .text : { *(.text .text.*) }
    . = ALIGN(4096);
    .rodata : { *(.rodata .rodata.*) }
    . = ALIGN(4096);
    .data.rel.ro : { *(.data.rel.ro .data.rel.ro.*) }
    .data : { *(.data .data.*) }
    .bss : { *(.bss .bss.*) }
}";

/// As above, but the first segment begins with code.
fn without_headers() -> String {
    WITH_HEADERS.replace(" + SIZEOF_HEADERS", "")
}

#[test]
fn the_roots_of_each_layout_are_its_variables() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) || !is_installed() {
        println!("skipped: runs on Linux for x86_64 alone, with rustup target add {TARGET}");
        return;
    }
    let package = package();
    let script = |name: &str, text: &str| {
        let path = package.join(name);
        std::fs::write(&path, text).expect("the package can be written to");
        format!("-Clink-arg=-T{}", path.display())
    };
    let with_headers = script("with-headers.ld", WITH_HEADERS);
    let without_headers = script("without-headers.ld", &without_headers());
    assert_eq!(run(&package, &[]).code(), Some(RIGHT), "lld's own layout");
    assert_eq!(
        run(&package, &[&with_headers]).code(),
        Some(RIGHT),
        "a linker script"
    );
    assert_eq!(
        run(&package, &[&without_headers]).code(),
        Some(NOT_LOADED),
        "one without headers"
    );
    if Command::new("ld").arg("--version").output().is_err() {
        println!("skipped: no ld is installed");
        return;
    }
    let ld = ["-Clinker=ld", "-Clinker-flavor=ld"];
    assert_eq!(run(&package, &ld).code(), Some(RIGHT), "ld's own layout");
}

fn is_installed() -> bool {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .expect("rustc runs");
    Path::new(String::from_utf8_lossy(&libraries.stdout).trim()).exists()
}

/// A package of one file, apart from the workspace.
fn package() -> PathBuf {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("elf-layouts");
    std::fs::create_dir_all(package.join("src")).expect("a directory for the package");
    let manifest = format!(
        "[package]\nname = \"small\"\nedition = \"2024\"\n[workspace]\n[profile.dev]\npanic = \"abort\"\nopt-level = 2\nlto = true\n\
         [dependencies]\nkmemleak = {{ path = {:?}, default-features = false, features = [\"elf\"] }}\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let files = [
        ("Cargo.toml", manifest.as_str()),
        ("src/main.rs", include_str!("small.rs")),
        // The versions of the workspace, which are on this machine.
        ("Cargo.lock", include_str!("../../../Cargo.lock")),
    ];
    for (name, text) in files {
        std::fs::write(package.join(name), text).expect("the package can be written to");
    }
    package
}

/// Builds the package, linked in this way, and runs it.
fn run(package: &Path, link: &[&str]) -> ExitStatus {
    let built = Command::new(env!("CARGO"))
        .args([
            "rustc",
            "--quiet",
            "--offline",
            "--target",
            TARGET,
            "--target-dir",
            "target",
            "--",
        ])
        .args(link)
        .env("RUSTFLAGS", "-Crelocation-model=static")
        .current_dir(package)
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "{link:?}:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let executable = package.join("target").join(TARGET).join("debug/small");
    Command::new(executable).status().expect("it runs")
}
