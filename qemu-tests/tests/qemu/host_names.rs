//! Names that the host gives: a real log, in which the kernel's names are replaced by the addresses that a kernel without names
//! would write, gets the same names from `kmemleak-report`, and the same types of blocks.

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
/// Functions of several types may have the same.
struct Functions(HashMap<(String, u64), Vec<u64>>);

impl Functions {
    fn read() -> Result<Self, Failure> {
        let data = fs::read(Package::Kernel.binary(Profile::Release))?;
        let file = object::File::parse(&*data)?;
        let functions = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text);
        let mut named: HashMap<_, Vec<u64>> = HashMap::new();
        for symbol in functions {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
            let places = named.entry((name, symbol.size())).or_default();
            places.push(symbol.address());
        }
        Ok(Self(named))
    }

    /// The address that a frame was written for, or may have been.
    fn address(&self, frame: &str) -> Option<String> {
        let (starts, offset) = self.starts(frame)?;
        Some(format!("{:#018x}", starts.first()? + offset))
    }

    /// Whether a frame can have been written for one address only.
    fn is_certain(&self, frame: &str) -> bool {
        matches!(self.starts(frame), Some(([_], _)))
    }

    /// Where the functions begin of which a frame may be, and its offset.
    fn starts(&self, frame: &str) -> Option<(&[u64], u64)> {
        let place = frame.split(" (").next()?;
        let (place, size) = place.rsplit_once("/0x")?;
        let (name, offset) = place.rsplit_once("+0x")?;
        let size = u64::from_str_radix(size, 16).ok()?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        Some((self.0.get(&(name.to_owned(), size))?, offset))
    }

    /// A log with addresses for names, and how many it has.
    fn without_names(&self, log: &str) -> Result<(String, u64), Failure> {
        let (mut unnamed, mut count) = (String::new(), 0);
        // Addresses of frames by their innermost functions, as answers about objects name them.
        let mut call_sites = HashMap::new();
        let mut innermost = None;
        for line in log.lines() {
            let frame = line
                .strip_prefix("    ")
                .filter(|frame| frame.ends_with(" [inlined]") || frame.contains("/0x"));
            if let Some(inlined) = frame.and_then(|frame| frame.strip_suffix(" [inlined]")) {
                innermost.get_or_insert(inlined.to_owned());
                continue;
            }
            let replaced = if let Some(frame) = frame {
                let address = self
                    .address(frame)
                    .ok_or_else(|| format!("no function: {line}"))?;
                let innermost = innermost.take().unwrap_or_else(|| without_offset(frame));
                call_sites.insert(innermost, address.clone());
                Some(format!("    {address}"))
            } else if let Some((object, call_site)) = line.split_once(", from ")
                && call_site.starts_with("kernel::")
            {
                let address = call_sites.get(call_site);
                let address = address.ok_or_else(|| format!("no frame has it: {line}"))?;
                Some(format!("{object}, from {address}"))
            } else {
                None
            };
            count += u64::from(replaced.is_some());
            unnamed += replaced.as_deref().unwrap_or(line);
            unnamed += "\n";
        }
        Ok((unnamed, count))
    }
}

/// `function (file:line)`.
fn without_offset(frame: &str) -> String {
    match (frame.split_once("+0x"), frame.split_once(" (")) {
        (Some((name, _)), Some((_, place))) => format!("{name} ({place}"),
        _ => frame.to_owned(),
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
    let mut expected = log(&[
        "scan --all --full",
        "sites --full",
        "objects --full --top 100",
    ])?;
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
    let frame = without_offset(frame.ok_or("no frame")?.trim_start());
    let frame = frame.trim_end_matches(" [inlined]");
    expected += &format!("  {holder}: object {holder} (size 64)+0x0, from {frame}\n");
    let (log, replaced) = functions.without_names(&expected)?;
    if replaced < 8 {
        return Err(format!("{replaced} names were replaced:\n{expected}").into());
    }
    let (named, found) = named_by_host(&log)?;
    if named != expected {
        return Err(format!("named by the host:\n{named}\nby the kernel:\n{expected}").into());
    }
    match (found.addresses, found.outside) == (replaced, 0) {
        true => Ok(()),
        false => Err(format!("of {replaced} addresses: {found:?}").into()),
    }
}

fn json_is_named_likewise() -> Result<(), Failure> {
    let functions = Functions::read()?;
    let by_kernel = log(&["scan --json", "sites --json", "objects --json"])?;
    let (mut unnamed, mut types) = (String::new(), 0_u64);
    for line in by_kernel.lines().filter(|line| !line.is_empty()) {
        let mut value: Value = serde_json::from_str(line)?;
        let backtrace = value.get_mut("backtrace").and_then(Value::as_array_mut);
        let mut is_certain = backtrace.is_some();
        for frame in backtrace.into_iter().flatten() {
            let name = frame.as_str().ok_or("no text")?;
            is_certain &= functions.is_certain(name);
            *frame = functions.address(name).ok_or("no function")?.into();
        }
        if let Some(told) = value.get_mut("type").filter(|_| is_certain) {
            types += u64::from(told.is_string());
            *told = Value::Null;
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
    match found.addresses > 8 && found.outside == 0 && found.damaged == 0 && types > 2 {
        true => Ok(()),
        false => Err(format!("{types} types: {found:?}").into()),
    }
}
