//! The program, with this test's own file as the kernel, and with files that name little or nothing.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use object::{Object, ObjectSegment, ObjectSymbol};

#[inline(never)]
fn probe(value: &mut Vec<u64>) {
    opened(value);
    std::hint::black_box(value);
}

#[inline(always)]
fn opened(value: &mut Vec<u64>) {
    let number = std::hint::black_box(5_u64);
    value.push(number * 3);
}

/// Where `probe` lies in this test's file, its size, and the lowest address of the file.
fn extent() -> (u64, u64, u64) {
    probe(&mut Vec::new());
    let data = fs::read(this()).expect("the test's own file");
    let file = object::File::parse(&*data).expect("an ELF file");
    let mut symbols = file.symbols();
    let symbol = symbols
        .find(|symbol| {
            symbol
                .name()
                .is_ok_and(|name| name.contains("7program5probe"))
        })
        .expect("a function of the test");
    let lowest = file.segments().map(|segment| segment.address()).min();
    (symbol.address(), symbol.size(), lowest.expect("a segment"))
}

fn this() -> PathBuf {
    env::current_exe().expect("it runs")
}

fn run(kernel: &Path, options: &[&str], log: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kmemleak-report"))
        .args(options)
        .arg("--kernel")
        .arg(kernel)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    // It may have ended already, for lack of a kernel.
    let _ = input.write_all(log.as_bytes());
    drop(input);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(addresses: impl IntoIterator<Item = u64>) -> String {
    let frames = addresses
        .into_iter()
        .map(|address| format!("  backtrace (crc 571ec1ae):\n    {address:#018x}\n"));
    frames.collect()
}

#[test]
fn functions_lines_and_inlined_functions_are_named() {
    let (start, size, _) = extent();
    let output = run(&this(), &[], &report(start + 1..=start + size));
    let named = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let first = format!("    program::probe+0x1/{size:#x} (");
    assert!(
        named
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with(&first)),
        "{named}"
    );
    let inlined = "    program::opened (tests/program.rs:19) [inlined]\n    program::probe+0x";
    assert!(named.contains(inlined), "{named}");
    // A return address at the very end is that of a call that never returns.
    assert!(
        named.contains(&format!("    program::probe+{size:#x}/{size:#x} (")),
        "{named}"
    );
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_kernel_that_was_relocated_is_told_by_its_base() {
    let (start, _, lowest) = extent();
    let slide = 0x1_2000_0000_u64;
    let log = report([start + slide + 1]);
    let base = format!("{:x}", lowest + slide);
    let output = run(&this(), &["--base", &base], &log);
    assert!(text(&output.stdout).contains("    program::probe+0x1/"));
    let output = run(&this(), &[], &log);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), log));
    let why = text(&output.stderr);
    assert!(
        why.contains("1 of 1 addresses lie outside of the code of "),
        "{why}"
    );
    assert!(
        why.contains(&format!("the first is {:#x}", start + slide + 1)),
        "{why}"
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let missing = run(Path::new("/nowhere/kernel"), &[], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("kmemleak-report: /nowhere/kernel: "));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let no_elf = run(&source, &[], "");
    assert_eq!(no_elf.status.code(), Some(1));
    assert!(text(&no_elf.stderr).ends_with("Cargo.toml: not an ELF file\n"));
    let no_log = run(&this(), &["/nowhere/log"], "");
    assert_eq!(no_log.status.code(), Some(1));
    assert!(text(&no_log.stderr).starts_with("kmemleak-report: /nowhere/log: "));
    let wrong = run(&this(), &["--base", "here"], "");
    assert_eq!(wrong.status.code(), Some(2));
    let empty = run(&this(), &[], "boot\n");
    assert_eq!(
        (empty.status.code(), text(&empty.stdout)),
        (Some(0), "boot\n".into())
    );
    assert_eq!(
        text(&empty.stderr),
        "kmemleak-report: no report with call stacks in the log\n"
    );
}

/// A program of a few lines, stripped of this.
fn stripped(of: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join(format!("{of}.rs")), folder.join(of));
    fs::write(
        &source,
        "fn main() { println!(\"{:?}\", std::env::args()); }",
    )
    .expect("a file");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc
        .arg(format!("-Cstrip={of}"))
        .arg("-o")
        .arg(&program)
        .arg(source);
    assert!(rustc.status().expect("rustc runs").success());
    program
}

#[test]
fn without_debug_information_there_are_functions() {
    let program = stripped("debuginfo");
    let data = fs::read(&program).expect("a program");
    let file = object::File::parse(&*data).expect("an ELF file");
    let mut symbols = file.symbols();
    let main = symbols.find(|symbol| {
        symbol
            .name()
            .is_ok_and(|name| name.contains("9debuginfo4main"))
    });
    let main = main.expect("its function");
    let output = run(&program, &[], &report([main.address() + 1]));
    let line = format!("    debuginfo::main+0x1/{:#x}\n", main.size());
    assert!(
        text(&output.stdout).ends_with(&line),
        "{}",
        text(&output.stdout)
    );
    assert!(
        text(&output.stderr)
            .ends_with("no debug information, so functions are shown without files and lines\n")
    );
}

#[test]
fn without_any_names_it_refuses() {
    let output = run(&stripped("symbols"), &[], "");
    assert_eq!(output.status.code(), Some(1));
    let why =
        "symbols: no symbols and no debug information: expected a kernel that was not stripped\n";
    assert!(
        text(&output.stderr).ends_with(why),
        "{}",
        text(&output.stderr)
    );
}

/// What allocates: a box, and the buffer of a vector.
const TYPED: &str = "
pub struct Route([u64; 5]);
#[inline(never)]
#[unsafe(no_mangle)]
pub fn boxed(at: u64) -> Box<Route> { Box::new(Route([at; 5])) }
#[inline(never)]
#[unsafe(no_mangle)]
pub fn filled(at: usize) -> Vec<(u8, Route)> { Vec::with_capacity(at) }
fn main() {
    let at = std::env::args().count();
    println!(\"{} {}\", boxed(at as u64).0[4], filled(at).capacity());
}
";

/// Each address of `boxed` and of `filled` as a call stack of its own, named, and what is left of a program that was built so.
fn typed(name: &str, source: &str, options: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (folder.join(format!("{name}.rs")), folder.join(name));
    fs::write(&file, source).expect("a file");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc
        .args([
            "--edition=2024",
            "--crate-name=typed",
            "-O",
            "-Cdebuginfo=1",
            "-Ccodegen-units=1",
        ])
        .args(options)
        .arg("-o")
        .arg(&program)
        .arg(file);
    assert!(rustc.status().expect("rustc runs").success());
    let data = fs::read(&program).expect("a program");
    let file = object::File::parse(&*data).expect("an ELF file");
    let functions = file
        .symbols()
        .filter(|symbol| matches!(symbol.name(), Ok("boxed" | "filled")));
    let addresses = functions
        .flat_map(|function| function.address() + 1..=function.address() + function.size());
    text(&run(&program, &[], &report(addresses)).stdout)
}

#[test]
fn types_are_told_by_the_functions_that_were_inlined() {
    for (name, options) in [
        ("typed-default", &[][..]),
        ("typed-v0", &["-Csymbol-mangling-version=v0"]),
        (
            "typed-zlib",
            &["-Clink-arg=-Wl,--compress-debug-sections=zlib"],
        ),
    ] {
        let named = typed(name, TYPED, options);
        let types: BTreeSet<_> = named
            .lines()
            .filter(|line| line.starts_with("  type "))
            .collect();
        let expected = BTreeSet::from(["  type [(u8, typed::Route)]", "  type typed::Route"]);
        assert_eq!(types, expected, "{name}: {named}");
    }
}

#[test]
fn functions_that_share_their_code_tell_no_type() {
    let alias = "std::arch::global_asm!(\".type other, @function\", \".set other, boxed\");";
    let named = typed("typed-shared", &format!("{TYPED}{alias}"), &[]);
    assert!(named.contains("  type [(u8, typed::Route)]\n"), "{named}");
    assert!(!named.contains("  type typed::Route\n"), "{named}");
}

/// What blocks of this test have.
mod blocks {
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Default)]
    pub struct Pair {
        pub _first: u64,
        pub second: Option<Rc<Partner>>,
    }

    #[derive(Default)]
    pub struct Partner {
        pub count: u64,
        pub other: RefCell<Option<Rc<Self>>>,
        pub pairs: [Pair; 3],
        pub both: (u64, u64),
    }
}

/// Fields are found in the debug information, and named from the block's own structure on.
#[test]
fn fields_are_named() {
    use core::mem::offset_of;

    use blocks::{Pair, Partner};
    let whole = std::hint::black_box(std::rc::Rc::new(Partner::default()));
    assert!(whole.other.borrow().is_none());
    // Behind the two counts of an `Rc`.
    let counted = 16;
    let other = offset_of!(Partner, other);
    let other = other + whole.other.as_ptr().addr() - (&raw const whole.other).addr();
    let second = offset_of!(Pair, second);
    let of_third = offset_of!(Partner, pairs) + 2 * size_of::<Pair>() + second;
    let of_tuple = offset_of!(Partner, both) + offset_of!((u64, u64), 1);
    let (partner, pair) = (size_of::<Partner>(), size_of::<Pair>());
    let none = "";
    let line = |(block_type, size, offset, field): &(&str, usize, usize, &str)| {
        let block_type = block_type.replace("blocks", "program::blocks");
        let field = match *field {
            "" => String::new(),
            field => format!(",\"field\":\"{field}\""),
        };
        format!(
            "{{\"schema\":2,\"kind\":\"step\",\"object_size\":{size},\"offset\":{offset},\"type\":\"{block_type}\",\"backtrace\":[]{field}}}\n"
        )
    };
    let words = [
        ("Rc<blocks::Partner>", partner + counted, 0, none),
        (
            "Rc<blocks::Partner>",
            partner + counted,
            counted + offset_of!(Partner, count),
            "Partner.count",
        ),
        (
            "Rc<blocks::Partner>",
            partner + counted,
            counted + other,
            "Partner.other",
        ),
        (
            "Rc<Partner>",
            partner + counted,
            counted + other,
            "Partner.other",
        ),
        ("Rc<Partner>", partner, counted + other, none),
        ("Box<blocks::Partner>", partner, other, "Partner.other"),
        ("blocks::Partner", partner, other, "Partner.other"),
        (
            "Box<blocks::Partner>",
            partner,
            of_third,
            "Partner.pairs[2].second",
        ),
        ("Box<blocks::Partner>", partner, of_tuple, "Partner.both.1"),
        (
            "Vec<blocks::Pair>",
            4 * pair,
            3 * pair + second,
            "Pair.second",
        ),
        ("Vec<blocks::Pair>", 4 * pair + 8, second, none),
        (
            "Box<[blocks::Pair]>",
            2 * pair,
            pair + second,
            "Pair.second",
        ),
        ("Box<blocks::None>", 8, 0, none),
        ("Box<u64>", 8, 0, none),
    ];
    let log: String = words
        .iter()
        .map(|&(block_type, size, offset, _)| line(&(block_type, size, offset, none)))
        .collect();
    let named: String = words.iter().map(line).collect();
    let output = run(&this(), &[], &log);
    assert_eq!(text(&output.stdout), named);
}
