//! Names that the host gives: a real log, in which the kernel's names are replaced by the addresses that a kernel without names
//! would write, gets the same names from `kmemleak-report`.

use std::collections::HashMap;
use std::fs;

use boot::artifacts::{self, Package, Profile};
use kmemleak_report::{Found, FramesShown, Kernel, LinesShown, Rewriter};
use object::{Object, ObjectSymbol, SymbolKind};
use qemu_tests::machines::Failure;
use serde_json::Value;

use crate::ask::ask;
use crate::leaks::plant;
use crate::shell::shell;

crate::tests![text_is_named_as_the_kernel_names_it, json_is_named_likewise];

/// The kernel's functions: their addresses, by name and size as reports write them.
struct Functions(HashMap<(String, u64), u64>);

impl Functions {
    fn read() -> Result<Self, Failure> {
        let data = fs::read(Package::Kernel.binary(Profile::Release))?;
        let file = object::File::parse(&*data)?;
        let functions = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text);
        let named = functions.filter_map(|symbol| {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?));
            Some(((name, symbol.size()), symbol.address()))
        });
        Ok(Self(named.collect()))
    }

    /// The address that a frame was written for.
    fn address(&self, frame: &str) -> Option<String> {
        let place = frame.split(" (").next()?;
        let (place, size) = place.rsplit_once("/0x")?;
        let (name, offset) = place.rsplit_once("+0x")?;
        let size = u64::from_str_radix(size, 16).ok()?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        let start = self.0.get(&(name.to_owned(), size))?;
        Some(format!("{:#018x}", start + offset))
    }

    /// A line of text with addresses for names, and whether it had a name.
    fn without_names(&self, line: &str) -> (String, bool) {
        let marks = ["    ", ", from "];
        let named = marks.iter().find_map(|mark| {
            let at = line.find(mark)? + mark.len();
            Some(format!("{}{}", &line[..at], self.address(&line[at..])?))
        });
        match named {
            Some(line) => (line, true),
            None => (line.to_owned(), false),
        }
    }
}

/// What the kernel says of some leaks.
fn log(commands: &[&str]) -> Result<String, Failure> {
    let mut session = shell()?;
    for kind in [
        "forgotten-free",
        "forgotten-free",
        "arc-cycle",
        "unlinked-node",
    ] {
        plant(&mut session, kind)?;
    }
    let mut log = String::new();
    for command in commands {
        log += &ask(&mut session, command)?;
        log += "\n";
    }
    Ok(log)
}

fn named_by_host(log: &str) -> Result<(String, Found), Failure> {
    let path = Package::Kernel.binary(Profile::Release);
    let kernel = Kernel::open(&path, None, artifacts::workspace())?;
    let mut named = Vec::new();
    let rewriter = Rewriter::new(kernel, &mut named, FramesShown::FromCaller, LinesShown::All);
    let (found, _) = rewriter.run(log.as_bytes())?;
    Ok((String::from_utf8(named)?, found))
}

fn text_is_named_as_the_kernel_names_it() -> Result<(), Failure> {
    let functions = Functions::read()?;
    let mut expected = log(&["scan --all", "sites", "objects --top 100"])?;
    let holder = expected
        .lines()
        .find_map(|line| line.strip_prefix("unreferenced object "));
    let holder = holder
        .and_then(|line| line.split(' ').next())
        .ok_or("no leak")?;
    // Who holds an object is in the log as a line of its own.
    let frame = expected
        .lines()
        .find(|line| line.starts_with("    kernel::"));
    let frame = frame.ok_or("no frame")?.trim_start();
    expected += &format!("  {holder}: object {holder} (size 64)+0x0, from {frame}\n");
    let lines: Vec<_> = expected
        .lines()
        .map(|line| functions.without_names(line))
        .collect();
    let replaced = lines.iter().filter(|(_, had_name)| *had_name).count();
    let frames = expected
        .lines()
        .filter(|line| line.contains("+0x") && line.contains("/0x"))
        .count();
    if replaced != frames || frames < 8 {
        return Err(format!("{replaced} of {frames} names were replaced:\n{expected}").into());
    }
    let log: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let (named, found) = named_by_host(&log)?;
    if named != expected {
        return Err(format!("named by the host:\n{named}\nby the kernel:\n{expected}").into());
    }
    match (found.addresses, found.outside) == (replaced as u64, 0) {
        true => Ok(()),
        false => Err(format!("of {replaced} addresses: {found:?}").into()),
    }
}

fn json_is_named_likewise() -> Result<(), Failure> {
    let functions = Functions::read()?;
    let by_kernel = log(&["scan --json", "sites --json", "objects --json"])?;
    let mut unnamed = String::new();
    for line in by_kernel.lines().filter(|line| !line.is_empty()) {
        let mut value: Value = serde_json::from_str(line)?;
        let backtrace = value.get_mut("backtrace").and_then(Value::as_array_mut);
        for frame in backtrace.into_iter().flatten() {
            let name = frame.as_str().ok_or("no text")?;
            *frame = functions.address(name).ok_or("no function")?.into();
        }
        unnamed += &format!("{value}\n");
    }
    let (named, found) = named_by_host(&unnamed)?;
    let by_kernel = by_kernel.lines().filter(|line| !line.is_empty());
    for (ours, theirs) in named.lines().zip(by_kernel) {
        let mut ours: Value = serde_json::from_str(ours)?;
        ours.as_object_mut().ok_or("no object")?.remove("addresses");
        if ours != serde_json::from_str::<Value>(theirs)? {
            return Err(format!("named by the host:\n{ours}\nby the kernel:\n{theirs}").into());
        }
    }
    match found.addresses > 8 && found.outside == 0 && found.damaged == 0 {
        true => Ok(()),
        false => Err(format!("{found:?}").into()),
    }
}
