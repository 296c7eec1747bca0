//! Links the kernel by its own script, on the bare target only: on the host its binary is a stub.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=link.args");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let package = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        for argument in include_str!("link.args").lines() {
            let argument = argument.replace("{kernel}", &package);
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
