//! Links the test kernel as the kernel is linked, on the bare target only: on the host it is a stub.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../../kernel/link.ld");
    println!("cargo:rerun-if-changed=../../kernel/link.args");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let package = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let kernel = format!("{package}/../../kernel");
        for argument in include_str!("../../kernel/link.args").lines() {
            let argument = argument.replace("{kernel}", &kernel);
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
