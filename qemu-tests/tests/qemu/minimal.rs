//! The crate's example of a whole kernel, `kmemleak/examples/minimal`, which knows no file of the kernel's.
//!
//! It carries no symbols with it that it could read, so its reports have addresses, which are looked up here in its ELF file.

use std::fs;
use std::path::Path;

use boot::artifacts::{self, Package, Profile};
use boot::machine::{Accel, Machine};
use boot::outcome::Outcome;
use object::{Object, ObjectSymbol, SymbolKind};
use qemu_tests::machines::{self, Failure};
use qemu_tests::report;

crate::tests![finds_what_it_lost_and_nothing_else];

fn finds_what_it_lost_and_nothing_else() -> Result<(), Failure> {
    let folder = artifacts::workspace().join("kmemleak/examples/minimal");
    let kernel = artifacts::build_apart(&folder, "minimal", Profile::Release)?;
    let machine = Machine {
        accel: Accel::Tcg,
        cpus: 1,
        ..Machine::new(Package::Loader.binary(Profile::Release), kernel.clone())
    };
    let ended = machines::run(&machine)?;
    machines::expect(&ended, Outcome::Passed, "kmemleak: selftest passed: ")?;
    // Three more are held: by .bss, by .data, and by the stack of the code that asks.
    machines::expect(
        &ended,
        Outcome::Passed,
        "kmemleak: 1 unreferenced object (64 bytes)",
    )?;
    let [lost] = &report::parse(&ended.serial)?[..] else {
        return Err(format!("not one leak: {ended}").into());
    };
    if lost.size != 64 {
        return Err(format!("another block than the lost one: {ended}").into());
    }
    let functions = functions(&kernel, &lost.backtrace)?;
    // The allocator itself may stand in front: whether it is inlined is the compiler's choice.
    let of_allocator =
        |name: &&String| name.contains("GlobalAlloc") || name.contains("__rust_alloc");
    let callers = functions.iter().position(|name| !of_allocator(&name));
    if !matches!(&functions[callers.unwrap_or(0)..], [lose, main, ..] if has_path(lose, "minimal::lose") && has_path(main, "minimal::main"))
    {
        return Err(format!("it was lost by {functions:?}: {ended}").into());
    }
    Ok(())
}

/// The symbols of the functions to which these addresses return.
fn functions(kernel: &Path, addresses: &[String]) -> Result<Vec<String>, Failure> {
    let file = fs::read(kernel)?;
    let file = object::File::parse(&*file)?;
    let name = |address: &String| {
        let address = u64::from_str_radix(address.trim_start_matches("0x"), 16)?;
        let symbol = file.symbols().find(|symbol| {
            let end = symbol.address() + symbol.size();
            symbol.kind() == SymbolKind::Text && (symbol.address()..end).contains(&(address - 1))
        });
        let symbol = symbol.ok_or(format!("{address:#x} is in no function"))?;
        Ok(symbol.name()?.to_owned())
    };
    addresses.iter().map(name).collect()
}

/// Whether a mangled symbol is that of the function with this path: each part of a path is preceded by its length.
fn has_path(symbol: &str, path: &str) -> bool {
    let mangled = |part: &str| format!("{}{part}", part.len());
    let parts: Vec<String> = path.split("::").map(mangled).collect();
    symbol.contains(&parts.concat())
}
