//! What the kernel's linker script makes of sections that somebody adds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use object::{Object, ObjectSymbol};

/// Links a kernel of one file, which has a writable variable in `section`, as the kernel is linked.
fn link(section: &str) -> (PathBuf, Output) {
    let name = section.trim_start_matches('.').replace('.', "_");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("link-{name}"));
    fs::create_dir_all(&folder).expect("a folder for the test");
    let (source, image) = (folder.join("main.rs"), folder.join("kernel"));
    let text = format!(
        r#"#![no_std]
#![no_main]
#[unsafe(link_section = "{section}")]
#[unsafe(no_mangle)]
static ADDED: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(5);
#[unsafe(no_mangle)]
extern "C" fn _start() -> usize {{ ADDED.load(core::sync::atomic::Ordering::Relaxed) }}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {{ loop {{}} }}
"#
    );
    fs::write(&source, text).expect("a file for the test");
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition=2024", "--target=x86_64-unknown-none"]);
    rustc.args(["-Cpanic=abort", "-Crelocation-model=static"]);
    for argument in include_str!("../../kernel/link.args").lines() {
        let argument = argument.replace("{kernel}", &kernel.to_string_lossy());
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    let output = rustc.arg("-o").arg(&image).arg(source).output();
    (image, output.expect("rustc runs"))
}

#[test]
fn a_section_that_the_script_does_not_know_is_an_error() {
    let (_, output) = link(".ro_after_init");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    assert!(
        errors.contains("(.ro_after_init) is being placed in '.ro_after_init'"),
        "{errors}"
    );
}

#[test]
fn a_section_of_the_proper_name_is_a_part_of_a_root() {
    let (image, output) = link(".data.ro_after_init");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let image = fs::read(image).expect("an image");
    let image = object::File::parse(&*image).expect("an ELF file");
    let address = |name| image.symbol_by_name(name).expect("a symbol").address();
    let data = address("__data_start")..address("__data_end");
    assert!(data.contains(&address("ADDED")));
}
